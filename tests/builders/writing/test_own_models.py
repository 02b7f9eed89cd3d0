"""`write_zoo`: what is written is read again, and what does not fit is refused before any file."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from torch import Tensor, nn

from weightzoo import load_zoo, write_zoo
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.networks.layer_table import LayerTable

NAMED: dict[str, Any] = {"name": "mine", "licence": "mit"}


def mlp(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), activation(), nn.Dropout(0.1), nn.Linear(5, 3))


@pytest.fixture
def mlps() -> list[nn.Module]:
    torch.manual_seed(0)
    return [mlp(nn.Tanh if index % 2 else nn.ReLU).eval() for index in range(10)]


def all_rows(folder: Path) -> dict[int, tuple[Any, int]]:
    """(dataset, row) by model."""
    zoo = load_zoo(folder)
    return {
        int(model): (part, row)
        for part in zoo.values()
        for row, model in enumerate(part.columns["model_id"])
    }


def test_modules_are_rebuilt_from_the_zoo(tmp_path: Path, mlps: list[nn.Module]) -> None:
    accuracy = np.linspace(0, 1, 10)
    written = write_zoo(tmp_path / "z", iter(mlps), {"test_accuracy": accuracy}, **NAMED)
    assert (written.models, written.rows, written.splits) == (
        10,
        10,
        {"train": 7, "val": 2, "test": 1},
    )
    inputs = torch.randn(6, 4)
    for model, (part, row) in all_rows(tmp_path / "z").items():
        torch.testing.assert_close(part.module(row)(inputs), mlps[model](inputs))
        assert part.columns["activation"][row] == ("tanh" if model % 2 else "relu")
        assert part.columns["test_accuracy"][row] == np.float32(accuracy[model])
    assert all(check.passed is not False for check in verify_zoo(tmp_path / "z"))
    assert "license: mit" in (tmp_path / "z" / "README.md").read_text()
    assert not (tmp_path / "z.partial").exists()


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


def test_unknown_module_is_kept_as_state_dicts_and_says_so(tmp_path: Path) -> None:
    modules = [Odd() for _ in range(3)]
    with pytest.warns(UserWarning, match="kept as state dicts only, because .*no chain of layers"):
        written = write_zoo(tmp_path / "z", modules, **NAMED)
    assert written.architecture is None and "state dicts only" in written.note
    part, row = all_rows(tmp_path / "z")[2]
    assert torch.equal(part.state_dict(row)["layer.weight"], modules[2].layer.weight)
    assert "state dicts only" in (tmp_path / "z" / "README.md").read_text()


def test_state_dicts_take_the_architecture_of_a_module(
    tmp_path: Path, mlps: list[nn.Module]
) -> None:
    states = (module.state_dict() for module in mlps[::2])
    written = write_zoo(tmp_path / "z", states, architecture=mlp(), **NAMED)
    part, row = all_rows(tmp_path / "z")[1]
    inputs = torch.randn(6, 4)
    torch.testing.assert_close(part.module(row)(inputs), mlps[2](inputs))
    assert written.note == ""
    assert part.header.recipe["tensor_names"]["linear2.bias"] == "3.bias"


def test_array_is_written_with_a_layer_table(tmp_path: Path, mlps: list[nn.Module]) -> None:
    table = LayerTable.from_module(mlps[0])
    rows = np.random.default_rng(0).random((6, table.width))
    columns = {"model_id": [0, 0, 0, 1, 1, 1], "epoch": [2, 1, 0, 0, 1, 2]}
    written = write_zoo(tmp_path / "z", rows, columns, architecture=table, **NAMED)
    assert "state dicts only, because a layer table does not say" in written.note
    zoo = load_zoo(tmp_path / "z")
    first = next(part for part in zoo.values() if 0 in part.columns["model_id"]).trajectory(0)
    assert first.columns["epoch"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(first.weights().numpy(), rows[[2, 1, 0]].astype(np.float32))


@pytest.mark.parametrize("make", [pandas.DataFrame, pyarrow.table, dict])
def test_tables_of_any_library_give_the_same_columns(
    tmp_path: Path, mlps: list[nn.Module], make: Any
) -> None:
    table = {"teacher": ["a", None, "b"], "width": [1, None, 3], "good": [True, False, True]}
    write_zoo(tmp_path / "z", mlps[:3], make(table), splits=["train"] * 3, **NAMED)
    columns = load_zoo(tmp_path / "z", split="train").columns
    assert columns["teacher"].tolist() == ["a", "", "b"]
    assert columns["good"].tolist() == [1, 0, 1] and columns["good"].dtype == np.int64
    np.testing.assert_array_equal(columns["width"], [1.0, np.nan, 3.0])


def test_splits_are_by_model_and_do_not_depend_on_the_order(
    tmp_path: Path, mlps: list[nn.Module]
) -> None:
    ids = np.repeat(np.arange(5), 2)
    columns = {"model_id": ids, "epoch": np.tile([0, 1], 5)}
    order = np.random.default_rng(1).permutation(10)
    backwards = {name: column[order] for name, column in columns.items()}
    shares = {"train": 0.6, "val": 0.2, "test": 0.2, "seed": 3}
    write_zoo(tmp_path / "a", mlps, columns, splits=shares, **NAMED)
    write_zoo(tmp_path / "b", [mlps[i] for i in order], backwards, splits=shares, **NAMED)
    a, b = load_zoo(tmp_path / "a"), load_zoo(tmp_path / "b")
    for split in ("train", "val", "test"):
        assert set(a[split].columns["model_id"]) == set(b[split].columns["model_id"])
    assert [len(part) for part in a.values()] == [6, 2, 2]


def test_children_take_the_splits_of_their_parents(tmp_path: Path, mlps: list[nn.Module]) -> None:
    write_zoo(tmp_path / "parent", mlps, **NAMED)
    of = list(range(9, -1, -1))
    child = {"parent_model_id": of, "parent_epoch": [-1] * 10}
    write_zoo(tmp_path / "child", mlps, child, parents=tmp_path / "parent", **NAMED)
    parents = all_rows(tmp_path / "parent")
    for part, row in all_rows(tmp_path / "child").values():
        parent = parents[int(part.columns["parent_model_id"][row])][0]
        assert parent.columns["split"][0] == part.columns["split"][row]
        assert (part.columns["relation"][row], part.columns["parent_zoo"][row]) == (
            "fine-tuned",
            "mine",
        )


def test_children_must_name_their_parents(tmp_path: Path, mlps: list[nn.Module]) -> None:
    write_zoo(tmp_path / "parent", mlps, **NAMED)
    parents = {"parents": tmp_path / "parent"} | NAMED
    with pytest.raises(ValueError, match="need the column parent_model_id"):
        write_zoo(tmp_path / "child", mlps, **parents)
    write_zoo(tmp_path / "child", mlps, {"relation": ["merged"] * 10}, **parents)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, partial(torch.compile, backend="eager")], ids=["parallel", "compiled"]
)
def test_wrappers_of_modules_are_seen_through(
    tmp_path: Path, mlps: list[nn.Module], wrap: Any
) -> None:
    write_zoo(tmp_path / "plain", mlps[::2], **NAMED)
    write_zoo(tmp_path / "modules", [wrap(module) for module in mlps[::2]], **NAMED)
    states = [wrap(module).state_dict() for module in mlps[::2]]
    assert all(name.startswith(("module.", "_orig_mod.")) for name in states[0])
    write_zoo(tmp_path / "states", states, architecture=mlp(), **NAMED)
    wanted = load_zoo(tmp_path / "plain", split="train").weights()
    for name in ("modules", "states"):
        found = load_zoo(tmp_path / name, split="train")
        assert torch.equal(found.weights(), wanted) and found.header.architecture is not None


def test_weights_that_are_not_finite_are_kept_as_diverged(
    tmp_path: Path, mlps: list[nn.Module]
) -> None:
    with torch.no_grad():
        mlps[3][0].weight[0, 0] = torch.nan  # type: ignore[index,union-attr]
    written = write_zoo(tmp_path / "z", mlps, **NAMED)
    part, row = all_rows(tmp_path / "z")[3]
    assert part.columns["status"][row] == "diverged" and written.diverged_rows == 1


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"columns": {"test_accuracy": [50.0] * 10}}, ValueError, "fractions from 0 to 1, got 50"),
        ({"columns": {"lr": [0.1] * 9}}, ValueError, "more models than the 9 rows"),
        ({"columns": {"lr": [0.1] * 11}}, ValueError, "10 models, and the columns have 11 rows"),
        ({"columns": {"lr": 0.1}}, TypeError, "one value per row, got the single value 0.1"),
        ({"columns": {"lr": [[1]] * 10}}, TypeError, "all of one kind, got \\[1\\]"),
        ({"columns": "lr"}, TypeError, "columns must be a dict"),
        ({"columns": {"my lr": [1] * 10}}, ValueError, "letters, digits and underscores"),
        ({"columns": {"split": ["dev"] * 10}}, ValueError, "got \\['dev'\\]"),
        ({"splits": {"train": 0.5}}, ValueError, "sum to 1"),
        ({"splits": "train"}, TypeError, "splits must be a seed"),
        ({"architecture": 3}, TypeError, "architecture must be an Architecture"),
        ({"licence": "My Own"}, ValueError, "licence must be written in"),
        ({"name": "a/b"}, ValueError, "name must be written in"),
        ({"columns": {"relation": ["pruned"] * 10}}, ValueError, "need the column parent_model"),
        ({"columns": {"relation": ["cloned"] * 10}}, ValueError, "relation must be one of"),
        ({"columns": {"epoch": [0] * 10, "model_id": [1] * 10}}, ValueError, "has a row of epoch"),
    ],
)
def test_wrong_arguments_are_refused_and_leave_nothing(
    tmp_path: Path, mlps: list[nn.Module], change: dict[str, Any], kind: Any, reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        write_zoo(tmp_path / "z", **({"models": mlps} | NAMED | change))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (mlp(), "single nn.Module"),
        (mlp().state_dict(), "got a dict"),
        (np.zeros(4), r"must be \(N, D\)"),
        (np.zeros((2, 4)), "flat weight vectors need architecture"),
        ([{"epoch": 3, "model": {}}], "got int under 'epoch'"),
        ([3], "must be a state dict"),
        ("models.pt", "iterable of state dicts"),
    ],
)
def test_models_of_other_types_are_refused(tmp_path: Path, models: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        write_zoo(tmp_path / "z", models, **NAMED)
    assert list(tmp_path.iterdir()) == []


def test_models_of_two_architectures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model 1: .*other tensors .*lacks \['3.bias'"):
        write_zoo(tmp_path / "z", [mlp(), nn.Sequential(nn.Linear(4, 3))], **NAMED)
    without_dropout = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Identity(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match="model 1: .*other layers than the first"):
        write_zoo(tmp_path / "z", [mlp(), without_dropout], **NAMED)


def test_whole_numbers_that_float32_rounds_are_refused(tmp_path: Path) -> None:
    state = {"weight": torch.zeros(2, 2), "count": torch.tensor(2**24 + 1)}
    with (
        pytest.warns(UserWarning, match="state dicts only"),
        pytest.raises(ValueError, match="'count' holds whole numbers up to 16777217"),
    ):
        write_zoo(tmp_path / "z", [state], **NAMED)


def test_taken_folder_is_refused_and_replaced_on_demand(
    tmp_path: Path, mlps: list[nn.Module]
) -> None:
    write_zoo(tmp_path / "z", mlps, **NAMED)
    with pytest.raises(BuildError, match="exists"):
        write_zoo(tmp_path / "z", mlps[:3], **NAMED)
    write_zoo(tmp_path / "z", mlps[:3], overwrite=True, **NAMED)
    assert len(all_rows(tmp_path / "z")) == 3


def test_models_are_taken_one_by_one(tmp_path: Path) -> None:
    """No model is alive when the next but one is asked for."""
    alive: list[int] = []

    class Counted(dict[str, Tensor]):
        def __del__(self) -> None:
            alive.pop()

    def states() -> Iterator[Counted]:
        for _ in range(20):
            assert len(alive) <= 2
            alive.append(1)
            yield Counted(mlp().state_dict())

    write_zoo(tmp_path / "z", states(), architecture=mlp(), **NAMED)
