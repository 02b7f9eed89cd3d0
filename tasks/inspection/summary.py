"""Summary of a zoo's contents, the command `weightzoo info`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...loaders.collections.mixed_zoo import MixedZoo
from ...loaders.load import ZooDataset

MOST_WORDS = 8  # distinct texts that are listed; if there are more, they are only counted


def summarise_zoo(zoo: Mapping[str, ZooDataset]) -> dict[str, Any]:
    """Count rows, models and epochs of a zoo, and describe the range of every column.

    Args:
        zoo: dataset by split.

    Returns:
        Plain data: name, architecture, parameters, tensors, splits {rows, models, diverged_rows},
        epochs, columns (see `_describe`), hyper_parameters, provenance. A mixed zoo has
        architectures in place of architecture, and the largest parameters and tensors.
    """
    first = next(iter(zoo.values()))
    if isinstance(first, MixedZoo):
        return _summarise_mixed(zoo, first)
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


def _summarise_mixed(zoo: Mapping[str, Any], first: MixedZoo) -> dict[str, Any]:
    index = first.source.index
    rows = np.concatenate([split.rows for split in zoo.values()])
    columns = {name: column[rows] for name, column in first.source.columns.items()}
    tables = [part.layer_table for part in index.parts]
    return {
        "name": first.name,
        "architecture": f"{len(tables)} architectures",
        "architectures": len(tables),
        "parameters": max(table.parameters for table in tables),
        "tensors": max(map(len, tables)),
        "splits": {
            name: _count_rows({n: column[split.rows] for n, column in first.source.columns.items()})
            for name, split in zoo.items()
        },
        "epochs": sorted(set(columns["epoch"].tolist())),
        "columns": {name: _describe(column) for name, column in columns.items()},
        "hyper_parameters": list(index.header["hyper_parameters"]),
        "provenance": dict(index.header["provenance"]),
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary as text for a terminal."""
    most = "at most " if "architectures" in summary else ""
    lines = [
        f"{summary['name']}: {summary['architecture']}, {most}{summary['parameters']:,} parameters "
        f"in {summary['tensors']} tensors",
        f"epochs: {', '.join(map(str, summary['epochs']))}",
        "",
        f"{'split':<8}{'models':>8}{'rows':>8}{'diverged rows':>15}",
    ]
    for name, count in summary["splits"].items():
        lines.append(f"{name:<8}{count['models']:>8}{count['rows']:>8}{count['diverged_rows']:>15}")
    lines += ["", "columns"]
    width = max(map(len, summary["columns"])) + 2
    lines += [f"  {name:<{width}}{_line(about)}" for name, about in summary["columns"].items()]
    lines += ["", "provenance"]
    lines += [f"  {key:<{width}}{value}" for key, value in summary["provenance"].items()]
    return "\n".join(lines)


def _count(split: ZooDataset) -> dict[str, int]:
    return _count_rows({name: split.columns[name] for name in ("model_id", "status")})


def _count_rows(columns: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {
        "models": len(np.unique(columns["model_id"])),
        "rows": len(columns["model_id"]),
        "diverged_rows": int((columns["status"] == "diverged").sum()),
    }


def _describe(column: np.ndarray) -> dict[str, Any]:
    """Least and largest of numbers and the count of the others, or distinct texts with counts."""
    if column.dtype.kind == "O":
        words, counts = np.unique(column.astype(str), return_counts=True)
        few = len(words) <= MOST_WORDS
        counted = dict(zip(words.tolist(), counts.tolist(), strict=True)) if few else None
        return {"type": "text", "different": len(words), "counts": counted}
    finite = column[np.isfinite(column)]
    ends = (finite.min().item(), finite.max().item()) if len(finite) else (None, None)
    missing = len(column) - len(finite)
    return {"type": str(column.dtype), "min": ends[0], "max": ends[1], "not_finite": missing}


def _line(about: Mapping[str, Any]) -> str:
    """The description of a column as text."""
    if about["type"] == "text":
        if about["counts"] is None:
            return f"{about['different']} different texts"
        return ", ".join(f"{word} ({count})" for word, count in about["counts"].items())
    text = "no finite value"
    if about["min"] is not None:
        text = f"{about['min']:.6g} to {about['max']:.6g}"
    return text + (f", {about['not_finite']} not finite" if about["not_finite"] else "")
