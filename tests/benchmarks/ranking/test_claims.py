"""Named comparisons, and the leaderboard's section of a benchmark of rankers."""

import json
from pathlib import Path

import numpy as np
import pytest

from weightzoo.benchmarks.leaderboard import leaderboard_text
from weightzoo.benchmarks.ranking.benchmark import benchmark_matrix
from weightzoo.benchmarks.ranking.claims import CLAIMS, Claim, claims_text, compare
from weightzoo.benchmarks.ranking.leaderboard_section import leaderboard_section
from weightzoo.tasks.ranking.matrix import Matrix, write_matrix
from weightzoo.zoos.errors import ZooError

FAMILIES = list("aabbccdd")


def test_comparisons_are_corrected_for_the_pairs_that_were_made() -> None:
    rng = np.random.default_rng(0)
    base, better = rng.uniform(size=8), rng.uniform(size=8) + 2
    values = {("target", "x"): better, ("target", "y"): base, ("family", "x"): better}
    claims = compare([("x", "y"), ("x", "absent")], values, FAMILIES)
    assert len(claims) == 1 and claims[0].difference.comparisons == 1
    assert claims[0].verdict == "higher" and claims[0].under == "target"
    (reverse,) = compare([("y", "x")], values, FAMILIES)
    assert reverse.verdict == "lower"
    values["family", "y"] = better + rng.normal(size=8)
    both: list[Claim] = compare([("x", "y")], values, FAMILIES)
    assert [one.difference.comparisons for one in both] == [2, 2]
    assert both[1].verdict == "no difference shown" in claims_text(both, "tau_w", FAMILIES)


def test_intervals_are_over_targets_where_families_are_too_few() -> None:
    values = {("", "x"): np.array([2.0, 0, 2, 0]), ("", "y"): np.ones(4)}
    few = compare([("x", "y")], values, list("aabb"))
    assert few[0].difference.low < 0 < few[0].difference.high  # both families have the mean 0
    assert "2 families are too few" in claims_text(few, "tau_w", list("aabb"))
    assert "over 5 families" in claims_text(few, "tau_w", list("abcde"))


def made(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    test = rng.uniform(size=(6, 8, 2))
    scores = {"logme": test.mean(axis=2) + 0.1 * rng.normal(size=(6, 8))}
    matrix = Matrix(
        models=tuple("uvwxyz"),
        targets=tuple(f"t{i}" for i in range(8)),
        families=tuple(FAMILIES),
        test=test,
        val=test,
        seconds=test,
        scores=scores,
        protocol={"epochs": 3, "shots": 5},
    )
    write_matrix(tmp_path / "m.h5", matrix, {})
    benchmark_matrix(tmp_path / "m.h5", None, tmp_path / "r", "weightzoo benchmark ranking")
    return tmp_path / "r" / "result.json"


def test_report_and_leaderboard_hold_the_named_comparisons(tmp_path: Path) -> None:
    result = json.loads(made(tmp_path).read_text())
    named = {(one["first"], one["second"]) for one in result["claims"]["tau_w"]}
    assert named == {("logme", "fixed order"), ("prior + logme", "fixed order")} < set(CLAIMS)
    report = (tmp_path / "r" / "report.md").read_text()
    assert "## Named comparisons: tau_w" in report and "## Named comparisons: regret" in report
    regrets = result["regret_by_spending"]
    assert set(regrets) == {"active", "random", "fixed order", "prior + logme"}
    assert all(values == sorted(values, reverse=True) for values in regrets.values())
    text = leaderboard_section(result)
    row = next(one for one in result["verdict"]["rows"] if one["ranker"] == "logme")
    assert f"| logme | {row['means']['tau_w']:.3f} |" in text
    assert "| logme against fixed order | family |" in text and "8 targets in 4 families" in text


def test_leaderboard_takes_results_of_rankers_beside_the_others(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="no result.json of a benchmark"):
        leaderboard_text(tmp_path, tmp_path / "L.md")
    made(tmp_path)
    text = leaderboard_text(tmp_path, tmp_path / "L.md")
    assert "## ranking: which pre-trained model is best to fine-tune?" in text
