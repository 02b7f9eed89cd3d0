"""An architecture is attached if all tensors fit and models reach their recorded accuracy."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from weightzoo import concatenate_zoos, load_zoo, write_zoo
from weightzoo.tasks.inspection import attaching
from weightzoo.tasks.inspection.attaching import attach_architecture
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import UnsuitableError, ZooFormatError
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.partial_folder import PartialFolder

NAMES = ("a.weight", "a.bias", "b.weight", "b.bias", "c.weight", "c.bias")


class Mlp(nn.Module):
    """The MLP of the trained zoo, as a user would have written it; layers in another order."""

    def __init__(self, width: int = 20, names: str = "cab") -> None:
        super().__init__()
        sizes = {"a": (784, width), "b": (width, width), "c": (width, 10)}
        for name in names:
            setattr(self, name, nn.Linear(*sizes[name]))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def written(trained_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained zoo as state dicts of `Mlp`, without architecture."""
    zoo = concatenate_zoos(list(load_zoo(trained_zoo).values()))
    order = (4, 5, 0, 1, 2, 3)  # as in the state dict of Mlp

    def states() -> Iterator[dict[str, Tensor]]:
        for row in range(len(zoo)):
            tensors = list(zoo.state_dict(row).values())
            yield {NAMES[index]: tensors[index] for index in order}

    folder = tmp_path_factory.mktemp("written") / "mine"
    with pytest.warns(UserWarning, match="state dicts only"):
        write_zoo(folder, states(), zoo.to_pandas(), name="mine", licence="mit")
    return folder


@pytest.fixture
def plain(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "mine"))


def assert_rebuilds(folder: Path, trained_zoo: Path) -> None:
    """Every model computes what it computes in the zoo it is from."""
    wanted = concatenate_zoos(list(load_zoo(trained_zoo).values()))
    inputs = torch.randn(3, 1, 28, 28)
    found = load_zoo(folder, split="train")
    for row in range(0, len(found), 7):
        model, epoch = (found.columns[name][row] for name in ("model_id", "epoch"))
        (same,) = np.flatnonzero(
            (wanted.columns["model_id"] == model) & (wanted.columns["epoch"] == epoch)
        )
        torch.testing.assert_close(found.module(row)(inputs), wanted.module(int(same))(inputs))


def test_module_is_attached_by_names_and_accuracy(plain: Path, trained_zoo: Path) -> None:
    (plain / "notes.txt").write_text("mine")
    found = attach_architecture(plain, Mlp(), input_shape=(1, 28, 28), images="digits")
    assert (found.matched_by, found.images, found.tested_rows) == ("name", "digits", 8)
    assert found.largest_difference < 1e-6
    assert_rebuilds(plain, trained_zoo)
    assert all(check.passed for check in verify_zoo(plain))
    assert (plain / "notes.txt").read_text() == "mine"
    assert "state dicts only" not in (plain / "README.md").read_text()


def test_architecture_is_attached_by_the_order_of_tensors(
    plain: Path, trained_zoo: Path, tmp_path: Path
) -> None:
    zoo = load_zoo(trained_zoo, split="train")
    ordered = tmp_path / "ordered"
    states = [
        {f"x{index}": tensor for index, tensor in enumerate(zoo.state_dict(row).values())}
        for row in range(len(zoo))
    ]
    with pytest.warns(UserWarning, match="state dicts only"):
        write_zoo(ordered, states, zoo.to_pandas(), name="x", licence="mit")
    found = attach_architecture(ordered, zoo.header.architecture, out=tmp_path / "out")
    assert (found.matched_by, found.images, found.tested_rows) == ("order", None, 0)
    assert_rebuilds(tmp_path / "out", trained_zoo)
    assert load_zoo(ordered, split="train").header.architecture is None


def wrong_width(zoo: Path) -> None:
    attach_architecture(zoo, Mlp(width=21))


def other_tensors(zoo: Path) -> None:
    attach_architecture(zoo, nn.Linear(784, 10))


def untraceable(zoo: Path) -> None:
    attach_architecture(zoo, nn.LSTM(3, 4))


def no_architecture(zoo: Path) -> None:
    attach_architecture(zoo, "mlp")


def other_activation(zoo: Path) -> None:
    shape = (1, 28, 28)
    attach_architecture(
        zoo, Mlp(), input_shape=shape, images="digits", activation="sigmoid", models=24
    )


def unknown_activation(zoo: Path) -> None:
    attach_architecture(zoo, Mlp(), activation="swish")


@pytest.mark.parametrize(
    ("attach", "reason"),
    [
        (wrong_width, r"linear1.weight \[21, 784\] is a.weight \[20, 784\];"),
        (other_tensors, "the architecture has 2 tensors and the zoo 6"),
        (untraceable, "no architecture can be read from LSTM: layer '0' is a LSTM"),
        (no_architecture, "architecture must be an Architecture"),
        (other_activation, "from its recorded test_accuracy .* on 'digits': the architecture, its"),
        (unknown_activation, r"need an activation of \['relu', .*got \['swish'\]"),
    ],
)
def test_architecture_that_does_not_fit_leaves_the_zoo_as_it_is(
    plain: Path, attach: Callable[[Path], None], reason: str
) -> None:
    before = {path.name: path.read_bytes() for path in plain.iterdir()}
    with pytest.raises((UnsuitableError, TypeError, ValueError), match=reason):
        attach(plain)
    assert {path.name: path.read_bytes() for path in plain.iterdir()} == before
    assert not plain.with_name("mine.partial").exists()


def test_architecture_is_replaced_only_on_demand(plain: Path) -> None:
    attach_architecture(plain, Mlp())
    with pytest.raises(ValueError, match="has the architecture 'Mlp': replace it with --overwrite"):
        attach_architecture(plain, Mlp())
    attach_architecture(plain, Mlp(), overwrite=True)


@pytest.mark.parametrize("stage", ["_rename", "_remove"])
def test_kill_while_the_zoo_is_replaced_loses_nothing(
    plain: Path, trained_zoo: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def killed(held: PartialFolder) -> None:
        if stage == "_rename":  # between the two renamings
            held.out.rename(held.path / "replaced")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PartialFolder, stage, killed)
        with pytest.raises(KeyboardInterrupt):
            attach_architecture(plain, Mlp(), input_shape=(1, 28, 28), images="digits")
    found = attach_architecture(plain, Mlp(), input_shape=(1, 28, 28), images="digits")
    assert (found.architecture, found.tested_rows) == ("Mlp", 8)
    assert_rebuilds(plain, trained_zoo)
    assert not plain.with_name("mine.partial").exists()


def test_images_of_another_shape_are_refused(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_images("digits")
    cropped = replace(digits.test, pixels=digits.test.pixels[..., :20, :20])
    monkeypatch.setattr(attaching, "load_data", lambda name: replace(digits, test=cropped))
    with pytest.raises(UnsuitableError, match=r"inputs of \(784,\) and not those of 'digits'"):
        attach_architecture(plain, Mlp(), images="digits")


def test_zoo_file_is_refused(plain: Path) -> None:
    with pytest.raises(ValueError, match="is a zoo file: give its zoo folder"):
        attach_architecture(plain / "train-00000-of-00001.h5", Mlp())
    with pytest.raises(ZooFormatError, match="must have the keys"):
        attach_architecture(plain, {"layers": []})
