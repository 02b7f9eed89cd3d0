"""AtS: models ranked by the start of their learning curves."""

import csv
from pathlib import Path

import numpy as np
import pytest
from published_tables import needs_tables, path

from weightzoo.loaders.load import load_zoo
from weightzoo.tasks.ranking.learning_curves import curve_scores, predict_losses, zoo_curves
from weightzoo.tasks.scoring.ranks import pearson
from weightzoo.zoos.errors import UnsuitableError

SIZES = 100.0 * 2 ** np.arange(9)


def test_line_on_log_scales_is_extrapolated_exactly() -> None:
    slopes = np.array([0.1, 0.5, 1.0])
    losses = 3 * SIZES[None] ** -slopes[:, None]
    assert predict_losses(SIZES[:5], losses[:, :5], SIZES[-1]) == pytest.approx(losses[:, -1])


def test_points_of_the_slow_start_are_dropped() -> None:
    losses = 3 * SIZES[None] ** -0.5
    bent = losses.copy()
    bent[:, :3] = losses[:, 3:4] * 1.01  # flat before the line
    found = predict_losses(SIZES[:7], bent[:, :7], SIZES[-1])
    assert found == pytest.approx(losses[:, -1])
    everything = predict_losses(SIZES[:7], bent[:, :7], SIZES[-1], tolerance=np.inf)
    assert abs(everything - losses[:, -1]) > 0.1 * losses[:, -1]


def test_curves_that_cannot_be_extrapolated_are_refused() -> None:
    with pytest.raises(UnsuitableError, match="at least 2 points"):
        predict_losses(SIZES[:1], np.ones((2, 1)), 1e6)
    with pytest.raises(UnsuitableError, match="above 0 and increase"):
        predict_losses(SIZES[::-1], np.ones((2, 9)), 1e6)
    with pytest.raises(UnsuitableError, match="diverged"):
        predict_losses(SIZES, np.full((2, 9), np.nan), 1e6)


def test_trajectories_of_a_zoo_are_curves(trained_zoo: Path) -> None:
    epochs, losses = zoo_curves(load_zoo(trained_zoo))
    assert epochs.tolist() == [1, 3] and losses.shape == (24, 2)
    scores = curve_scores(epochs, losses, 6)
    assert pearson(-losses[:, 1], scores) > 0.5


@needs_tables
@pytest.mark.parametrize(
    ("name", "published"), [("flan", 0.909), ("wmt19", 0.989), ("gigaword", 0.989)]
)
def test_curves_of_language_models_give_the_published_correlation(
    name: str, published: float
) -> None:
    with path(f"llm_finetune_{name}.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    losses = np.array([[float(text) for text in row[1:16]] for row in rows])
    sizes = np.array([float(text) for text in header[1:16]])
    score = curve_scores(sizes[1:12], losses[:, 1:12], sizes[-1])  # up to an eighth of the data
    assert pearson(-losses[:, -1], score) == pytest.approx(published, abs=0.006)
    subset, start = pearson(losses[:, -1], losses[:, 11]), pearson(losses[:, -1], losses[:, 0])
    known = {"flan": (0.609, -0.107), "wmt19": (0.935, 0.071), "gigaword": (0.932, -0.492)}
    assert (round(subset, 3), round(start, 3)) == known[name]
