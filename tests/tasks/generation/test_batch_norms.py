from dataclasses import replace
from pathlib import Path

import torch
from make_tiny_zoo import tiny_header, tiny_rows

from weightzoo.loaders import load_zoo
from weightzoo.tasks.generation.batch_norms import condition
from weightzoo.tasks.generation.generated_zoo import draw_networks
from weightzoo.zoos.format import write_zoo_file
from weightzoo.zoos.images.catalog import Images, load_images
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.presets import preset

LAYERS = [
    {"kind": "conv", "out": 4, "kernel": 3},
    {"kind": "batch_norm"},
    {"kind": "activation"},
    {"kind": "flatten"},
    {"kind": "linear", "out": 3},
]


def test_statistics_of_models_become_those_of_the_images() -> None:
    architecture = Architecture.from_json({"name": "n", "input_shape": [1, 6, 6], "layers": LAYERS})
    table = architecture.layer_table()
    weights = torch.randn(2, table.width, generator=torch.Generator().manual_seed(0))
    pixels = torch.randn(128, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    images = Images(pixels, torch.zeros(128, dtype=torch.int64))
    done = table.split(condition(architecture, weights, "relu", images))
    for name, before in table.split(weights).items():
        assert torch.equal(done[name], before) == ("running" not in name and "num" not in name)
    own = table.split(weights)
    outputs = torch.nn.functional.conv2d(pixels, own["conv1.weight"][1], own["conv1.bias"][1])
    torch.testing.assert_close(done["batch_norm1.running_mean"][1], outputs.mean((0, 2, 3)))


def test_drawn_networks_have_the_statistics_of_the_train_images(tmp_path: Path) -> None:
    """Whatever the generator: here it draws normal values, also for the statistics."""
    layers = {"name": "n", "input_shape": [1, 28, 28], "layers": LAYERS}
    architecture = Architecture.from_json(layers)
    columns, weights = tiny_rows(architecture, ["train"])
    header = replace(tiny_header(architecture), recipe={"images": "digits"})
    write_zoo_file(tmp_path / "zoo.h5", header, columns, weights)
    train, table = load_zoo(tmp_path / "zoo.h5", split="train"), architecture.layer_table()

    def draw(count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, table.width, generator=generator)

    made = draw_networks(draw, lambda weights: weights, train, 2, seed=3)
    own = draw(2, torch.Generator().manual_seed(3))
    activation, images = train.columns["activation"][0], load_images("digits").train
    assert torch.equal(made, condition(architecture, own, activation, images))
    means = table.split(made)["batch_norm1.running_mean"]
    assert not torch.equal(means, table.split(own)["batch_norm1.running_mean"])


def test_models_without_batch_norm_stay_as_they_are() -> None:
    architecture = preset("cnn-s")
    weights = torch.zeros(1, architecture.layer_table().width)
    images = Images(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    assert condition(architecture, weights, "relu", images) is weights
