"""Flows: planted distributions are learned, models are aligned, and folders hold all of it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows
from torch import Tensor

from weightzoo.loaders import HiddenPermutations, ZooDataset, load_zoo
from weightzoo.tasks.autoencoding.token_autoencoder import Origin
from weightzoo.tasks.flow_matching import flow_training
from weightzoo.tasks.flow_matching.flow_training import FieldTraining, train_flow_matching
from weightzoo.tasks.flow_matching.saved import load_flow
from weightzoo.tasks.flow_matching.settings import FlowSettings
from weightzoo.tasks.flow_matching.weight_flow import Coordinates, draw_points
from weightzoo.tasks.pretrained import (
    from_pretrained,
    load_trained_autoencoder,
    load_trained_generator,
    save_pretrained,
)
from weightzoo.tasks.training.checkpoints import TrainingCheckpoint
from weightzoo.tasks.training.model_folder import ModelFormatError
from weightzoo.zoos.errors import DivergedError
from weightzoo.zoos.format import write_zoo_file

SMALL: dict[str, Any] = {"widths": (32, 32), "progress": False, "steps": 20, "top": 1.0}
TINY = FlowSettings(**SMALL | {"widths": (8,), "epochs": 2})


def mixture(count: int, seed: int) -> Tensor:
    """Points around two centres, 3 to 1, each with correlated values."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[1.5, 0.0, 0.5], [-1.5, 1.0, -0.5]])
    chosen = (torch.rand(count, generator=generator) < 0.25).long()
    noise = torch.randn(count, 3, generator=generator)
    return centres[chosen] + noise @ torch.tensor([[0.3, 0.2, 0.0], [0.0, 0.2, 0.0], [0.0, 0, 0.4]])


@pytest.fixture(scope="module")
def drawn() -> Tensor:
    settings = FlowSettings(
        **SMALL | {"epochs": 30, "batch_size": 100, "lr": 1e-2, "averaging": 0.98}
    )
    training = FieldTraining(mixture(1000, 0), mixture(200, 1), settings)
    training.run()
    start = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    return draw_points(training.field, start, settings)


def test_flow_draws_the_mean_and_covariance_of_a_mixture(drawn: Tensor) -> None:
    true = mixture(1000, 0)
    torch.testing.assert_close(drawn.mean(0), true.mean(0), atol=0.08, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), true.T.cov(), atol=0.12, rtol=0)


def test_flow_draws_both_centres_and_little_between(drawn: Tensor) -> None:
    """A gaussian of the same mean and covariance has 25 % of its points between the centres."""
    first = drawn[:, 0]
    assert 0.2 < (first < 0).float().mean() < 0.3
    assert (first.abs() < 0.5).float().mean() < 0.05


def write_zoo(folder: Path, weights: Tensor) -> dict[str, ZooDataset]:
    """Models with one checkpoint of three equal rows each, 40 of them to train on."""
    architecture = tiny_architecture()
    columns, _ = tiny_rows(architecture, ["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    path = folder / "zoo.h5"
    write_zoo_file(
        path, tiny_header(architecture), columns, weights.repeat_interleave(3, 0).numpy()
    )
    return load_zoo(path)


@pytest.fixture
def permuted(tmp_path: Path) -> dict[str, ZooDataset]:
    """Sixty copies of one network with hidden units in random order, and a little noise."""
    architecture = tiny_architecture()
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(architecture.layer_table().width, generator=generator)
    copies = one + 0.01 * torch.randn(60, len(one), generator=generator)
    permutations = HiddenPermutations.of(architecture)
    orders = permutations.random_permutations(generator, 60)
    return write_zoo(tmp_path, permutations.apply(copies, orders))


@pytest.mark.parametrize("components", [0, 3])
def test_permuted_copies_are_one_mode_after_alignment_alone(
    permuted: dict[str, ZooDataset], components: int
) -> None:
    spreads = []
    for aligned in (True, False):
        chosen = {"epochs": 10, "aligned": aligned, "components": components}
        flow = train_flow_matching(
            permuted["train"], permuted["val"], FlowSettings(**SMALL | chosen)
        )
        made = flow.sample(50, torch.Generator().manual_seed(0))
        spreads.append(float(made.std(0).mean()))
    assert spreads[0] < 0.03 and spreads[1] > 0.2


def test_equal_seeds_give_equal_networks_and_others_do_not(
    permuted: dict[str, ZooDataset],
) -> None:
    settings = FlowSettings(**SMALL | {"epochs": 2, "dropout": 0.1})
    made = []
    for training, drawing in ((0, 0), (0, 0), (1, 0), (0, 1)):
        torch.manual_seed(len(made))  # the state outside counts for nothing
        flow = train_flow_matching(permuted["train"], permuted["val"], settings, seed=training)
        made.append(flow.sample(3, torch.Generator().manual_seed(drawing)))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2]) and not torch.equal(made[0], made[3])


