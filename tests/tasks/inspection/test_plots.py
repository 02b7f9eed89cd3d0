"""Plots are written, and draw what they say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from weightzoo import write_zoo
from weightzoo.loaders.load import load_zoo
from weightzoo.tasks.inspection import column_plot, plots
from weightzoo.tasks.inspection.column_plot import plot_columns
from weightzoo.tasks.inspection.plots import (
    MOST_IN_ROW,
    figure,
    has_measure,
    plot_predictions,
    plot_zoo,
)


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
            name="inr",
            columns=dict(dataset.columns) | {"test_accuracy": np.full(len(dataset), np.nan)},
        )
        for split, dataset in zoo.items()
    }
    plot_zoo(inrs, tmp_path / "inr.png")
    pixels = _pixels(tmp_path / "inr.png")
    half = pixels.shape[1] // 2
    assert (pixels[:, :half, :3].std(), pixels[:, half:, :3].std()) > (0.02, 0.02)


def test_zoo_without_measures_names_the_columns_to_plot(tmp_path: Path) -> None:
    models = [torch.nn.Linear(2, 1) for _ in range(6)]
    write_zoo(tmp_path / "z", models, {"quality": range(6)}, name="own", licence="mit")
    assert not has_measure(zoo := load_zoo(tmp_path / "z"))
    with pytest.raises(ValueError, match="zoo 'own' has no test accuracy .* --x .*'quality'"):
        plot_zoo(zoo, tmp_path / "z.png")
    plot_columns(zoo, tmp_path / "z.png", "quality")
    assert _pixels(tmp_path / "z.png").std() > 0.02


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, in place of files."""
    figures: list[Any] = []
    for module in (plots, column_plot):
        monkeypatch.setattr(module, "save", lambda figure, path, **_: figures.append(figure))
    return figures


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")]
)
def test_plots_have_the_format_of_their_suffix(
    tiny_zoo: Path, tmp_path: Path, suffix: str, start: bytes
) -> None:
    plot_zoo(load_zoo(tiny_zoo), tmp_path / f"zoo{suffix}")
    assert (tmp_path / f"zoo{suffix}").read_bytes().startswith(start)


def test_plots_refuse_other_suffixes(tiny_zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'.svg'\), got '.*zoo.jpg'"):
        plot_zoo(load_zoo(tiny_zoo), tmp_path / "zoo.jpg")
    assert not (tmp_path / "zoo.jpg").exists()


def test_plot_zoo_names_the_zoo_and_labels_whole_epochs(tiny_zoo: Path, drawn: list[Any]) -> None:
    plot_zoo(load_zoo(tiny_zoo), Path("unused.png"))
    assert drawn[0].get_suptitle() == "tiny"
    ticks = drawn[0].axes[1].get_xticks()
    assert len(ticks) > 2 and all(tick == round(tick) for tick in ticks)


def test_plot_of_one_epoch_draws_test_against_train(tiny_zoo: Path, drawn: list[Any]) -> None:
    plot_zoo(load_zoo(tiny_zoo).filter("epoch == 2"), Path("unused.png"))
    right = drawn[0].axes[1]
    assert (right.get_xlabel(), right.get_ylabel()) == ("train accuracy", "test accuracy")
    assert len(right.collections[0].get_offsets()) == 4


def test_plot_columns_draws_chosen_columns(tiny_zoo: Path, drawn: list[Any]) -> None:
    zoo = load_zoo(tiny_zoo)
    plot_columns(zoo, Path("unused.png"), "epoch", "test_loss", "split")
    panel = drawn[0].axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("epoch", "test_loss")
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["test", "train", "val"]
    plot_columns(zoo, Path("unused.png"), "lr", "test_loss", "epoch")
    assert drawn[1].axes[1].get_ylabel() == "epoch"
    plot_columns(zoo, Path("unused.png"), "activation")
    assert drawn[2].axes[0].get_ylabel() == "rows"


def test_plot_columns_refuses_unknown_columns_and_lone_colours(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo)
    with pytest.raises(ValueError, match="did you mean 'test_loss'"):
        plot_columns(zoo, Path("unused.png"), "epoch", "test_los")
    with pytest.raises(ValueError, match="colour 'split' needs two columns"):
        plot_columns(zoo, Path("unused.png"), "epoch", colour="split")


def test_many_panels_lie_in_rows() -> None:
    drawing, axes = figure(MOST_IN_ROW + 2)
    assert len(axes) == len(drawing.axes) == MOST_IN_ROW + 2
    assert len({axis.get_subplotspec().rowspan.start for axis in axes}) == 2
