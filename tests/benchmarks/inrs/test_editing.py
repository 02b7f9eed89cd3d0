"""The benchmark of editing on a tiny zoo: editors, paired differences, report, leaderboard."""

import json
from pathlib import Path

import numpy as np
import pytest

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.inrs import editing
from weightzoo.benchmarks.inrs.editing_report import (
    CEILING,
    EDITOR,
    NO_EDIT,
    averaged,
    editing_markdown,
    pair_table,
)
from weightzoo.benchmarks.leaderboard import leaderboard_text


def test_editing_benchmark_compares_editors_with_no_edit_and_the_ceiling(
    inr_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "EPOCHS", {"small": 1})
    monkeypatch.setattr(editing, "REFIT_STEPS", 20)
    options = BenchmarkOptions(
        out=tmp_path, size="small", seeds=(0, 1), zoos={"inrs": inr_zoo}, progress=False
    )
    outcome = editing.editing_benchmark(options)
    data = json.loads((tmp_path / "result.json").read_text())
    rows = data["rows"]
    assert averaged(2) in rows and len(rows[EDITOR]["by_seed"]) == 2
    assert np.mean(rows[CEILING]["errors"]) < 0.5 * np.mean(rows[NO_EDIT]["errors"])
    assert len(rows[EDITOR]["errors"]) == data["models"]["test"] == 4
    assert editing_markdown(data) == outcome.text == outcome.path.read_text()
    assert (tmp_path / "plot.png").is_file()
    assert "## inr-editing" in leaderboard_text(tmp_path, tmp_path / "L.md")


def test_editing_benchmark_refuses_several_zoos(inr_zoo: Path, tmp_path: Path) -> None:
    zoos = {"one": inr_zoo, "other": inr_zoo}
    with pytest.raises(ValueError, match="takes one zoo, got"):
        editing.editing_benchmark(BenchmarkOptions(out=tmp_path, size="small", zoos=zoos))


def test_pairs_are_differences_on_the_same_networks() -> None:
    names = [NO_EDIT, "mean edit", "flat MLP", CEILING]
    noise = np.arange(50) % 7
    rows = {name: {"errors": (noise + 1.0).tolist()} for name in names}
    rows[EDITOR] = {"errors": (noise + 0.5).tolist()}
    text = pair_table({"rows": rows})
    assert "| equivariant editor − no edit | -500.00 | -500.00 to -500.00 |" in text
    assert "95 % for all 6 pairs together" in text
