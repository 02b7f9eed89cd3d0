"""Report of an analysis: plain data, and the Markdown that is made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...zoos.disk import write_whole
from ...zoos.provenance import commit, package_version
from ...zoos.strict_json import json_text
from .dimensions import FAR, dimension_report, typical
from .gap import RankScore, make_strata, rank_scores
from .measures import Family, Measure
from .population_rows import PopulationRows
from .settings import AnalysisSettings

FORMAT = "weightzoo-dynamics-1"
REPORT_NAME, DATA_NAME = "report.md", "report.json"
TARGET = "generalization_gap"
LEAST_MODELS = 10  # with a known gap, below which nothing is correlated
QUARTILES = (25, 50, 75)
LEAST_POINTS = 3  # of a dimension


@dataclass(frozen=True)
class Analysis:
    """A finished analysis.

    Attributes:
        zoo: zoo folder with the columns added.
        folder: folder with report and plots.
        data: contents of `report.json`.
    """

    zoo: Path
    folder: Path
    data: Mapping[str, Any]

    @property
    def text(self) -> str:
        """One line: counts and paths."""
        data = self.data
        return (
            f"{len(data['measures'])} measures of {data['rows']} rows of {data['models']} models "
            f"({data['diverged']} rows diverged): {self.zoo}, {self.folder / REPORT_NAME}"
        )


def analysis_data(
    population: PopulationRows,
    columns: Mapping[str, np.ndarray],
    families: Sequence[Family],
    settings: AnalysisSettings,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Everything that the report says, as plain data.

    Args:
        population: rows of the zoo.
        columns: measures, (N,) by name.
        families: measured families.
        settings: settings of the analysis.
        notes: what was left out, and why.
    """
    scores, strata = _gap(population, columns)
    return {
        "format": FORMAT,
        "zoo": population.dataset.name,
        "models": len(population.models),
        "rows": len(population.order),
        "diverged": int((~population.is_ok).sum()),
        "checkpoints": population.checkpoints,
        "settings": settings.to_json(),
        "weightzoo": {"version": package_version(), "commit": commit()},
        "notes": list(notes),
        "families": [
            {"name": family.name, "source": family.source, "cost": family.cost}
            for family in families
        ],
        "measures": _summaries(population, columns, families),
        "dimensions": _dimensions(population),
        "gap": {"target": TARGET, "strata": strata, "scores": [asdict(one) for one in scores]},
    }


def write_analysis(found: Analysis, plots: Sequence[Path]) -> None:
    """Write `report.json` and `report.md`.

    Args:
        found: analysis to write.
        plots: files of its plots.
    """
    data = dict(found.data) | {"plots": [path.name for path in plots]}
    write_whole(found.folder / DATA_NAME, (json_text(data, indent=1) + "\n").encode())
    write_whole(found.folder / REPORT_NAME, analysis_text(data).encode())


