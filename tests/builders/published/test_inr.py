from pathlib import Path

import numpy as np
import pytest
import torch
from make_published_zoos import flatten
from torch import Tensor, nn

from weightzoo.builders.imports import import_zoo
from weightzoo.loaders import load_zoo
from weightzoo.zoos.index import ZooIndex


def siren(seed: int, inputs: int = 2) -> dict[str, Tensor]:
    """The state dict of an INR with two hidden layers of 32."""
    torch.manual_seed(seed)
    layers = [nn.Linear(inputs, 32), nn.Linear(32, 32), nn.Linear(32, 1)]
    return {f"seq.{name}": value for name, value in nn.Sequential(*layers).state_dict().items()}


def write(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return state


def columns_and_weights(out: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    files = ZooIndex.read(out).open(out)
    parts = [file.read_columns() for file in files]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns, np.concatenate([np.array(file.map_weights()) for file in files])


def test_navon_folders_give_label_and_image(tmp_path: Path) -> None:
    states = {}
    for index, part in enumerate(["training", "testing"] * 4):
        folder = f"mnist_png_{part}_{index}_{100 + index}"
        path = tmp_path / "mnist-inrs" / folder / "checkpoints" / "model_final.pth"
        states[folder] = write(path, siren(index))
    report = import_zoo("inr-pth", tmp_path / "mnist-inrs", tmp_path / "out", progress=False)
    columns, weights = columns_and_weights(tmp_path / "out")
    assert report.models == 8 and report.zoos[0].parameters == 1185
    assert report.zoos[0].architecture == "inr"
    for index, name in enumerate(columns["model_name"]):
        np.testing.assert_array_equal(weights[index], flatten(states[name]))
        label = int(columns["label"][index])
        assert columns["image_id"][index] == 100 + label
        assert columns["image_split"][index] == ("train", "test")[label % 2]
    assert set(columns["epoch"]) == {-1} and set(columns["seed"]) == {-1}


def test_zhou_folders_give_label_and_image(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / "wts" / f"randinit_test_{index % 3}s" / f"net{index}.pth", siren(index))
    import_zoo("inr-pth", tmp_path / "wts", tmp_path / "out", progress=False)
    columns, _ = columns_and_weights(tmp_path / "out")
    assert (columns["label"] == columns["image_id"] % 3).all()
    assert set(columns["model_name"]) == {f"randinit_test_{i % 3}s/net{i}" for i in range(6)}


@pytest.mark.parametrize("legacy", [False, True])
def test_sine_regression_nets_have_their_published_size(legacy: bool, tmp_path: Path) -> None:
    (tmp_path / "sine").mkdir()
    for index in range(4):
        path = tmp_path / "sine" / f"sine_{index}.pth"
        torch.save(siren(index, inputs=1), path, _use_new_zipfile_serialization=not legacy)
    report = import_zoo("inr-pth", tmp_path / "sine", tmp_path / "out", progress=False)
    assert report.zoos[0].parameters == 1153
    (file, *_) = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    names = [tensor.name for tensor in file.header.layer_table]
    assert names[:2] == ["linear1.weight", "linear1.bias"]
    assert {tensor.kind for tensor in file.header.layer_table} == {"linear"}


def test_damaged_files_are_reported(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / "inrs" / f"net{index}.pth", siren(index))
    whole = (tmp_path / "inrs" / "net1.pth").read_bytes()
    (tmp_path / "inrs" / "net1.pth").write_bytes(whole[:500])
    report = import_zoo("inr-pth", tmp_path / "inrs", tmp_path / "out", progress=False)
    assert report.models == 2
    assert [refused.model for refused in report.refused] == ["net1"]
    assert "truncated or damaged" in report.refused[0].reason


def test_rebuilt_inr_is_a_siren_with_an_offset(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / "in" / f"net{index}.pth", siren(index))
    import_zoo("inr-pth", tmp_path / "in", tmp_path / "out", progress=False)
    row = load_zoo(tmp_path / "out", split="train")
    state = siren(int(row.columns["model_name"][0].removeprefix("net")))
    x = torch.rand(7, 2)
    hidden = x
    for layer in (0, 1):
        hidden = torch.sin(
            30 * (hidden @ state[f"seq.{layer}.weight"].T + state[f"seq.{layer}.bias"])
        )
    wanted = hidden @ state["seq.2.weight"].T + state["seq.2.bias"] + 0.5
    torch.testing.assert_close(row.module(0)(x), wanted, rtol=1e-4, atol=1e-4)


def test_other_names_have_no_architecture(tmp_path: Path) -> None:
    for index in range(6):
        state = {f"net.{name}": value for name, value in siren(index).items()}
        write(tmp_path / "in" / f"net{index}.pth", state)
    report = import_zoo("inr-pth", tmp_path / "in", tmp_path / "out", progress=False)
    assert report.zoos[0].architecture == "unknown"
