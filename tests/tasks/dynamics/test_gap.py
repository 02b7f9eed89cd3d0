"""Rank correlation within strata, against scipy and against a confounder."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from weightzoo.tasks.dynamics.gap import Strata, make_strata, rank_scores, stratified_tau


def test_tau_of_one_stratum_is_that_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    values, target = rng.integers(0, 6, 60).astype(float), rng.integers(0, 9, 60).astype(float)
    found = stratified_tau(values, target, np.zeros(60, int))
    assert found == pytest.approx(kendalltau(values, target).statistic)


def test_a_confounded_measure_has_no_correlation_within_strata() -> None:
    """Measure and target both follow the group, and nothing else."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(4), 100)
    measures = {
        "confounded": groups * 10 + rng.random(400),
        "real": groups * 10 + np.tile(np.arange(100.0), 4) / 1000,
    }
    target = groups * 5 + np.tile(np.arange(100.0), 4) / 1000
    confounded, real = rank_scores(measures, target, Strata(("group",), groups), 200)
    assert confounded.tau > 0.7 and abs(confounded.within) < 0.1
    assert confounded.within_interval[0] < 0 < confounded.within_interval[1]
    assert real.within == pytest.approx(1) and real.signs == 1 and real.strata == 4


def test_an_interval_covers_the_correlation_of_a_known_population() -> None:
    """Independent values have tau 0; 20 draws of 95 % intervals miss it rarely."""
    covered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values, target = rng.random(80), rng.random(80)
        (score,) = rank_scores({"x": values}, target, Strata((), np.zeros(80, int)), 300)
        covered += score.tau_interval[0] <= 0 <= score.tau_interval[1]
    assert covered >= 17


def test_unknown_values_are_left_out() -> None:
    values, target = np.array([1.0, np.nan, 2.0, 3.0]), np.array([1.0, 9.0, 2.0, 3.0])
    measures = {"x": values, "nothing": np.full(4, np.nan), "constant": np.ones(4)}
    (score,) = rank_scores(measures, target, Strata((), np.zeros(4, int)), 20)
    assert (score.name, score.models, score.tau) == ("x", 3, 1)


def test_strata_are_of_what_explains_the_target_until_they_get_small() -> None:
    rng = np.random.default_rng(0)
    strong, weak = rng.integers(0, 3, 300), rng.integers(0, 2, 300)
    columns = {
        "weak": weak,
        "strong": strong,
        "constant": np.zeros(300),
        "rate": rng.random(300),
        "name": np.array([f"model {number}" for number in range(300)], object),
    }
    strata = make_strata(columns, 10 * strong + weak + rng.random(300))
    assert strata.names[:2] == ("strong", "weak") and "constant" not in strata.names
    assert "name" not in strata.names and len(strong) / strata.count >= 8
    for group in range(strata.count):
        assert len(np.unique(strong[strata.groups == group])) == 1
