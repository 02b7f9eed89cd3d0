"""The language benchmark: its routers, and a run in miniature."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.leaderboard import leaderboard_text
from weightzoo.benchmarks.merging import language
from weightzoo.benchmarks.merging.language_rows import _routed
from weightzoo.benchmarks.merging.language_scores import (
    BITS,
    CHOICES,
    ENDING,
    PREFIX,
    bits,
    cloze_accuracies,
    cloze_windows,
)
from weightzoo.benchmarks.merging.language_zoo import LanguageSize


def test_bits_count_bytes_after_the_prefix() -> None:
    losses = torch.full((2, PREFIX + 9), BITS)
    losses[:, : PREFIX - 1] = 100.0
    assert bits({"python": losses, "prose": 3 * losses}) == pytest.approx(
        {"python": 1.0, "prose": 3.0, "mean": 2.0}
    )


def test_cloze_keeps_starts_and_puts_the_own_ending_first() -> None:
    windows = torch.arange(8)[:, None] * 100 + torch.arange(40)
    found = cloze_windows(windows).view(8, CHOICES, 40)
    assert torch.equal(found[:, 0], windows)
    assert torch.equal(found[:, 2, :-ENDING], windows[:, :-ENDING])
    endings = found[..., -1] // 100
    assert all(len(set(row.tolist())) == CHOICES for row in endings)


def test_cloze_is_right_where_the_own_ending_has_the_lowest_loss() -> None:
    losses = torch.ones(2 * CHOICES, 50)
    losses[:, :-ENDING] = torch.rand(2 * CHOICES, 50 - ENDING)
    losses[0, -ENDING:] = 0.5
    losses[CHOICES + 1, -1] = 0.5
    assert cloze_accuracies({"python": losses}) == {"python": 0.5, "mean": 0.5}


def test_router_takes_the_member_of_the_lowest_score_on_every_window() -> None:
    losses = torch.arange(12.0).view(2, 3, 2)
    chosen = _routed(losses, torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 1.0]]))
    assert torch.equal(chosen, torch.stack([losses[0, 0], losses[1, 1], losses[0, 2]]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers
def test_language_benchmark_runs_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(language, "SMALL", LanguageSize(32, 2, 65, 4, 3, 2, 1, 4, 100_000))
    options = BenchmarkOptions(
        out=tmp_path, size="small", seeds=(0, 1), command="x", progress=False
    )
    outcome = language.language_benchmark(options)
    rows = outcome.data["units"][0]["rows"]
    routed, oracle = rows["mixture of models: loss of the prefix"], rows["oracle per window"]
    assert oracle["test"]["mean"] <= routed["test"]["mean"] < 9
    assert rows["stack, concatenated"]["test"]["mean"] > 0
    assert 0 <= rows["block mixture: fitted gates"]["cloze"]["mean"] <= 1
    kinds = [unit["architecture"] for unit in outcome.data["units"]]
    assert kinds == ["llama", "llama", "gpt_neox", "gpt_neox"]
    assert "## Architecture gpt_neox" in outcome.text
    assert language.language_benchmark(options).data["units"] == outcome.data["units"]
    with pytest.raises(ValueError, match="needs two seeds or more"):
        language.language_benchmark(replace(options, seeds=(0,)))
    assert "## merging-language" in leaderboard_text(tmp_path, tmp_path / "LEADERBOARD.md")
