"""Write the small CNN zoo in the structure in which it is published."""

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = [
    ("sequential/conv2d/bias:0", (16,)),
    ("sequential/conv2d/kernel:0", (3, 3, 1, 16)),
    ("sequential/conv2d_1/bias:0", (16,)),
    ("sequential/conv2d_1/kernel:0", (3, 3, 16, 16)),
    ("sequential/conv2d_2/bias:0", (16,)),
    ("sequential/conv2d_2/kernel:0", (3, 3, 16, 16)),
    ("sequential/dense/bias:0", (10,)),
    ("sequential/dense/kernel:0", (16, 10)),
]
STEPS = (0, 1, 86)


def layout() -> str:
    lines, at = ["varname,start_idx,end_idx,shape"], 0
    for name, shape in SHAPES:
        stop = at + int(np.prod(shape))
        lines.append(f'{name},{at},{stop},"{shape}"')
        at = stop
    return "\n".join(lines) + "\n"


def metrics_row(model: int, step: int) -> dict[str, Any]:
    return {
        "": f"/namespace/gg-d/home/dnnzoo/{model}/permanent_ckpt-{step}",
        "config.activation": "relu" if model % 2 else "tanh",
        "config.b_init": "zeros",
        "config.dataset": "svhn_cropped",
        "config.dropout": 0.1 * model,
        "config.epochs": 86,
        "config.init_std": 0.02,
        "config.l2reg": 1e-5,
        "config.learning_rate": 0.01,
        "config.optimizer": "RMSProp",
        "config.random_seed": 42,
        "config.train_fraction": 0.5,
        "config.w_init": "he_normal",
        "modeldir": f"/namespace/gg-d/home/dnnzoo/{model}",
        "step": step,
        "test_accuracy": 0.1 + step / 200,
        "test_loss": "" if (model, step) == (1, 86) else 2.0,
        "train_accuracy": 0.2 + step / 200,
        "train_loss": 1.5,
    }


def write_zoo(folder: Path, models: int = 6) -> np.ndarray:
    """Write the three files, rows of a model apart from each other; return the weights."""
    folder.mkdir(parents=True)
    rows = [metrics_row(model, step) for step in STEPS for model in reversed(range(models))]
    width = sum(int(np.prod(shape)) for _, shape in SHAPES)
    weights = np.random.default_rng(0).normal(size=(len(rows), width)).astype(np.float32)
    np.save(folder / "weights.npy", weights)
    with gzip.open(folder / "metrics.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "layout.csv").write_text(layout())
    return weights
