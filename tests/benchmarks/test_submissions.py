"""`weightzoo leaderboard --check`: shipped results pass, damaged ones are told why they do not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from weightzoo.benchmarks.leaderboard import BENCHMARK_FORMAT
from weightzoo.benchmarks.submissions import check_submission
from weightzoo.cli.main import main

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SEEDS_CHECK = "every predictor was fitted with every seed"
BASELINE_CHECK = "the constant and the baseline are among the predictors"
SHIPPED = [
    path.parent.name
    for path in sorted(RESULTS.glob("*/result.json"))
    if json.loads(path.read_text())["format"] == BENCHMARK_FORMAT
]


def failed(path: Path) -> dict[str, str]:
    """Details of the failed checks by name."""
    return {check.name: check.detail for check in check_submission(path) if not check.passed}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_results_pass_every_check(name: str) -> None:
    assert len(SHIPPED) > 3
    assert failed(RESULTS / name / "result.json") == {}


def test_results_with_one_seed_fail_that_check_alone() -> None:
    """They are shown as such; the ablation compares variants of SNE, without statistics."""
    found = sorted((RESULTS / "one-seed").glob("*/result.json"))
    assert found
    for path in found:
        allowed = {SEEDS_CHECK} | (
            {BASELINE_CHECK} if path.parent.name == "sne-ablation" else set()
        )
        assert set(failed(path)) == allowed, path


def _drop_seed(result: Any) -> None:
    result["runs"].remove(next(run for run in result["runs"] if run["seed"] == 2))


def _set(*path: Any) -> Callable[[Any], None]:
    """A change that sets an entry, given by its path and its new value."""

    def change(result: Any) -> None:
        for key in path[:-2]:
            result = result[key]
        result[path[-2]] = path[-1]

    return change


FIRST = ("runs", 1, "scores", "digits-cnn")


@pytest.mark.parametrize(
    ("change", "check", "detail"),
    [
        (_set("format", "other"), "the file is a result", "format must be"),
        (_set("metric", "r2"), "the file is a result", "metric must be 'tau_b'"),
        (_set("benchmark", "within-zo"), "the file is a result", "did you mean 'within-zoo'"),
        (_drop_seed, "every predictor", "has the seeds [0, 1]"),
        (_set("seeds", [0]), "every predictor", "at least 3 seeds"),
        (_set("command", "weightzoo benchmark within-zoo --zoo a=b"), "zoos are", "own zoos"),
        (_set("runs", 1, "zoos", "digits-cnn", "0"), "zoos are", "changed between runs"),
        (_set(*FIRST, "tau_b", 1.5), "scores are", "outside -1 to 1"),
        (_set(*FIRST, "intervals", "tau_b", [0.9, 0.1]), "scores are", "ends before it starts"),
        (_set(*FIRST, "rows", 7), "all predictors", "7) models and rows"),
        (_set("runs", 1, "code", "commit", ""), "all fits", "commit is unknown"),
        (_set("runs", 1, {}), "every predictor", "an entry is missing"),
    ],
)
def test_damaged_results_fail_with_a_reason(
    change: Callable[[Any], None], check: str, detail: str, tmp_path: Path
) -> None:
    result = json.loads((RESULTS / "within-zoo" / "result.json").read_text())
    change(result)
    (tmp_path / "result.json").write_text(json.dumps(result))
    found = failed(tmp_path / "result.json")
    assert any(name.startswith(check) and detail in why for name, why in found.items()), found


def test_command_checks_a_file_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(RESULTS / "within-zoo" / "result.json")
    assert main(["leaderboard", "--check", file]) == 0
    assert capsys.readouterr().out.count("ok  ") == 8
    (tmp_path / "odd.json").write_text("{}")
    assert main(["leaderboard", "--check", "odd.json", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["passed"] is False
    assert main(["leaderboard", "--check", "none.json"]) == 1
    assert main(["leaderboard"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["odd.json"]
