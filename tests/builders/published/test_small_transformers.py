from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_published_zoos import flatten, zoo_rows
from torch import Tensor

from weightzoo.builders.imports import import_zoo
from weightzoo.zoos.errors import BuildError

EPOCHS = ("1", "50", "75", "best")
HEAD = "seed,optimizer,lr,w_init_std,l2_regularize,train_fraction,dropout,ckpt_epoch,ckpt_file"


def transformer(seed: int, embeds: bool) -> dict[str, Tensor]:
    """Tensors of the published class, at width 4: two blocks without biases in the attention."""
    torch.manual_seed(seed)
    state: dict[str, Tensor] = {}
    if embeds:
        state["embedding.conv1.weight"] = torch.randn(4, 1, 4, 4)
        state["embedding.conv1.bias"] = torch.randn(4)
        state["embedding.pos_embedding"] = torch.randn(49, 4)
    for block in (0, 1):
        for part in ("queries", "keys", "values", "out_projection"):
            state[f"encoder.{block}.attention.{part}.weight"] = torch.randn(4, 4)
        state[f"encoder.{block}.fc1.weight"] = torch.randn(8, 4)
        state[f"encoder.{block}.fc1.bias"] = torch.randn(8)
    state["classifier.fc2.weight"] = torch.randn(10, 4)
    return state


def write_zoo(root: Path, task: str, accuracy: str) -> dict[str, Tensor]:
    """Write one task as published; return the flat weights by file name."""
    (root / task).mkdir(parents=True)
    (root / "metadata").mkdir(exist_ok=True)
    lines, wanted = [f"{HEAD},{accuracy}"], {}
    for run in range(4):
        for number, epoch in enumerate(EPOCHS):
            file = f"run-{run}_{epoch}_{1000 * number + run}.pt"
            state = transformer(10 * run + number, task == "mnist")
            wanted[file] = flatten(state)
            torch.save(state, root / task / file)
            lines.append(f"{run},adam,0.00{run + 1},0.02,0,1.0,0.1,{epoch},{file},0.{number}")
    (root / "metadata" / f"{task}.csv").write_text("\n".join(lines))
    return wanted


def imported(tmp_path: Path) -> Any:
    return import_zoo("small-transformers", tmp_path / "in", tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("task", "accuracy"), [("mnist", "test_top1_accuracy"), ("ag_news", "test_accuracy")]
)
def test_checkpoints_of_a_run_are_one_model(task: str, accuracy: str, tmp_path: Path) -> None:
    wanted = write_zoo(tmp_path / "in", task, accuracy)
    if task == "ag_news":
        torch.save({"weight": torch.randn(9, 4)}, tmp_path / "in/ag_news/embedding.pt")
    report = imported(tmp_path)
    columns, weights = zoo_rows(tmp_path / "out")
    assert (report.models, report.rows, report.refused) == (4, 16, ())
    for index, name in enumerate(columns["model_name"]):
        run, epoch = int(name[-1]), columns["checkpoint"][index]
        number = EPOCHS.index(epoch)
        assert columns["epoch"][index] == (-1 if epoch == "best" else int(epoch))
        assert columns["seed"][index] == run and columns["lr"][index] == (run + 1) / 1000
        assert columns["test_accuracy"][index] == pytest.approx(number / 10)
        file = f"run-{run}_{epoch}_{1000 * number + run}.pt"
        np.testing.assert_array_equal(weights[index], wanted[file])
    for model in range(4):
        assert len({*columns["split"][columns["model_id"] == model]}) == 1


def test_lines_without_weights_and_the_reverse_are_listed(tmp_path: Path) -> None:
    write_zoo(tmp_path / "in", "mnist", "test_top1_accuracy")
    (tmp_path / "in/mnist/run-0_1_0.pt").rename(tmp_path / "in/mnist/run-9_1_0.pt")
    report = imported(tmp_path)
    assert report.rows == 15
    assert {r.model: r.reason for r in report.refused} == {
        "mnist/run-0_1_0.pt": "a line in the table without weights",
        "mnist/run-9_1_0.pt": "weights without a line in the table",
    }


def test_table_without_the_file_column_is_an_error(tmp_path: Path) -> None:
    write_zoo(tmp_path / "in", "mnist", "test_top1_accuracy")
    (tmp_path / "in/metadata/mnist.csv").write_text("seed,lr\n1,0.1\n")
    with pytest.raises(BuildError, match="needs the columns ckpt_file and ckpt_epoch"):
        imported(tmp_path)
