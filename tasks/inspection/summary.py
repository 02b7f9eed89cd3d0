"""Summary of a zoo's contents, the command `weightzoo info`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...loaders.load import ZooDataset

MOST_WORDS = 8  # distinct texts that are listed; if there are more, they are only counted


def summarise_zoo(zoo: Mapping[str, ZooDataset]) -> dict[str, Any]:
    """Count rows, models and epochs of a zoo, and describe the range of every column.

    Args:
        zoo: dataset by split.

    Returns:
        Plain data: name, architecture, parameters, tensors, splits {rows, models, diverged_rows},
        epochs, columns (one line each), hyper_parameters, provenance.
    """
    first = next(iter(zoo.values()))
    header = first.header
    names = list(first.columns)
    columns = {
        name: np.concatenate([split.columns[name] for split in zoo.values()]) for name in names
    }
    return {
        "name": first.name,
        "architecture": header.architecture.name if header.architecture else "unknown",
        "parameters": header.layer_table.parameters,
        "tensors": len(header.layer_table),
        "splits": {name: _count(split) for name, split in zoo.items()},
        "epochs": sorted(set(columns["epoch"].tolist())),
        "columns": {name: _describe(column) for name, column in columns.items()},
        "hyper_parameters": list(header.hyper_parameters),
        "provenance": header.provenance,
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary as text for a terminal."""
    lines = [
        f"{summary['name']}: {summary['architecture']}, {summary['parameters']:,} parameters "
        f"in {summary['tensors']} tensors",
        f"epochs: {', '.join(map(str, summary['epochs']))}",
        "",
        f"{'split':<8}{'models':>8}{'rows':>8}{'diverged rows':>15}",
    ]
    for name, count in summary["splits"].items():
        lines.append(f"{name:<8}{count['models']:>8}{count['rows']:>8}{count['diverged_rows']:>15}")
    lines += ["", "columns"]
    width = max(map(len, summary["columns"])) + 2
    lines += [f"  {name:<{width}}{line}" for name, line in summary["columns"].items()]
    lines += ["", "provenance"]
    lines += [f"  {key:<{width}}{value}" for key, value in summary["provenance"].items()]
    return "\n".join(lines)


def _count(split: ZooDataset) -> dict[str, int]:
    return {
        "models": len(np.unique(split.columns["model_id"])),
        "rows": len(split),
        "diverged_rows": int((split.columns["status"] == "diverged").sum()),
    }


def _describe(column: np.ndarray) -> str:
    """The range of numbers, or distinct texts with their counts."""
    if column.dtype.kind == "O":
        words, counts = np.unique(column.astype(str), return_counts=True)
        if len(words) > MOST_WORDS:
            return f"{len(words)} different texts"
        return ", ".join(f"{word} ({count})" for word, count in zip(words, counts, strict=True))
    finite = column[np.isfinite(column)]
    missing = len(column) - len(finite)
    text = f"{finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no finite value"
    return text + (f", {missing} not finite" if missing else "")
