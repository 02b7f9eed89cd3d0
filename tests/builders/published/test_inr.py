import json
from pathlib import Path
from typing import Any

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


def sine_inr(seed: int) -> dict[str, Any]:
    """A state dict as Navon's inr_trainer.py saves it, with the fitted sine."""
    state: dict[str, Any] = dict(siren(seed, inputs=1))
    x = torch.linspace(-1, 1, 50)[:, None]
    return state | {"coef": [float(seed), 2.5], "x": x, "y": torch.sin(x)}


def test_sine_inrs_keep_the_coefficients_of_their_sine(tmp_path: Path) -> None:
    for seed in range(5):
        write(tmp_path / "sine" / f"model_{seed}.pth", sine_inr(seed))
    report = import_zoo("inr-pth", tmp_path / "sine", tmp_path / "out", progress=False)
    columns, weights = columns_and_weights(tmp_path / "out")
    assert (report.models, report.refused, report.zoos[0].architecture) == (5, (), "inr")
    for index, name in enumerate(columns["model_name"]):
        seed = int(name[-1])
        assert (columns["coef_1"][index], columns["coef_2"][index]) == (seed, 2.5)
        np.testing.assert_array_equal(weights[index], flatten(siren(seed, inputs=1)))
    assert "x, y" in report.notes[0]


def zhou_siren(seed: int, outputs: int = 1) -> dict[str, Tensor]:
    """A state dict of Zhou's Siren: sine layers hold a linear layer, the last one is linear."""
    torch.manual_seed(seed)
    sizes = {"net.0.linear": (2, 32), "net.1.linear": (32, 32), "net.2": (32, outputs)}
    return {
        f"{name}.{key}": value
        for name, (given, out) in sizes.items()
        for key, value in nn.Linear(given, out).state_dict().items()
    }


@pytest.mark.parametrize("outputs", [1, 3])
def test_rebuilt_siren_of_zhou_gives_the_published_outputs(outputs: int, tmp_path: Path) -> None:
    for index in range(6):
        path = tmp_path / "in" / f"randinit_smaller_{index}s" / f"net{index}.pth"
        write(path, zhou_siren(index, outputs))
    report = import_zoo("inr-pth", tmp_path / "in", tmp_path / "out", progress=False)
    zoo = load_zoo(tmp_path / "out", split="train")
    state = zhou_siren(int(zoo.columns["image_id"][0]), outputs)
    x = hidden = torch.rand(7, 2) * 2 - 1
    for name in ("net.0.linear", "net.1.linear"):
        hidden = torch.sin(30 * (hidden @ state[f"{name}.weight"].T + state[f"{name}.bias"]))
    wanted = hidden @ state["net.2.weight"].T + state["net.2.bias"]
    torch.testing.assert_close(zoo.module(0)(x), wanted, rtol=1e-4, atol=1e-4)
    assert report.zoos[0].architecture == "siren"


def test_positional_encoding_is_said(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / "in" / f"net{index}.pth", siren(index, inputs=40))
    report = import_zoo("inr-pth", tmp_path / "in", tmp_path / "out", progress=False)
    assert any("takes 40 inputs: a positional encoding" in note for note in report.notes)


def test_copies_of_one_image_are_in_one_split(tmp_path: Path) -> None:
    for image in range(12):
        for prefix in ("randinit_smaller", "randinit_smaller_aug0", "randinit_smaller_aug1"):
            path = tmp_path / "in" / f"{prefix}_{image % 3}s" / f"net{image}.pth"
            write(path, zhou_siren(image))
    report = import_zoo("inr-pth", tmp_path / "in", tmp_path / "out", progress=False)
    columns, _ = columns_and_weights(tmp_path / "out")
    assert len(report.zoos[0].splits) == 3 and min(report.zoos[0].splits.values()) >= 3
    for image in range(12):
        assert len({*columns["split"][columns["image_id"] == image]}) == 1
    assert sorted({*columns["augmentation"]}) == [-1, 0, 1]


def test_published_json_of_splits_is_read(tmp_path: Path) -> None:
    """DWSNets' mnist_splits.json lists absolute paths of its authors' machine."""
    splits: dict[str, Any] = {name: {"path": [], "label": []} for name in ("train", "test", "val")}
    for index in range(9):
        folder = f"mnist_png_training_{index}_{index}"
        write(tmp_path / "in" / folder / "checkpoints/model_final.pth", siren(index))
        name = ("train", "val", "test")[index % 3]
        path = f"/home/author/dataset/{folder}/checkpoints/model_final.pth"
        splits[name]["path"].append(path)
        splits[name]["label"].append(str(index))
    (tmp_path / "mnist_splits.json").write_text(json.dumps(splits))
    import_zoo(
        "inr-pth",
        tmp_path / "in",
        tmp_path / "out",
        split_file=tmp_path / "mnist_splits.json",
        progress=False,
    )
    columns, _ = columns_and_weights(tmp_path / "out")
    for label, split in zip(columns["label"], columns["split"], strict=True):
        assert split == ("train", "val", "test")[label % 3]


def test_published_csv_of_image_numbers_is_read(tmp_path: Path) -> None:
    """Zhou's file is a shuffle of the images: 45 of 60 train, 5 val, 10 test."""
    for image in range(60):
        path = tmp_path / "in" / f"randinit_smaller_{image % 10}s" / f"net{image}.pth"
        write(path, zhou_siren(image))
    write(tmp_path / "in/randinit_smaller_aug0_7s/net7.pth", zhou_siren(7))
    order = np.random.default_rng(0).permutation(60)
    (tmp_path / "order.csv").write_text("\n".join(map(str, order)))
    report = import_zoo(
        "inr-pth",
        tmp_path / "in",
        tmp_path / "out",
        split_file=tmp_path / "order.csv",
        progress=False,
    )
    columns, _ = columns_and_weights(tmp_path / "out")
    assert report.models == 61
    for image, split in zip(columns["image_id"], columns["split"], strict=True):
        place = int(np.flatnonzero(order == image)[0])
        assert split == ("train" if place < 45 else "val" if place < 50 else "test")