def analysis_text(data: Mapping[str, Any]) -> str:
    """The report as Markdown, from its data alone."""
    sections = [
        f"# Paths and geometry of {data['zoo']}",
        f"{data['models']} models with up to {data['checkpoints']} checkpoints, {data['rows']} "
        f"rows; {data['diverged']} diverged rows have missing values. Losses are of "
        f"{data['settings']['image_count']} train images, the same for all models.",
        "\n".join(f"- {note}" for note in data["notes"]),
        *(f"![{Path(name).stem}]({name})" for name in data.get("plots", ())),
        "## Measures at the last checkpoint",
        _measure_table(data["measures"]),
        "*Rescaling*: whether the measure moves when a layer of a ReLU network is multiplied by a "
        "factor and the next one divided by it, which keeps the function of the network.",
        "## Sources and costs",
        _table(
            ("family", "source", "cost of one checkpoint"),
            [(one["name"], one["source"], one["cost"]) for one in data["families"]],
        ),
        _gap_section(data["gap"]),
        _dimension_section(data["dimensions"]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _summaries(
    population: PopulationRows, columns: Mapping[str, np.ndarray], families: Sequence[Family]
) -> dict[str, Any]:
    """Family, text and quartiles of every column, at the last checkpoint and by epoch."""
    known = {one.name: (family, one) for family in families for one in family.measures}
    epochs = population.column("epoch")
    last = population.last_rows
    found = {}
    for name, values in columns.items():
        family, one = known.get(name) or _of_layer(name, known)
        found[name] = {
            "family": family.name,
            "text": one.text,
            "rescaling": one.rescaling if name in known else None,
            "last": _quartiles(values[last]),
            "by_epoch": {
                str(epoch): _quartiles(values[epochs == epoch]) for epoch in np.unique(epochs)
            },
        }
    return found


def _of_layer(name: str, known: Mapping[str, tuple[Family, Measure]]) -> tuple[Family, Measure]:
    """Family and measure of a column of one layer."""
    start = next(one for one in known if name.startswith(f"{one}_"))
    family, one = known[start]
    return family, Measure(name, f"{one.text}, layer {name.removeprefix(start + '_')}")


def _quartiles(values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)].astype(np.float64)
    names = ("low", "median", "high")
    ends = np.percentile(finite, QUARTILES).tolist() if len(finite) else [None] * 3
    return {"known": len(finite)} | dict(zip(names, ends, strict=True))


def _gap(
    population: PopulationRows, columns: Mapping[str, np.ndarray]
) -> tuple[list[RankScore], dict[str, Any]]:
    """Rank correlations of the measures at the last checkpoint with the generalisation gap."""
    nothing: dict[str, Any] = {"names": [], "count": 0, "models": 0}
    if TARGET not in population.dataset.table.names:
        return [], nothing
    rows = population.last_rows
    rows = rows[np.isfinite(population.column(TARGET)[rows])]
    if len(rows) < LEAST_MODELS:
        return [], nothing
    target = population.column(TARGET)[rows].astype(np.float64)
    header = population.dataset.header
    given = [name for name in header.hyper_parameters if name in population.dataset.table.names]
    strata = make_strata({name: population.column(name)[rows] for name in given}, target)
    measures = {
        name: values[rows].astype(np.float64)
        for name, values in columns.items()
        if values.dtype.kind == "f"
    }
    scores = rank_scores(measures, target, strata)
    return scores, {"names": list(strata.names), "count": strata.count, "models": len(rows)}


def _dimensions(population: PopulationRows) -> dict[str, Any]:
    """Dimensions of the set of all models, by epoch."""
    epochs, found = population.column("epoch"), dict[str, Any]()
    for epoch in np.unique(epochs):
        rows = np.flatnonzero((epochs == epoch) & population.is_ok)
        weights = population.dataset.weights(rows)
        points = weights[typical(weights)] if len(weights) else weights
        counts = {"models": len(points), "left_out": len(weights) - len(points)}
        try:
            found[str(epoch)] = counts | dimension_report(points)
        except (ValueError, torch.linalg.LinAlgError):  # fewer than three different models
            found[str(epoch)] = counts
    return found


def _measure_table(measures: Mapping[str, Any]) -> str:
    rows = [
        (f"`{name}`", one["text"], *_cells(one["last"]), one["last"]["known"], one["rescaling"])
        for name, one in measures.items()
        if one["rescaling"] is not None
    ]
    head = ("column", "what it is", "median", "quartiles", "known", "rescaling")
    layers = sorted(name for name, one in measures.items() if one["rescaling"] is None)
    note = f"\n\nBy layer: {', '.join(f'`{name}`' for name in layers)}." if layers else ""
    return _table(head, rows) + note


def _cells(summary: Mapping[str, Any]) -> tuple[str, str]:
    if summary["median"] is None:
        return "–", "–"
    return _short(summary["median"]), f"{_short(summary['low'])} to {_short(summary['high'])}"


def _gap_section(gap: Mapping[str, Any]) -> str:
    """Table of the measures with the largest correlation within strata first."""
    if not gap["scores"]:
        return ""
    order = sorted(gap["scores"], key=lambda one: -abs(one["within"] or 0))
    rows = [
        (
            f"`{one['name']}`",
            *_tau_cells(one["within"], one["within_interval"]),
            _signed(one["signs"]),
            *_tau_cells(one["tau"], one["tau_interval"]),
            one["models"],
        )
        for one in order
    ]
    head = ("measure", "τ_b within strata", "95 %", "mean sign", "τ_b, all pairs", "95 %", "models")
    strata = gap["strata"]
    return (
        f"## Which measures tell the {gap['target'].replace('_', ' ')}\n\n"
        f"Rank correlation (Kendall's τ_b) of each measure at the last checkpoint with the "
        f"{gap['target']} of {strata['models']} models. Strata: {strata['count']} groups with "
        f"equal {', '.join(strata['names']) or 'nothing'} (numbers in thirds). Intervals: "
        "bootstrap over models. Mean sign: over strata of at least 5 models.\n\n"
        f"{_table(head, rows)}"
    )


def _tau_cells(tau: float, interval: Sequence[float]) -> tuple[str, str]:
    return _signed(tau), f"{_signed(interval[0])} to {_signed(interval[1])}"


def _dimension_section(dimensions: Mapping[str, Any]) -> str:
    names = ("participation_ratio", "components_90", "components_95", "two_nn")
    rows = [
        (epoch, one["models"], one["left_out"], *(_short(one.get(name)) for name in names))
        for epoch, one in dimensions.items()
    ]
    head = (
        "epoch",
        "models",
        "outliers",
        "participation ratio",
        "components for 90 %",
        "for 95 %",
        "two-NN",
    )
    return (
        "## Dimension of the population\n\nAll models of one epoch as points in weight space: "
        "participation ratio and principal components of their variance, and the estimate of two "
        f"nearest neighbours. Outliers, with more than {FAR:g} times the median norm, are left out."
        f"\n\n{_table((*head, 'for 95 %', 'two-NN'), rows)}"
    )


def _signed(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:+.2f}"


def _short(value: float | None) -> str:
    """Three digits; a dash for nothing."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in line)} |" for line in lines
    )
