"""Pictures of benchmark results."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from weightzoo.benchmarks import plots as benchmark_plots


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
