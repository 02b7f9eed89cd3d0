"""Pictures of benchmark results."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from weightzoo.benchmarks import plots as benchmark_plots
from weightzoo.benchmarks.plots import BASELINE


@pytest.mark.parametrize(("metric", "scale"), [("mse", "log"), ("tau_b", "linear")])
def test_squared_errors_of_all_sizes_can_be_told_apart(
    metric: str, scale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(benchmark_plots, "save", lambda drawing, path: drawn.append(drawing))
    benchmark_plots.plot_result(bars(metric, {"constant": 7.5, "SNE": 0.15}), Path("unused.png"))
    [axis] = drawn[0].axes
    assert axis.get_xscale() == scale
    assert [label.get_text() for label in axis.get_yticklabels()] == ["constant", "SNE"]


def test_curves_leave_out_what_ranks_nothing_but_not_what_diverged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(benchmark_plots, "save", lambda drawing, path: drawn.append(drawing))
    benchmark_plots.plot_result(curves(), Path("unused.png"))
    [axis] = drawn[0].axes
    assert axis.get_legend_handles_labels()[1] == ["SNE", "NFN 2 of 2 diverged"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["10", "20"]


def curves() -> dict[str, Any]:
    """Three predictors at two shares: one without score, one with, one that diverged."""
    shown = {"constant": {"scores": {"zoo": {"tau_b": None}}}}
    shown |= {"SNE": {"scores": {"zoo": {"tau_b": 0.5}}}}
    shown |= {"NFN": {"scores": {}, "diverged": {"zoo": "not finite"}}}  # type: ignore[dict-item]
    runs = [
        {"predictor": {"name": name}, "target": "t", "fraction": share, "train_models": models}
        | result
        for name, result in shown.items()
        for share, models in ((0.5, 10), (1.0, 20))
    ]
    return {"layout": "curve", "metric": "tau_b", "target": "t", "zoos": {"zoo": {}}, "runs": runs}


def bars(metric: str, means: dict[str, float]) -> dict[str, Any]:
    """A result with one fit of each predictor."""
    runs = [
        {"predictor": {"name": name}, "target": "t", "scores": {"zoo": {metric: mean}}}
        for name, mean in means.items()
    ]
    return {"layout": "rows", "metric": metric, "target": "t", "zoos": {"zoo": {}}, "runs": runs}


@pytest.mark.parametrize(("layout", "along"), [("rows", 0), ("curve", 1)])
def test_plots_show_the_interval_of_the_table_the_ceiling_and_the_baseline(
    layout: str, along: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(benchmark_plots, "save", lambda drawing, path: drawn.append(drawing))
    result = bars("tau_b", {"SNE": 0.5, "statistics + boosting": 0.7}) | {"layout": layout}
    result["zoos"] = {"zoo": {"target": {"tau_max": 0.95}}}
    for run in result["runs"]:
        run |= {"fraction": 1.0, "train_models": 10}
        run["scores"]["zoo"]["intervals"] = {"tau_b": [0.4, 0.45]}  # not around the mean
    benchmark_plots.plot_result(result, Path("unused.png"))
    [axis] = drawn[0].axes
    lines = {line.get_label(): line.get_data()[along] for line in axis.lines}
    assert lines["ceiling"][0] == 0.95
    assert min(lines[name][0] for name in lines if BASELINE in name) == 0.7
    ends = axis.containers[-1].lines[2][0].get_segments()[0][:, along]
    assert ends.tolist() == pytest.approx([0.4, 0.45])
