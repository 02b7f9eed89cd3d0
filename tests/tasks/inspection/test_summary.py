"""`info`: counts, ranges and words of a zoo."""

import json
from pathlib import Path

from weightzoo.loaders.load import load_zoo
from weightzoo.tasks.inspection.summary import summarise_zoo, summary_text


def test_summarise_zoo_counts_models_and_rows(trained_zoo: Path) -> None:
    summary = summarise_zoo(load_zoo(trained_zoo))
    assert sum(split["models"] for split in summary["splits"].values()) == 24
    assert sum(split["rows"] for split in summary["splits"].values()) == 72
    assert summary["epochs"] == [0, 1, 3]
    assert summary["parameters"] == 16_330
    assert json.loads(json.dumps(summary)) == summary


def test_summarise_zoo_gives_ranges_and_words(tiny_zoo: Path) -> None:
    columns = summarise_zoo(load_zoo(tiny_zoo))["columns"]
    assert columns["epoch"] == {"type": "int64", "min": 0, "max": 2, "not_finite": 0}
    assert columns["split"]["counts"] == {"test": 3, "train": 6, "val": 3}
    text = summary_text(summarise_zoo(load_zoo(tiny_zoo)))
    assert "0 to 2\n" in text and "test (3), train (6), val (3)\n" in text


def test_summary_text_names_every_column(tiny_zoo: Path) -> None:
    summary = summarise_zoo(load_zoo(tiny_zoo))
    text = summary_text(summary)
    assert all(f"  {name} " in text for name in summary["columns"])
