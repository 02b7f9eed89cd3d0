"""Log evidence against densities of the multivariate normal, also for more features than images."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from weightzoo.tasks.transferability.evidence import (
    LIMIT,
    Precisions,
    fit_precisions,
    log_evidence,
    predictive_evidence,
)


def problem(images: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels (one-vs-rest of three classes) with some relation."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, width)) * rng.uniform(0.2, 3, width)
    names = (features[:, 0] > 0).astype(int) + (features[:, 1] > 1)
    return features, np.eye(3)[names]


def density(features: np.ndarray, target: np.ndarray, a: float, b: float) -> float:
    """Log N(target; 0, F F^T / a + I / b), without any shortcut."""
    covariance = features @ features.T / a + np.eye(len(features)) / b
    return float(multivariate_normal(np.zeros(len(target)), covariance).logpdf(target))


@pytest.mark.parametrize(("images", "width"), [(60, 8), (40, 40), (40, 100)])
def test_evidence_is_the_gaussian_density(images: int, width: int) -> None:
    features, targets = problem(images, width)
    found = fit_precisions(features, targets)
    for column in range(3):
        a, b = found.a[column], found.b[column]
        wanted = density(features, targets[:, column], a, b)
        assert found.evidence[column] == pytest.approx(wanted, abs=1e-9 * max(1, abs(wanted)))
    assert log_evidence(features, targets, found.a, found.b) == pytest.approx(found.evidence)


@pytest.mark.parametrize(("images", "width"), [(60, 8), (40, 100)])
def test_no_other_precisions_have_more_evidence(images: int, width: int) -> None:
    features, targets = problem(images, width)
    found = fit_precisions(features, targets)
    inside = found.a < LIMIT  # a class that features do not follow has no finite maximum
    assert inside.sum() >= 2
    for factor in (0.8, 1.25):
        for a, b in ((found.a * factor, found.b), (found.a, found.b * factor)):
            assert (log_evidence(features, targets, a, b) < found.evidence)[inside].all()


@pytest.mark.parametrize(("images", "width"), [(50, 6), (20, 45)])
def test_predictive_evidence_is_the_conditional_density(images: int, width: int) -> None:
    features, targets = problem(images + 15, width)
    seen, new = slice(0, images), slice(images, None)
    fitted = fit_precisions(features[seen], targets[seen])
    found = predictive_evidence(features[seen], targets[seen], features[new], targets[new], fitted)
    for column, value in enumerate(found):
        a, b = fitted.a[column], fitted.b[column]
        precision = a * np.eye(width) + b * features[seen].T @ features[seen]
        mean = b * np.linalg.solve(precision, features[seen].T @ targets[seen, column])
        spread = features[new] @ np.linalg.solve(precision, features[new].T)
        normal = multivariate_normal(features[new] @ mean, np.eye(15) / b + spread)
        assert value == pytest.approx(normal.logpdf(targets[new, column]), abs=1e-9)


def test_predictive_evidence_obeys_the_chain_rule() -> None:
    features, targets = problem(45, 7)
    one = Precisions(np.full(3, 0.7), np.full(3, 2.0), np.zeros(3))
    whole = log_evidence(features, targets, one.a, one.b)
    steps = log_evidence(features[:5], targets[:5], one.a, one.b)
    for end in range(5, 45, 8):
        old, new = slice(0, end), slice(end, end + 8)
        steps += predictive_evidence(features[old], targets[old], features[new], targets[new], one)
    assert steps == pytest.approx(whole, abs=1e-9)


def test_evidence_of_dependent_features_stays_finite() -> None:
    features, targets = problem(40, 6)
    features = np.concatenate([features, features[:, :3], np.zeros((40, 2))], axis=1)
    found = fit_precisions(features, targets)
    wanted = [density(features, targets[:, c], found.a[c], found.b[c]) for c in range(3)]
    assert found.evidence == pytest.approx(wanted, abs=1e-8)


def test_labels_that_features_determine_keep_finite_precisions() -> None:
    features, _ = problem(40, 6)
    found = fit_precisions(features, features @ np.ones((6, 2)))
    assert np.isfinite(found.evidence).all() and (found.b > 1e6).all()
