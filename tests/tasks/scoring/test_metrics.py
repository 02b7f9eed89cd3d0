import itertools

import numpy as np
import pytest

from weightzoo.tasks.scoring.metrics import kendall_tau, mae, r2, score, tau_ceiling, tau_share

TIED = np.random.default_rng(0).integers(0, 5, 40).astype(float)


def brute_force_tau(true: np.ndarray, predicted: np.ndarray) -> float:
    agreement = untied_true = untied_predicted = 0.0
    for i, j in itertools.combinations(range(len(true)), 2):
        first, second = np.sign(true[i] - true[j]), np.sign(predicted[i] - predicted[j])
        agreement += first * second
        untied_true += abs(first)
        untied_predicted += abs(second)
    return agreement / np.sqrt(untied_true * untied_predicted)


def test_kendall_tau_is_tau_b_with_ties_on_both_sides() -> None:
    predicted = np.random.default_rng(1).integers(0, 7, 40).astype(float) + TIED
    assert kendall_tau(TIED, predicted) == pytest.approx(brute_force_tau(TIED, predicted))
    assert kendall_tau(TIED, -TIED) == pytest.approx(-1)


def test_repeating_the_truth_with_its_ties_exceeds_the_ceiling() -> None:
    assert kendall_tau(TIED, TIED) == pytest.approx(1)
    assert tau_share(1.0, tau_ceiling(TIED)) > 1.05
    assert np.isnan(tau_share(float("nan"), tau_ceiling(np.zeros(5))))


def test_tau_ceiling_is_reached_by_a_perfect_ranker_without_ties() -> None:
    perfect = TIED + np.linspace(0, 0.5, len(TIED))
    assert tau_ceiling(TIED) == pytest.approx(brute_force_tau(TIED, perfect))
    assert 0.8 < tau_ceiling(TIED) < 0.95
    assert tau_ceiling(np.arange(5)) == 1
    assert tau_ceiling(np.zeros(5)) == 0


def test_r2_and_mae_of_known_values() -> None:
    true, predicted = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 3.0])
    assert r2(true, predicted) == pytest.approx(0.5)
    assert r2(true, np.ones(3)) == 0
    assert mae(true, predicted) == pytest.approx(1 / 3)


def test_constants_have_no_tau_and_a_constant_target_no_r2() -> None:
    constant = np.full(40, 0.1)
    assert np.isnan(kendall_tau(TIED, constant)) and np.isnan(kendall_tau(constant, TIED))
    assert np.isnan(r2(constant, TIED))
    scores = score(TIED, constant)
    assert np.isnan(scores.tau_b) and np.isfinite([scores.r2, scores.mae]).all()


@pytest.mark.parametrize("metric", [kendall_tau, r2, mae])
def test_metrics_reject_what_is_not_finite_or_does_not_match(metric: object) -> None:
    bad = TIED.copy()
    bad[3] = np.nan
    with pytest.raises(ValueError, match="1 of 40 prediction values are not finite"):
        metric(TIED, bad)  # type: ignore[operator]
    with pytest.raises(ValueError, match="1 of 40 target values are not finite"):
        metric(bad, TIED)  # type: ignore[operator]
    with pytest.raises(ValueError, match="equal N"):
        metric(TIED, TIED[:-1])  # type: ignore[operator]
