"""The language benchmark: its corpus, its routers, and a run in miniature."""

from pathlib import Path

import pytest
import torch

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.leaderboard import leaderboard_text
from weightzoo.benchmarks.merging import language
from weightzoo.benchmarks.merging.corpus import read_domain
from weightzoo.benchmarks.merging.language_rows import BITS, PREFIX, _routed, bits
from weightzoo.benchmarks.merging.language_zoo import LanguageSize


def test_corpus_is_the_same_each_time_and_its_splits_share_no_paragraph() -> None:
    one, two = read_domain("python", 100_000), read_domain("python", 100_000)
    assert one.fingerprint == two.fingerprint and "numpy" in one.packages
    assert one.fingerprint != read_domain("python", 90_000).fingerprint
    splits = [bytes(part.tolist()).split(b"\n\n") for part in (one.train, one.val, one.test)]
    assert all(len(part) > 10 for part in splits)
    assert not set(splits[0]) & set(splits[1]) and not set(splits[1]) & set(splits[2])


def test_windows_do_not_overlap_and_are_spread_over_the_split() -> None:
    domain = read_domain("headers", 100_000)
    windows = domain.windows("test", 8, 50)
    assert windows.shape == (8, 50)
    text = domain.test.long()
    starts = [int((text.unfold(0, 50, 1) == row).all(1).nonzero()[0]) for row in windows]
    assert starts == sorted(starts) and starts[-1] > len(text) / 2


def test_bits_count_bytes_after_the_prefix() -> None:
    losses = torch.full((2, PREFIX + 9), BITS)
    losses[:, : PREFIX - 1] = 100.0
    assert bits({"python": losses, "prose": 3 * losses}) == pytest.approx(
        {"python": 1.0, "prose": 3.0, "mean": 2.0}
    )


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
    assert language.language_benchmark(options).data["units"] == outcome.data["units"]
    assert "## merging-language" in leaderboard_text(tmp_path, tmp_path / "LEADERBOARD.md")
