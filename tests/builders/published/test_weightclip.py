"""Zoos in the layout of WeightCLIP's training script, and folders of `wsl-modelzoo`."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_published_zoos import write_trial, zoo_rows
from torch import Tensor, nn

from weightzoo.builders.imports import import_zoo
from weightzoo.loaders import load_zoo


class CNN3(nn.Module):
    """The published network: dropout modules are there also for a rate of zero."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for given, out in ((3, 16), (16, 32), (32, 15)):
            layers += [nn.Conv2d(given, out, 3), nn.MaxPool2d(2, 2), nn.GELU(), nn.Dropout(0.0)]
        layers += [nn.Flatten(), nn.Linear(60, 20), nn.GELU(), nn.Dropout(0.0)]
        self.module_list = nn.ModuleList([*layers, nn.Linear(20, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.module_list:
            x = layer(x)
        return x


def write_run(root: Path, images: str, seed: int, outputs: int) -> dict[int, CNN3]:
    """One model as the published script writes it, evaluated at every second epoch."""
    folder = root / images / "cnn3" / f"tune_zoo_{images}_cnn3" / f"NN_tune_trainable_seed={seed}"
    folder.mkdir(parents=True)
    networks = {}
    for epoch in range(5):
        nan = float("nan")
        row = {"epoch": epoch, "train_loss": 2.0 - epoch / 10, "train_acc": 20.0 + epoch}
        row |= {"val_loss": nan, "val_acc": nan, "test_loss": nan, "test_acc": nan}
        if epoch % 2 == 0:
            row |= {"val_loss": 2.1, "val_acc": 21.0, "test_loss": 2.2, "test_acc": 22.0 + epoch}
        row |= {"learning_rate": 1e-3, "time_per_epoch": 1.5}
        with (folder / "result.json").open("a") as file:
            file.write(json.dumps(row) + "\n")
        if epoch >= 3:
            torch.manual_seed(100 * seed + epoch)
            networks[epoch] = CNN3(outputs)
            checkpoint = folder / f"checkpoint_{epoch:06d}"
            checkpoint.mkdir()
            torch.save(networks[epoch].state_dict(), checkpoint / "checkpoints")
            torch.save({"state": {}}, checkpoint / "optimizer")
    params: dict[str, Any] = {"seed": seed, "batch_size": 128, "lr": 0.001, "weight_decay": 0.01}
    params |= {"best_test_acc": 26.0, "model::type": "CNN3", "model::channels_in": 3}
    params |= {"model::o_dim": outputs, "model::nlin": "gelu", "model::dropout": 0.0}
    (folder / "params.json").write_text(json.dumps(params | {"model::init_type": "uniform"}))
    return networks


def packed(root: Path, images: str, outputs: int, models: int = 4) -> dict[int, dict[int, CNN3]]:
    """A tar.gz of one image set, as published."""
    made = {s: write_run(root / "raw", images, s, outputs) for s in range(1, models + 1)}
    with tarfile.open(root / f"{images}.tar.gz", "w:gz") as tar:
        tar.add(root / "raw" / images, arcname=images)
    return made


def test_archive_keeps_epochs_metrics_and_networks(tmp_path: Path) -> None:
    made = packed(tmp_path, "ct-images", outputs=4)
    source, out = tmp_path / "ct-images.tar.gz", tmp_path / "out"
    report = import_zoo("modelzoos-raw", source, out, progress=False)
    assert (report.models, report.rows, report.refused) == (4, 8, ())
    columns, _ = zoo_rows(out)
    assert sorted(set(columns["epoch"])) == [3, 4] and set(columns["images"]) == {"ct-images"}
    accuracy = dict(zip(columns["epoch"].tolist(), columns["test_accuracy"].tolist(), strict=True))
    assert np.isnan(accuracy[3]) and abs(accuracy[4] - 0.26) < 1e-6
    assert set(columns["status"]) == {"ok"}  # what was not measured did not diverge
    assert set(columns["batch_size"]) == {128} and set(columns["activation"]) == {"gelu"}
    images = torch.randn(2, 3, 32, 32)
    for split in load_zoo(out).values():
        for index, (seed, epoch) in enumerate(
            zip(split.columns["seed"], split.columns["epoch"], strict=True)
        ):
            wanted: Any = made[int(seed)][int(epoch)]
            torch.testing.assert_close(split.module(index)(images), wanted(images))


def test_image_sets_of_other_classes_are_zoos_beside_each_other(tmp_path: Path) -> None:
    for images, outputs in (("ct-images", 4), ("four-shapes", 7)):
        for seed in range(3):
            write_run(tmp_path / "in", images, seed, outputs)
    report = import_zoo("modelzoos-raw", tmp_path / "in", tmp_path / "out", progress=False)
    assert [zoo.models for zoo in report.zoos] == [3, 3] and report.refused == ()
    assert {zoo.architecture for zoo in report.zoos} == {"cnn-l"}


def test_diverged_networks_stay_diverged(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / "in", "asl", seed, 4)
    path = next((tmp_path / "in").rglob("*seed=1/result.json"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[4] |= {"test_loss": float("nan")}  # with an accuracy: it was measured
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_zoo("modelzoos-raw", tmp_path / "in", tmp_path / "out", progress=False)
    columns, _ = zoo_rows(tmp_path / "out")
    diverged = columns["status"] == "diverged"
    assert columns["seed"][diverged].tolist() == [1]
    assert columns["epoch"][diverged].tolist() == [4]


def test_folders_of_wsl_modelzoo_with_some_checkpoints_come_in(tmp_path: Path) -> None:
    """The tool keeps the paths of its server and fetches the checkpoints one asks for."""
    zoo = tmp_path / "downloads/core-modelzoo/cnn-small/mnist/tune_zoo_mnist_uniform"
    zoo.mkdir(parents=True)
    states = {}
    for index in range(4):
        folder, states[folder_name(index)] = write_trial(zoo, index, epochs=(0, 5, 10))
        (folder / "progress.csv").write_text("training_iteration\n")
    (zoo / "index_dict.json").write_text("{}")
    report = import_zoo("modelzoos-raw", tmp_path / "downloads", tmp_path / "out", progress=False)
    assert (report.models, report.rows, report.refused) == (4, 12, ())
    columns, weights = zoo_rows(tmp_path / "out")
    for row, (name, epoch) in enumerate(zip(columns["model_name"], columns["epoch"], strict=True)):
        wanted = torch.cat([v.flatten() for v in states[name][int(epoch)].values()])
        np.testing.assert_array_equal(weights[row], wanted.numpy())


def folder_name(index: int) -> str:
    from make_published_zoos import trial_name

    return trial_name(index, index + 1)