class StoppingCheckpoint(TrainingCheckpoint):
    """A checkpoint after whose second state the process is stopped."""

    written = 0

    def write(self, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        super().write(identity, state)
        self.written += 1
        if self.written == 2:
            raise KeyboardInterrupt


def test_resumed_training_gives_the_same_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_training, "CHECKPOINT_SECONDS", 0.0)
    points, val = mixture(64, 0), mixture(32, 1)
    settings = FlowSettings(**SMALL | {"epochs": 4, "dropout": 0.1})
    whole, stopped, resumed = (FieldTraining(points, val, settings) for _ in range(3))
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        stopped.run(StoppingCheckpoint(tmp_path))
    assert len(stopped.history) == 2
    assert resumed.run(TrainingCheckpoint(tmp_path)) == whole.history
    start = torch.ones(3, 3)
    assert torch.equal(*(draw_points(one.field, start, settings) for one in (whole, resumed)))
    other = FieldTraining(points, val, settings, seed=1)
    with pytest.raises(ValueError, match="training run with other"):
        other.run(TrainingCheckpoint(tmp_path))


def test_coordinates_come_back_and_components_project() -> None:
    weights = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1
    for components in (0, 6):
        coordinates = Coordinates.fit(weights, components)
        points = coordinates.apply(weights)
        torch.testing.assert_close(coordinates.inverse(points), weights)
        torch.testing.assert_close(points.square().mean(), torch.tensor(1.0))
    fewer = Coordinates.fit(weights, 2)
    assert fewer.apply(weights).shape == (20, 2)
    assert Coordinates.fit(weights[:4], 6).values == 3  # rows of a mean have no more directions
    twice = fewer.inverse(fewer.apply(fewer.inverse(fewer.apply(weights))))
    torch.testing.assert_close(twice, fewer.inverse(fewer.apply(weights)))


@pytest.mark.parametrize("options", [{"components": 0}, {"aligned": False, "components": 5}])
def test_saved_flow_draws_as_before(
    permuted: dict[str, ZooDataset], tmp_path: Path, options: dict[str, Any]
) -> None:
    settings = FlowSettings(**SMALL | {"widths": (8,), "epochs": 2} | options)
    flow = train_flow_matching(permuted["train"], permuted["val"], settings)
    flow.origin = Origin(zoo="some/zoo", least_epoch=1)
    loaded = load_trained_generator(save_pretrained(flow, tmp_path / "m"))
    samples = [one.sample(4, torch.Generator().manual_seed(1)) for one in (flow, loaded)]  # type: ignore[union-attr]
    assert torch.equal(*samples) and loaded.origin == flow.origin
    assert (loaded.history, loaded.kept_epoch) == (flow.history, flow.kept_epoch)
    assert flow.without_origin().origin is None and flow.origin is not None
    with pytest.raises(ModelFormatError, match="holds a flow, which draws networks"):
        from_pretrained(tmp_path / "m")
    with pytest.raises(ModelFormatError, match="holds a flow, which has no latent vectors"):
        load_trained_autoencoder(tmp_path / "m")


def test_damaged_folders_say_what_is_wrong(permuted: dict[str, ZooDataset], tmp_path: Path) -> None:
    flow = train_flow_matching(permuted["train"], permuted["val"], TINY)
    good = save_pretrained(flow, tmp_path / "good")
    config = json.loads((good / "config.json").read_text())
    for changes, message in [
        ({"settings": config["settings"] | {"odd": 1}}, "'odd'"),
        ({"settings": config["settings"] | {"widths": [4]}}, "does not fit"),
        ({"settings": config["settings"] | {"components": 2}}, "'axes' must have shape"),
        ({"scale": "wide"}, "could not convert"),
    ]:
        bad = shutil.copytree(good, tmp_path / "bad")
        (bad / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ModelFormatError, match=message):
            load_flow(bad)
        shutil.rmtree(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": -1}, "components must be at least 0, got -1"),
        ({"top": 1e-9}, "at least 2 rows, got 1"),
        ({"widths": ()}, "widths must be whole numbers above 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"averaging": 1.0}, "averaging must lie in"),
        ({"keep": "first"}, "keep must be one of"),
        ({"top": 0.0}, "top must lie in"),
    ],
)
def test_settings_out_of_range_are_refused(
    permuted: dict[str, ZooDataset], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        settings = FlowSettings(**SMALL | {"epochs": 1} | options)
        train_flow_matching(permuted["train"], permuted["val"], settings)


def test_rows_without_val_accuracy_are_all_taken_or_refused(
    permuted: dict[str, ZooDataset],
) -> None:
    unknown = {
        split: rows.add_column("val_accuracy_2", np.zeros(len(rows))).remove_columns("val_accuracy")
        for split, rows in permuted.items()
    }
    assert train_flow_matching(unknown["train"], unknown["val"], TINY).kept_epoch is not None
    with pytest.raises(ValueError, match="no val accuracy that chooses the best rows"):
        train_flow_matching(unknown["train"], unknown["val"], FlowSettings(progress=False))


def test_training_that_diverges_says_so() -> None:
    settings = FlowSettings(**SMALL | {"epochs": 2})
    points = torch.full((4, 2), torch.inf)
    with pytest.raises(DivergedError, match="take a smaller lr than 0.001"):
        FieldTraining(points, points, settings).run()
