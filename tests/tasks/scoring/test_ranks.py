"""Measures of rankings: both weighted taus, regret, intervals, and published tables."""

import itertools
import json

import numpy as np
import published_tables as tables
import pytest
from published_tables import needs_tables
from scipy.stats import weightedtau

from weightzoo.tasks.ranking.aggregation import standardised
from weightzoo.tasks.scoring import ranks
from weightzoo.tasks.transferability import class_scores
from weightzoo.tasks.transferability.task_features import TaskFeatures

SPIDER = {  # weighted tau as printed in Model Spider's README (MIT, Yi-Kai Zhang), commit d2a53e4
    "H-Score": (0.328, 0.738, 0.616, 0.797, 0.784, 0.395, 0.610, 0.918),
    "NCE": (0.501, 0.752, 0.771, 0.694, 0.617, 0.403, 0.696, 0.892),
    "LEEP": (0.244, 0.014, 0.704, 0.601, 0.620, -0.111, 0.680, 0.509),
    "NLEEP": (-0.725, 0.599, 0.622, 0.768, 0.776, 0.074, 0.787, 0.730),
    "LogME": (0.540, 0.666, 0.677, 0.802, 0.798, 0.429, 0.628, 0.870),
    "PACTranDirichlet": (0.031, 0.200, 0.665, 0.717, 0.620, -0.236, 0.616, 0.565),
    "OTCE": (-0.241, -0.011, -0.157, 0.569, 0.573, -0.165, 0.402, 0.218),
    "LFC": (0.279, -0.165, 0.243, 0.346, 0.418, -0.722, 0.215, -0.344),
    "GBC": (-0.744, -0.055, -0.265, 0.758, 0.544, -0.102, 0.163, 0.457),
}
SPIDER_TARGETS = ("Aircraft", "Caltech101", "Cars", "CIFAR10", "CIFAR100", "DTD", "Pet", "SUN397")


def spider_cells(digits: int | None) -> set[tuple[str, str]]:
    """Cells of the printed table that the scores, rounded or raw, give to three digits."""
    models, targets, accuracies = tables.matrix("ft_model_spider_single10.csv")
    by_target: dict[str, list[dict[str, str]]] = {}
    for row in tables.rows("model_spider_baseline_scores.csv"):
        by_target.setdefault(row["Dataset"].rstrip("s").lower(), []).append(row)
    equal = set()
    for score, printed in SPIDER.items():
        for target, value in zip(SPIDER_TARGETS, printed, strict=True):
            rows = by_target[target.rstrip("s").lower()]
            assert [row["Model"] for row in rows] == models
            scores = np.array([float(row[score]) for row in rows])
            scores = scores if digits is None else scores.round(digits)
            tau = ranks.weighted_tau(accuracies[:, targets.index(target)], scores)
            if round(tau, 3) == value:
                equal.add((score, target))
    return equal


@needs_tables
def test_weighted_tau_reproduces_the_published_table() -> None:
    raw = spider_cells(None)
    assert len(raw) == 69
    assert spider_cells(3) - raw == {("LEEP", "Aircraft"), ("LogME", "Aircraft")}


@needs_tables
def test_pearson_reproduces_the_published_selection_of_language_models() -> None:
    printed = {
        "flan": (0.609, -0.107, 0.209),
        "wmt19": (0.935, 0.071, -0.360),
        "gigaword": (0.932, -0.492, 0.245),
    }
    for name, wanted in printed.items():
        rows = tables.rows(f"llm_finetune_{name}.csv")
        final = -np.array([float(row["1638400"]) for row in rows])
        guesses = [-np.array([float(row[key]) for row in rows]) for key in ("204800", "0")]
        guesses.append(np.array([np.log(float(row["size"])) for row in rows]))
        found = [round(ranks.pearson(final, guess), 3) for guess in guesses]
        assert found == list(wanted), name


@needs_tables
def test_pick_of_model_soups_by_held_out_accuracy() -> None:
    lines = (tables.path("model_soups_individual.jsonl")).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    held_out = np.array([row["ImageNet2p"] for row in rows])
    imagenet = np.array([row["ImageNet"] for row in rows])
    assert rows[int(held_out.argmax())]["model_name"] == "model_43"
    assert round(imagenet[held_out.argmax()] * 100, 2) == 80.39
    taus = {
        name: ranks.tau_b(np.array([row[name] for row in rows]), held_out)
        for name in ("ImageNet", "ObjectNet", "ImageNetA", "ImageNetR")
    }
    assert {name: round(tau, 3) for name, tau in taus.items()} == {
        "ImageNet": 0.898,
        "ObjectNet": 0.077,
        "ImageNetA": -0.033,
        "ImageNetR": -0.147,
    }


