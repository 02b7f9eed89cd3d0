"""Scores against their definitions, written out without shortcuts."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from weightzoo.tasks.transferability import class_scores, fisher_scores, head_scores
from weightzoo.tasks.transferability.scores import SCORES, score_entry, score_models
from weightzoo.tasks.transferability.task_features import TaskFeatures, softmax
from weightzoo.zoos.errors import UnsuitableError


def made(
    images: int = 90, width: int = 7, gap: float = 1.0, seed: int = 0, classes: int = 3
) -> TaskFeatures:
    """Classes whose means lie `gap` deviations apart in random directions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    means = rng.normal(size=(classes, width)) * gap
    features = means[labels] + rng.normal(size=(images, width)) * rng.uniform(0.5, 2, width)
    logits = rng.normal(size=(images, 4))
    logits[:, :classes] += gap * np.eye(classes)[labels]
    return TaskFeatures(features, labels, logits)


TASK = made()
F, Y = TASK.features, TASK.labels


def test_h_scores_are_the_traces_of_their_definitions() -> None:
    means = np.stack([F[Y == c].mean(axis=0) for c in range(3)])[Y]
    wanted = np.trace(np.linalg.pinv(np.cov(F.T)) @ np.cov(means.T))
    assert class_scores.h_score(TASK) == pytest.approx(wanted, rel=1e-9)
    shrunk = LedoitWolf().fit(F)
    wanted = np.trace(np.linalg.pinv(shrunk.covariance_) @ np.cov(means.T)) * (
        1 - shrunk.shrinkage_
    )
    assert class_scores.regularised_h_score(TASK) == pytest.approx(wanted, rel=1e-9)


def test_h_score_ignores_linear_maps_and_saturates_without_images() -> None:
    turned = TASK.with_features(F @ np.random.default_rng(1).normal(size=(7, 7)) + 3)
    assert class_scores.h_score(turned) == pytest.approx(class_scores.h_score(TASK), rel=1e-9)
    assert class_scores.h_score(made(20, 50)) == pytest.approx(2)


def test_leep_and_nce_count_as_their_definitions_do() -> None:
    probabilities = softmax(TASK.logits)
    joint = np.zeros((3, 4))
    counted = np.zeros((3, 4))
    for row, label in zip(probabilities, Y, strict=True):
        joint[label] += row / len(Y)
        counted[label, row.argmax()] += 1 / len(Y)
    conditional = joint / joint.sum(axis=0)
    wanted = np.mean(
        [np.log(row @ conditional[y]) for row, y in zip(probabilities, Y, strict=True)]
    )
    assert head_scores.leep(TASK) == pytest.approx(wanted, rel=1e-12)
    entropy = 0.0
    for z in range(4):
        entropy += sum(p * np.log(p / counted[:, z].sum()) for p in counted[:, z] if p > 0)
    assert head_scores.nce(TASK) == pytest.approx(entropy, rel=1e-12)


def test_mixture_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_scores, "MOST_BYTES", 10_000)
    wide = made(images=90, width=60)
    with pytest.raises(UnsuitableError, match="9 components on .*give fewer images, or another"):
        head_scores.n_leep(wide)
    assert np.isfinite(head_scores.n_leep(TASK))


def test_gbc_is_the_sum_of_overlaps() -> None:
    for kind in ("diagonal", "spherical"):
        total = 0.0
        for a in range(3):
            for b in range(3):
                first, second = F[Y == a], F[Y == b]
                reduced = class_scores.principal_components(F, 64)
                first, second = reduced[Y == a], reduced[Y == b]
                u, v = first.var(axis=0), second.var(axis=0)
                if kind == "spherical":
                    u, v = np.full(7, u.mean()), np.full(7, v.mean())
                gap = first.mean(axis=0) - second.mean(axis=0)
                s = (u + v) / 2
                distance = (gap**2 / s).sum() / 8 + np.log(s.prod() / np.sqrt((u * v).prod())) / 2
                total -= np.exp(-distance) * (a != b)
        assert class_scores.gbc(TASK, kind) == pytest.approx(total, rel=1e-9)


def test_lfc_is_the_correlation_of_two_matrices() -> None:
    same = np.where(Y[:, None] == Y[None], 1.0, -1.0)
    wanted = np.corrcoef((F @ F.T).ravel(), same.ravel())[0, 1]
    assert class_scores.lfc(TASK) == pytest.approx(wanted, rel=1e-9)
    wide = made(20, 50)
    same = np.where(wide.labels[:, None] == wide.labels[None], 1.0, -1.0)
    wanted = np.corrcoef((wide.features @ wide.features.T).ravel(), same.ravel())[0, 1]
    assert class_scores.lfc(wide) == pytest.approx(wanted, rel=1e-9)


def test_transrate_is_the_difference_of_coding_rates() -> None:
    def rate(z: np.ndarray) -> float:
        return np.linalg.slogdet(np.eye(len(z)) + z @ z.T / (len(z) * 1e-4))[1] / 2

    centred = F - F.mean(axis=0)
    within = sum(rate(centred[Y == c]) * (Y == c).mean() for c in range(3))
    assert class_scores.transrate(TASK) == pytest.approx(rate(centred) - within, rel=1e-9)


def test_leave_one_out_accuracies_leave_the_image_out() -> None:
    hits = [0, 0]
    for i in range(len(Y)):
        rest = np.arange(len(Y)) != i
        means = np.stack([F[rest & (Y == c)].mean(axis=0) for c in range(3)])
        hits[0] += ((means - F[i]) ** 2).sum(axis=1).argmin() == Y[i]
        distances = np.where(rest, ((F - F[i]) ** 2).sum(axis=1), np.inf)
        hits[1] += Y[distances.argmin()] == Y[i]
    assert class_scores.nearest_centroid(TASK) == hits[0] / len(Y)
    assert class_scores.nearest_neighbour(TASK) == hits[1] / len(Y)


