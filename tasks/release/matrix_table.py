"""The ranking matrix as a table that stock `datasets` reads: one row per model, target and seed."""

from pathlib import Path

import h5py
import numpy as np

from ..ranking.matrix import Matrix

TABLE_NAME = "table.h5"


def matrix_columns(matrix: Matrix) -> dict[str, np.ndarray]:
    """Columns of the table, by name, (N,) each; N = models x targets x seeds.

    Text columns are arrays of str objects. Rows are in the order of the matrix.
    """
    models, targets, seeds = matrix.test.shape
    shape = (models, targets, seeds)
    columns: dict[str, np.ndarray] = {
        "model": _spread(np.array(matrix.models, object), 0, shape),
        "target": _spread(np.array(matrix.targets, object), 1, shape),
        "family": _spread(np.array(matrix.families, object), 1, shape),
        "seed": _spread(np.arange(seeds), 2, shape),
    }
    columns |= {name: _spread(column, 0, shape) for name, column in matrix.columns.items()}
    columns |= {f"{name}_accuracy": getattr(matrix, name).reshape(-1) for name in ("test", "val")}
    return columns | {"seconds": matrix.seconds.reshape(-1)}


def write_matrix_table(folder: Path, matrix: Matrix) -> Path:
    """Write the table and return its path.

    Args:
        folder: folder of the file, which is replaced if it is there.
        matrix: matrix to write.
    """
    path = folder / TABLE_NAME
    with h5py.File(path, "w") as file:
        for name, column in matrix_columns(matrix).items():
            text = column.dtype.kind == "O"
            data = column.tolist() if text else column
            file.create_dataset(name, data=data, dtype=h5py.string_dtype() if text else None)
    return path


def plot_matrix(matrix: Matrix, path: Path) -> None:
    """Draw the mean accuracy of every model on every target as a heat map.

    Args:
        matrix: matrix to draw.
        path: path of the PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    order = np.argsort(-np.nan_to_num(matrix.accuracy).mean(axis=1), kind="stable")
    figure, axis = plt.subplots(figsize=(6, 6), constrained_layout=True)
    image = axis.imshow(matrix.accuracy[order], vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(matrix.targets)), matrix.targets, rotation=45, ha="right", fontsize=7)
    axis.set_ylabel(f"{len(order)} models, best mean accuracy first")
    figure.colorbar(image, ax=axis, label="test accuracy after fine-tuning")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _spread(values: np.ndarray, axis: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Values of one axis, repeated over the others."""
    view = [1, 1, 1]
    view[axis] = shape[axis]
    return np.broadcast_to(values.reshape(view), shape).reshape(-1)
