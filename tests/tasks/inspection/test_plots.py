"""Plots are written, and draw what they say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from weightzoo.loaders.load import load_zoo
from weightzoo.tasks.inspection.plots import plot_predictions, plot_zoo


def _pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(path))


def test_plot_zoo_draws_both_panels(tiny_zoo: Path, tmp_path: Path) -> None:
    plot_zoo(load_zoo(tiny_zoo), tmp_path / "zoo.png")
    pixels = _pixels(tmp_path / "zoo.png")
    half = pixels.shape[1] // 2
    assert (pixels[:, :half, :3].std(), pixels[:, half:, :3].std()) > (0.02, 0.02)


@pytest.mark.parametrize("panels", [1, 3])
def test_plot_predictions_draws_a_panel_per_predictor(tmp_path: Path, panels: int) -> None:
    true = np.linspace(0, 1, 20)
    predictions = {f"p{index}": (true, true**2) for index in range(panels)}
    plot_predictions(predictions, "test_accuracy", tmp_path / "p.png")
    assert _pixels(tmp_path / "p.png").std() > 0.02


def test_plot_zoo_draws_the_loss_where_there_is_no_accuracy(tiny_zoo: Path, tmp_path: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    inrs: Any = {
        split: SimpleNamespace(
            columns=dict(dataset.columns) | {"test_accuracy": np.full(len(dataset), np.nan)}
        )
        for split, dataset in zoo.items()
    }
    plot_zoo(inrs, tmp_path / "inr.png")
    pixels = _pixels(tmp_path / "inr.png")
    half = pixels.shape[1] // 2
    assert (pixels[:, :half, :3].std(), pixels[:, half:, :3].std()) > (0.02, 0.02)