def naive_weighted_tau(truth: np.ndarray, scores: np.ndarray) -> float:
    """The definition, pair by pair, ranks by decreasing truth."""
    rank = np.empty(len(truth), int)
    rank[np.lexsort((-scores, -truth))] = np.arange(len(truth))
    sums = np.zeros(3)
    for a, b in itertools.combinations(range(len(truth)), 2):
        weight = 1 / (1 + rank[a]) + 1 / (1 + rank[b])
        x, y = np.sign(truth[a] - truth[b]), np.sign(scores[a] - scores[b])
        sums += weight * np.array([x * y, x * x, y * y])
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def test_weighted_tau_is_the_definition_and_its_conventions_differ() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.normal(size=12), rng.integers(0, 5, 12).astype(float)
    one, both = (ranks.weighted_tau(truth, scores, name) for name in ranks.CONVENTIONS)
    assert one == pytest.approx(naive_weighted_tau(truth, scores), abs=1e-12)
    assert both == pytest.approx(ranks.weighted_tau(scores, truth, "both"), abs=1e-12)
    assert abs(one - both) > 0.01
    with pytest.raises(ValueError, match="convention must be one of"):
        ranks.weighted_tau(truth, scores, "scipy")


def test_weighted_tau_equals_that_of_scipy() -> None:
    rng = np.random.default_rng(4)
    for size in (2, 5, 30):
        for truth in (rng.normal(size=size), rng.integers(0, 4, size).astype(float)):
            scores = np.r_[rng.integers(0, 6, size - 1), 9.0]
            if np.ptp(truth) == 0:
                continue
            for convention, rank in zip(ranks.CONVENTIONS, (None, True), strict=True):
                wanted = weightedtau(truth, scores, rank=rank).statistic
                found = ranks.weighted_tau(truth, scores, convention)
                assert found == pytest.approx(wanted, abs=1e-12)


def test_constant_score_counts_as_no_information() -> None:
    found = ranks.agreement(np.array([0.1, 0.5, 0.3]), np.zeros(3))
    assert found.constant and found.tau_w == found.tau_b == found.pearson == 0
    assert found.regret_1 == pytest.approx(0.5 - 0.3)  # a random pick, not the first model


def test_score_that_differs_by_rounding_alone_counts_as_no_information() -> None:
    labels = np.arange(40) % 4
    tasks = [
        TaskFeatures(np.random.default_rng(seed).normal(size=(40, 90)), labels) for seed in range(6)
    ]
    scores = np.array([class_scores.h_score(task) for task in tasks])  # more features than images
    assert 0 < np.ptp(scores) < 1e-12
    found = ranks.agreement(np.linspace(0, 1, 6), scores)
    assert found.constant and found.tau_w == found.tau_b == found.pearson == 0
    assert not standardised(scores).any() and not ranks.is_constant(np.array([1.0, 1 + 1e-6]))


def test_regret_with_ties_is_the_mean_over_their_orders() -> None:
    rng = np.random.default_rng(1)
    truth, scores = rng.normal(size=6), np.array([2.0, 1, 1, 1, 3, 0])
    for k in (1, 2, 3, 4, 5, 9):
        values = []
        for order in itertools.permutations(range(6)):
            first = sorted(order, key=lambda model: -scores[model])[:k]  # sorted is stable
            values.append(truth.max() - truth[first].max())
        assert ranks.regret(truth, scores, k) == pytest.approx(np.mean(values), abs=1e-12)


def test_difference_interval_covers_and_widens_with_comparisons() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    one = ranks.difference(first, second)
    many = ranks.difference(first, second, comparisons=20)
    half = 1.96 * (first - second).std() / np.sqrt(40)
    assert one.high - one.low == pytest.approx(2 * half, rel=0.05)
    assert many.low < one.low < one.mean < one.high < many.high


def test_difference_over_families_draws_whole_families() -> None:
    gaps = np.repeat([1.0, -1.0, 0.5], 10)
    alone = ranks.difference(gaps, np.zeros(30))
    families = ranks.difference(gaps, np.zeros(30), families=np.repeat(["a", "b", "c"], 10))
    assert families.high - families.low > 2 * (alone.high - alone.low)


def test_seed_ceiling_skips_what_was_not_run() -> None:
    truth = np.tile(np.arange(5.0)[:, None, None], (1, 2, 2))
    truth[:, 1, 1] = truth[::-1, 1, 0]
    assert ranks.seed_ceiling(truth) == pytest.approx(0)  # one target repeats, one is reversed
    truth[2:, 1, 1] = np.nan
    assert ranks.seed_ceiling(truth[:, 1:]) == pytest.approx(-1)
    assert np.isnan(ranks.seed_ceiling(truth[:, :, :1]))


def test_picks_counts_different_first_places() -> None:
    assert ranks.picks([np.array([1, 2, 3]), np.array([0, 1, 5]), np.array([9, 1, 5])]) == 2


def test_ranks_refuse_missing_values() -> None:
    with pytest.raises(ValueError, match="1 of 3 values of truth are not finite"):
        ranks.agreement(np.array([0.1, np.nan, 0.3]), np.arange(3.0))