def test_parc_is_the_rank_correlation_of_distances() -> None:
    reduced = class_scores.principal_components(F, 32)
    reduced = (reduced - reduced.mean(axis=0)) / reduced.std(axis=0)
    pairs = np.triu_indices(len(Y), 1)
    labels = 1 - np.corrcoef(np.eye(3)[Y])[pairs]
    wanted = spearmanr(1 - np.corrcoef(reduced)[pairs], labels.round(9)).statistic
    assert class_scores.parc(TASK) == pytest.approx(wanted, rel=1e-9)


def test_parc_ignores_rotations_and_reflections_of_the_features() -> None:
    for seed in range(5):
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(7, 7)))[0]
        turned = TASK.with_features(F @ turn)
        assert class_scores.parc(turned) == pytest.approx(class_scores.parc(TASK), rel=1e-6)


def test_discriminant_equals_that_of_scikit_learn() -> None:
    for shrinkage in (0.3, 1e-10):
        own = fisher_scores.Discriminant.fit(F, TASK.one_hot, shrinkage)
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(F, Y)
        assert own.probabilities(F) == pytest.approx(theirs.predict_proba(F), abs=1e-8)
    axes = LinearDiscriminantAnalysis(solver="eigen", shrinkage=1e-10).fit(F, Y).transform(F)
    spread = np.linalg.norm(axes - axes.mean(axis=0), "nuc")
    projected = fisher_scores._projected(own, F)
    assert np.linalg.norm(projected, "nuc") == pytest.approx(spread, rel=1e-6)


def test_sfda_follows_its_steps_and_keeps_the_features() -> None:
    before = F.copy()
    small = TASK.with_features(F / 5)  # so that the shrinkage is neither 0 nor 1
    within = np.mean([np.cov((F / 5)[Y == c].T, bias=True) for c in range(3)], axis=0)
    shrinkage = np.exp(-5 * np.linalg.eigvalsh(within)[-1])
    assert 0.01 < shrinkage < 0.99
    first = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(F / 5, Y)
    sure = softmax(first.predict_proba(F / 5))[np.arange(len(Y)), Y][:, None]
    others = np.stack([np.mean([first.means_[k] for k in range(3) if k != c], 0) for c in Y])
    moved = sure * F / 5 + (1 - sure) * others
    second = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(moved, Y)
    wanted = second.predict_proba(moved)[np.arange(len(Y)), Y].mean()
    assert fisher_scores.sfda(small) == pytest.approx(wanted, rel=1e-6)
    assert (F == before).all()


def test_ped_pushes_overlapping_classes_apart_and_leaves_others() -> None:
    def gaps(task: TaskFeatures) -> np.ndarray:
        means = np.stack([task.features[task.labels == c].mean(axis=0) for c in range(3)])
        return np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(3, 1)]

    mixed, apart = made(gap=0.1), made(gap=50)
    moved = fisher_scores.potential_energy_descent(mixed)
    assert (gaps(moved) > gaps(mixed)).all()
    untouched = fisher_scores.potential_energy_descent(apart)
    assert untouched.features == pytest.approx(apart.features)


def test_transductive_scores_join_the_models() -> None:
    parts = np.array([[1.0, 0.2, 3], [2, 0.4, 3], [3, 0.1, 5]])
    assert fisher_scores.ncti(parts) == pytest.approx([1 / 3, 1.5, 0])
    assert fisher_scores.etran(parts[:, :2]) == pytest.approx(
        0.85 * np.array([0, 0.5, 1]) + 0.15 * np.array([1 / 3, 1, 0])
    )


@pytest.mark.parametrize("name", [name for name in SCORES if not SCORES[name].domains])
@pytest.mark.parametrize(("images", "width"), [(120, 6), (45, 80)])
def test_every_score_prefers_features_that_tell_classes_apart(
    name: str, images: int, width: int
) -> None:
    tasks = {str(gap): made(images, width, gap, seed=3) for gap in (0.0, 3.0)}
    poor, good = score_models(name, tasks)
    if images < width and name in ("h-score", "sfda", "ped-sfda"):
        assert good == pytest.approx(poor)  # as their docstrings say
    else:
        assert np.isfinite([poor, good]).all() and good > poor


def test_values_to_regress_are_for_logme_alone() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(50, 4))
    task = TaskFeatures(features, features[:, 0] + 0.1 * rng.normal(size=50))
    noise = TaskFeatures(rng.normal(size=(50, 4)), task.labels)
    good, poor = score_models("logme", {"a": task, "b": noise})
    assert good > poor
    with pytest.raises(UnsuitableError, match="'a'.*takes classes only.*logme"):
        score_models("sfda", {"a": task})


def test_scores_refuse_what_they_cannot_take() -> None:
    with pytest.raises(ValueError, match="score must be one of .*'logme'"):
        score_entry("log-me")
    with pytest.raises(UnsuitableError, match="model 'm'.*reads the logits"):
        score_models("leep", {"m": TaskFeatures(F, Y)})


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.where(F > 1, np.nan, F), Y, "are not finite"),
        (np.ones_like(F), Y, "equal for all images"),
        (F, np.r_[9, Y[1:]], "classes .9. have one image only"),
        (F, np.zeros_like(Y), "at least 2 classes"),
        (F, Y - 1, "whole numbers from 0, got -1"),
        (F, Y[1:], "one row per image"),
    ],
)
def test_task_features_refuse_bad_input(
    features: np.ndarray, labels: np.ndarray, message: str
) -> None:
    with pytest.raises(UnsuitableError, match=message):
        TaskFeatures(features, labels)
