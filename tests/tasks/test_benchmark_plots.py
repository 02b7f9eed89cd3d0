"""Pictures of benchmark results."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from weightzoo.tasks import benchmark_plots


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


def bars(metric: str, means: dict[str, float]) -> dict[str, Any]:
    """A result with one fit of each predictor."""
    runs = [
        {"predictor": {"name": name}, "target": "t", "scores": {"zoo": {metric: mean}}}
        for name, mean in means.items()
    ]
    return {"layout": "rows", "metric": metric, "target": "t", "zoos": {"zoo": {}}, "runs": runs}
