"""Matrix files: written, read, checked; CSV tables in their place."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from published_tables import needs_tables, path

from weightzoo.tasks.ranking.matrix import Matrix, read_matrix, read_scores, write_matrix
from weightzoo.zoos.errors import ZooFormatError, ZooNotFoundError

CELLS = np.random.default_rng(0).uniform(size=(3, 2, 2))
MATRIX = Matrix(
    models=("a", "b", "c"),
    targets=("x", "y"),
    families=("f", "f"),
    test=np.where(CELLS < 0.1, np.nan, CELLS),
    val=CELLS,
    seconds=CELLS,
    columns={"parameters": np.array([1.0, 2, 3]), "source": np.array(["p", "q", ""], object)},
    scores={"logme": CELLS[..., 0]},
    protocol={"epochs": 3},
)


def test_matrix_is_read_as_written(tmp_path: Path) -> None:
    write_matrix(tmp_path / "m.h5", MATRIX, {"commit": "x"})
    read = read_matrix(tmp_path / "m.h5")
    for name in ("models", "targets", "families", "protocol"):
        assert getattr(read, name) == getattr(MATRIX, name)
    for name in ("test", "val", "seconds"):
        assert np.array_equal(getattr(read, name), getattr(MATRIX, name), equal_nan=True)
    assert read.columns["source"].tolist() == ["p", "q", ""]
    assert np.array_equal(read.scores["logme"], CELLS[..., 0])


def test_accuracy_is_the_mean_of_the_seeds_that_ran() -> None:
    test = np.array([[[0.2, np.nan], [np.nan, np.nan]]])
    matrix = Matrix(
        models=("a",), targets=("x", "y"), families=("x", "y"), test=test, val=test, seconds=test
    )
    assert np.array_equal(matrix.accuracy, [[0.2, np.nan]], equal_nan=True)


def test_csv_tables_are_matrices_and_scores(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("model,x,y\na,1,2\nb,,4\n")
    matrix = read_matrix(tmp_path / "m.csv")
    assert np.array_equal(matrix.accuracy, [[1, 2], [np.nan, 4]], equal_nan=True)
    (tmp_path / "s.csv").write_text("target,model,logme,knn\ny,a,5,6\ny,b,7,8\n")
    scored = read_scores(tmp_path / "s.csv", matrix)
    assert scored.targets == ("y",) and scored.scores["knn"].tolist() == [[6], [8]]
    (tmp_path / "s.csv").write_text("target,model,logme\ny,a,5\n")
    with pytest.raises(ZooFormatError, match=r"no row for target and model \('y', 'b'\)"):
        read_scores(tmp_path / "s.csv", matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ("a", "b", "b")}, "models must be different.*'b'"),
        ({"test": CELLS[:2]}, "test must be"),
        ({"val": CELLS[:, :1]}, "val must have the shape"),
        ({"scores": {"k": CELLS}}, "scores/k must have the shape"),
        ({"test": np.full_like(CELLS, np.inf)}, "infinite"),
    ],
)
def test_matrices_that_contradict_themselves_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ZooFormatError, match=message):
        replace(MATRIX, **change)  # type: ignore[arg-type]


def test_damaged_matrix_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.h5"
    with pytest.raises(ZooNotFoundError, match="weightzoo finetune-matrix"):
        read_matrix(file)
    write_matrix(file, MATRIX, {})
    with h5py.File(file, "r+") as raw:
        del raw["val"]
        raw["val"] = np.arange(3)
    with pytest.raises(ZooFormatError, match=r"m.h5: /val must be a dataset of floating-point"):
        read_matrix(file)
    with h5py.File(file, "r+") as raw:
        del raw["val"]
    with pytest.raises(ZooFormatError, match="it lacks the dataset 'val'"):
        read_matrix(file)
    (tmp_path / "m.csv").write_text("model,x\na,high\n")
    with pytest.raises(ZooFormatError, match="'high' is not a number"):
        read_matrix(tmp_path / "m.csv")


@needs_tables
def test_published_tables_are_read_as_they_are() -> None:
    matrix = read_matrix(path("ft_model_spider_single10.csv"))
    assert matrix.test.shape == (10, 10, 1)
    scored = read_scores(path("model_spider_baseline_scores.csv"), matrix)
    assert len(scored.targets) == 8 and len(scored.scores) == 9
