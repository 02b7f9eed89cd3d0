"""ResNet-18 as Model Zoos publishes it: torchvision's names, batch-norm buffers."""

import json
from pathlib import Path

import pytest
import torch
from make_published_zoos import flatten, trial_name
from torch import Tensor, nn
from torch.nn import functional as F

from weightzoo.builders.importing.resnet import rename_resnet18
from weightzoo.builders.imports import import_zoo
from weightzoo.loaders import load_zoo

WIDTH = 4


class Block(nn.Module):
    """torchvision's BasicBlock by its names."""

    def __init__(self, given: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        if stride > 1 or given != out:
            shortcut = nn.Conv2d(given, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    """torchvision's ResNet-18 by its names, a 16th as wide, with the published changes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        given = WIDTH
        for stage in range(4):
            out = WIDTH * 2**stage
            blocks = [Block(given, out, 2 if stage else 1), Block(out, out, 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            given = out
        self.fc = nn.Linear(given, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


def write_zoo(folder: Path, models: int = 6) -> list[ResNet18]:
    nets = []
    for index in range(models):
        torch.manual_seed(index)
        net = ResNet18()
        net.train()(torch.randn(8, 3, 32, 32))  # moves the buffers
        trial = folder / trial_name(index, index + 1)
        (trial / "checkpoint_000060").mkdir(parents=True)
        torch.save(net.state_dict(), trial / "checkpoint_000060" / "checkpoints")
        config = {"model::type": "Resnet18", "model::nlin": "relu", "seed": index + 1}
        (trial / "params.json").write_text(json.dumps(config))
        result = {"training_iteration": 60, "test_acc": 0.9, "test_loss": 0.4, "config": config}
        (trial / "result.json").write_text(json.dumps(result) + "\n")
        nets.append(net.eval())
    return nets


def test_resnet_zoo_gets_its_architecture_and_outputs(tmp_path: Path) -> None:
    nets = write_zoo(tmp_path / "zoo")
    report = import_zoo("modelzoos-raw", tmp_path / "zoo", tmp_path / "out", progress=False)
    assert report.zoos[0].architecture == "resnet18" and report.models == 6
    train = load_zoo(tmp_path / "out", split="train")
    net = nets[int(train.columns["seed"][0]) - 1]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(train.module(0)(images), net(images), rtol=1e-4, atol=1e-5)


def test_resnet_rows_keep_torchvisions_order(tmp_path: Path) -> None:
    """Ours has the shortcut after the body and the stem first, as torchvision has."""
    nets = write_zoo(tmp_path / "zoo")
    import_zoo("modelzoos-raw", tmp_path / "zoo", tmp_path / "out", progress=False)
    train = load_zoo(tmp_path / "out", split="train")
    state = nets[int(train.columns["seed"][0]) - 1].state_dict()
    assert torch.equal(train.weights([0])[0], torch.as_tensor(flatten(state)))


@pytest.mark.parametrize("name", ["layer5.0.conv1.weight", "layer1.2.conv1.weight", "head.bias"])
def test_other_names_are_no_resnet18(name: str) -> None:
    assert rename_resnet18({"conv1.weight": 0, name: 1}) is None
