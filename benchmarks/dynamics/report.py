"""Report of the benchmark `dynamics`, from its data alone."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...zoos.disk import write_whole
from ...zoos.strict_json import json_text
from ..cells import HEADS, table

FORMAT = "weightzoo-dynamics-benchmark-1"
DATA_NAME, REPORT_NAME = "dynamics.json", "dynamics.md"
SHOWN = 12  # measures in a table of the gap
GAP_TITLES = {
    "last": "measured at the last checkpoint",
    "last, trained": "the same, models with at least 90 % train accuracy",
    "early": "measured at the last known checkpoint",
}


def write_dynamics(folder: Path, data: Mapping[str, Any]) -> str:
    """Write data and report.

    Args:
        folder: output folder.
        data: data of the benchmark.

    Returns:
        The report as Markdown.
    """
    text = dynamics_text(data)
    write_whole(folder / DATA_NAME, (json_text(data, indent=1) + "\n").encode())
    write_whole(folder / REPORT_NAME, text.encode())
    return text


def dynamics_text(data: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    horizon, models = data["horizon"], data["models"]
    known = ", ".join(map(str, horizon["known"]))
    left_out = sum(data["left_out"].values())
    sections = [
        f"# dynamics: what do the first checkpoints of {data['zoo']} tell?",
        f"`{data['command']}`, seeds {', '.join(map(str, data['seeds']))}. Known are the "
        f"checkpoints of the epochs {known}; predicted is epoch {horizon['last']}. Models: "
        f"{models['train']} train, {models['val']} val, {models['test']} test; {left_out} diverged "
        "or incomplete ones are left out. Settings are chosen on val models; intervals are 95 %, "
        "by bootstrap over models.",
        *(_forecast_section(data["forecasts"], target) for target in _targets(data["forecasts"])),
        _nowcast_section(data["nowcasts"], horizon),
        *(_gap_section(name, one) for name, one in data["gap"].items()),
    ]
    return "\n\n".join(sections) + "\n"


def _targets(forecasts: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["target"] for one in forecasts))


def _forecast_section(forecasts: Sequence[Mapping[str, Any]], target: str) -> str:
    rows = [
        [
            one["predictor"],
            *(_mean([scores[name] for scores in one["scores"]]) for name in ("r2", "tau_b", "mae")),
            _interval(one["intervals"]["r2"]),
            _interval(one["intervals"]["tau_b"]),
            one["setting"],
        ]
        for one in forecasts
        if one["target"] == target
    ]
    head = ["predictor", *(HEADS[name] for name in ("r2", "tau_b", "mae"))]
    head += ["R², interval", "τ_b, interval", "setting"]
    return f"## {target.replace('_', ' ')}\n\n{table(head, rows)}"


def _nowcast_section(nowcasts: Sequence[Mapping[str, Any]], horizon: Mapping[str, Any]) -> str:
    rows = [
        [
            one["method"],
            _number(one["error"]),
            _interval(one["error_interval"]),
            _number(one["closer"]),
            _number(one["accuracy"]),
            _interval(one["accuracy_interval"]),
            one["setting"],
        ]
        for one in nowcasts
    ]
    head = ["method", "relative error", "interval", "closer", "test accuracy", "interval"]
    return (
        f"## Weights at epoch {horizon['last']}\n\nRelative error: squared distance to the later "
        "weights, divided by that of the last known weights; median over test models. Closer: "
        "share of models whose prediction is closer than the last known weights. Test accuracy: "
        "mean "
        f"over the predicted networks.\n\n{table([*head, 'setting'], rows)}"
    )


def _gap_section(name: str, gap: Mapping[str, Any]) -> str:
    order = sorted(gap["scores"], key=lambda one: -abs(one["within"] or 0))[:SHOWN]
    rows = [
        [
            one["name"],
            _signed(one["within"]),
            _interval(one["within_interval"], signed=True),
            _signed(one["signs"]),
            _signed(one["tau"]),
            _interval(one["tau_interval"], signed=True),
            str(one["models"]),
        ]
        for one in order
    ]
    head = ["measure", "τ_b within strata", "interval", "mean sign", "τ_b, all pairs", "interval"]
    strata = gap["strata"]
    return (
        f"## Generalisation gap: {GAP_TITLES[name]}\n\n{gap['models']} models in "
        f"{strata['count']} strata of equal {', '.join(strata['names'])} (numbers in thirds). The "
        f"{len(rows)} measures with the largest correlation within strata, of "
        f"{len(gap['scores'])}; mean sign over strata of at least 5 models.\n\n"
        f"{table([*head, 'models'], rows)}"
    )


def _mean(values: Sequence[float | None]) -> str:
    """Mean, and deviation over seeds."""
    known = [value for value in values if value is not None and value == value]
    if not known:
        return "–"
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{spread}"


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:+.2f}"


def _interval(ends: Sequence[float | None] | None, signed: bool = False) -> str:
    show = _signed if signed else _number
    return "–" if not ends else " to ".join(map(show, ends))
