"""ZooD's two terms, its feature selection and its ensembles."""

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from weightzoo.tasks.ranking.ensemble import fit_ensemble
from weightzoo.tasks.ranking.feature_selection import (
    SPIKE,
    prescreen,
    select_features,
    variational_steps,
)
from weightzoo.tasks.transferability.task_features import TaskFeatures
from weightzoo.tasks.transferability.zood import (
    NORMALISATIONS,
    domain_terms,
    gaussian_log_density,
    zood,
)
from weightzoo.zoos.errors import UnsuitableError


def made(gap: float = 1.0, shift: float = 0.0, width: int = 5, seed: int = 0) -> TaskFeatures:
    """Three classes in three domains; `shift` moves the last domain."""
    rng = np.random.default_rng(seed)
    labels, domains = np.arange(150) % 3, np.arange(150) // 50
    features = rng.normal(size=(150, width)) + gap * rng.normal(size=(3, width))[labels]
    features[domains == 2] += shift
    return TaskFeatures(features, labels, domains=domains)


def test_gaussian_density_is_that_of_the_fitted_normal() -> None:
    features, new = made().features[:100], made(seed=1).features[:20]
    normal = multivariate_normal(features.mean(axis=0), np.cov(features.T, bias=True))
    assert gaussian_log_density(features, new) == pytest.approx(normal.logpdf(new), rel=1e-4)


def test_stability_moves_by_the_scaling_law_and_whitened_does_not() -> None:
    task = made(shift=0.5)
    terms, scaled = domain_terms(task), domain_terms(task.with_features(task.features * 3))
    moved = terms.images * terms.width * np.log(3)
    assert scaled.stability == pytest.approx(terms.stability - moved, abs=1e-8)
    assert scaled.whitened == pytest.approx(terms.whitened, abs=1e-10)
    assert scaled.discriminability == pytest.approx(terms.discriminability, abs=1e-5)
    turn = np.random.default_rng(3).normal(size=(5, 5))
    turned = domain_terms(task.with_features(task.features @ turn + 2))
    assert turned.whitened == pytest.approx(terms.whitened, abs=1e-3)


def test_terms_tell_separable_and_shifted_features_apart() -> None:
    plain, separable, shifted = (domain_terms(made(*a)) for a in ((0.0,), (3.0,), (0.0, 3.0)))
    assert separable.per_image[0] > plain.per_image[0] + 0.2
    assert shifted.whitened < plain.whitened - 1


def test_features_that_are_dead_on_all_domains_but_one_keep_finite_terms() -> None:
    task = made()
    dead = np.where((task.domains == 1)[:, None], task.features, 0)
    terms = domain_terms(task.with_features(dead))
    assert np.isfinite([terms.discriminability, terms.stability, terms.own]).all()
    assert terms.stability[1] < terms.stability[0]  # the live domain is a surprise


def test_normalisations_join_the_terms_as_named() -> None:
    terms = [domain_terms(made(gap, shift)) for gap, shift in ((0, 0), (1, 2), (3, 1))]
    found = {name: zood(terms, name) for name in NORMALISATIONS}
    one = terms[1]
    assert found["none"][1] == pytest.approx((one.discriminability + one.stability).mean())
    assert found["per_sample"][1] == pytest.approx(sum(one.per_image))
    assert found["per_sample_per_dim"][1] == pytest.approx(one.per_image[0] + one.per_image[1] / 5)
    assert found["whitened"][1] == pytest.approx(one.per_image[0] + one.whitened)
    ranks = sum(np.argsort(np.argsort([t.per_image[i] for t in terms])) + 1 for i in (0, 1))
    assert found["rank_sum"].tolist() == list(ranks)
    with pytest.raises(ValueError, match="normalise must be one of"):
        zood(terms, "sum")


def test_zood_says_that_it_needs_two_domains() -> None:
    task = made()
    one = TaskFeatures(task.features, task.labels, domains=np.zeros(150, int))
    for short in (one, TaskFeatures(task.features, task.labels)):
        with pytest.raises(UnsuitableError, match="needs at least 2, got 1.*'logme'"):
            domain_terms(short)


def planted(images: int, width: int, true: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, width))
    weights = np.zeros(width)
    weights[:true] = rng.choice([-1, 1], true) * rng.uniform(0.5, 1.5, true)
    return features, (features @ weights + 0.5 * rng.normal(size=images))[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_selection_recovers_planted_features(seed: int) -> None:
    features, targets = planted(300, 120, 10, seed)
    found = select_features(features, targets)
    assert found.chosen.nonzero()[0].tolist() == list(range(10))


def test_bound_rises_once_the_spike_is_fixed() -> None:
    features, targets = planted(120, 40, 5, 0)
    features, target = features / features.std(axis=0), targets[:, 0] / targets.std()
    steps = [step for step in variational_steps(features, target, 0.2) if step.spike == SPIKE]
    assert len(steps) > 2
    for before, after in itertools.pairwise(steps):
        assert after.bound >= before.bound - 1e-9


def test_selection_aggregates_columns_and_refuses_too_few_images() -> None:
    features, targets = planted(300, 30, 3, 1)
    both = np.concatenate([targets, features[:, 9:10] + 0.1 * targets], axis=1)
    union = select_features(features, both).chosen
    assert union[[0, 1, 2, 9]].all() and union.sum() == 4
    assert select_features(features, both, aggregate="mean", threshold=0.9).chosen.sum() <= 3
    with pytest.raises(UnsuitableError, match="30 images of 30 features"):
        select_features(features[:30], targets[:30])
    with pytest.raises(ValueError, match="aggregate must be one of"):
        select_features(features, targets, aggregate="max")
    assert set(range(3)) <= set(prescreen(features, targets, 10))


def test_ensemble_of_complementary_models_beats_either() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    halves = [labels % 2, labels // 2]  # each model tells two pairs of classes apart
    models = [
        TaskFeatures(np.c_[half[:, None] * 3.0, np.zeros(400)] + rng.normal(size=(400, 2)), labels)
        for half in halves
    ]
    parts = [slice(0, 200), slice(200, 300), slice(300, 400)]
    train, val, test = ([model.rows(part) for model in models] for part in parts)
    for select in (True, False):
        both = fit_ensemble(train, val, select=select)
        joint = both.accuracy(np.c_[test[0].features, test[1].features], test[0].labels)
        alone = fit_ensemble(train[:1], val[:1], select=select)
        assert joint > alone.accuracy(test[0].features, test[0].labels) + 0.2
    assert fit_ensemble(train, val).chosen.tolist() == [0, 2]
    with pytest.raises(UnsuitableError, match="labels differ"):
        fit_ensemble([train[0], train[1].rows(np.arange(199, -1, -1))], val)
