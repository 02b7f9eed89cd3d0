"""The memorisation referee, on MLPs that were trained on digits."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.cli.main import main
from weightzoo.loaders import HiddenPermutations, ZooDataset, concatenate_zoos, load_zoo
from weightzoo.tasks.autoencoding.canonical import last_rows
from weightzoo.tasks.generation.generated_zoo import write_generated_zoo
from weightzoo.tasks.generation.memorisation import (
    AMONG,
    AVERAGES,
    UNSEEN,
    Likeness,
    Memorisation,
    difference_interval,
    judge_generated,
)
from weightzoo.zoos.errors import UnsuitableError


def splits(zoo: Path) -> tuple[ZooDataset, ZooDataset, ZooDataset]:
    found = load_zoo(zoo)
    return found["train"], found["val"], found["test"]


def permuted_copies(train: ZooDataset, count: int) -> torch.Tensor:
    """Training networks with hidden units reordered and a little noise."""
    generator = torch.Generator().manual_seed(1)
    weights = train.weights(last_rows(train)[:count])
    assert train.header.architecture is not None
    permutations = HiddenPermutations.of(train.header.architecture)
    orders = [
        torch.stack([torch.randperm(group.units, generator=generator) for _ in range(count)])
        for group in permutations.groups
    ]
    noise = 0.001 * torch.randn(weights.shape, generator=generator)
    return permutations.apply(weights, orders) + noise


@pytest.fixture(scope="module")
def copies(trained_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of reordered copies of eight training networks, of one activation each."""
    train = load_zoo(trained_zoo, split="train")
    train = train.filter("activation == 'tanh'")
    folder = tmp_path_factory.mktemp("generated") / "copies"
    count = min(8, len(last_rows(train)))
    write_generated_zoo(folder, permuted_copies(train, count), train, {"description": "copies"})
    return folder


@pytest.mark.slow
def test_reordered_copies_are_memorised(trained_zoo: Path, copies: Path) -> None:
    train, val, test = splits(trained_zoo)
    drawn = concatenate_zoos(list(load_zoo(copies).values()))
    found = judge_generated(train, [val, test], drawn, models=12)
    assert found.verdict == "memorised" and found.reference == UNSEEN
    likeness = found.sets["generated"]
    assert likeness.distance.max() < 0.2 and likeness.agreement.min() > 0.98
    tanh = np.flatnonzero(train.select(last_rows(train)).columns["activation"] == "tanh")
    assert sorted(likeness.nearest.tolist()) == tanh[: len(drawn)].tolist()


@pytest.mark.slow
def test_networks_that_no_generator_saw_are_not_memorised(trained_zoo: Path) -> None:
    train, val, test = splits(trained_zoo)
    found = judge_generated(train, [val.select([])], test, models=12)
    assert found.reference == AMONG and found.verdict == "not memorised"
    among = found.sets[AMONG]
    assert among.distance.min() > 0.1  # no network is compared with itself
    noise = [found.sets[f"copies with noise {sigma:g}"].mean("distance") for sigma in (0.02, 0.3)]
    assert noise[0] < noise[1]
    assert found.sets[AVERAGES].mean("distance") < found.sets["generated"].mean("distance")


def made_sets(accuracy: float, distance: float) -> Memorisation:
    def likeness(accuracy: float, distance: float, agreement: float) -> Likeness:
        values = np.linspace(-0.01, 0.01, 20)
        return Likeness(
            distance=distance + values,
            agreement=agreement + values,
            error_overlap=values,
            accuracy=accuracy + values,
            nearest=np.zeros(20),
        )

    sets = {"generated": likeness(accuracy, distance, 0.8), UNSEEN: likeness(0.9, 1.0, 0.8)}
    return Memorisation(
        zoo="zoo",
        generated="drawn",
        images="digits",
        training_models=20,
        not_finite=0,
        sets=sets | {"copies with noise 0.1": likeness(0.8, 0.5, 0.9)},
        reference=UNSEEN,
        settings={"seed": 0},
    )


def test_control_beats_a_generator_that_is_neither_better_nor_farther() -> None:
    assert made_sets(accuracy=0.8, distance=0.5).beaten_by == ["copies with noise 0.1"]
    assert made_sets(accuracy=0.9, distance=0.5).beaten_by == []
    assert made_sets(accuracy=0.8, distance=1.0).beaten_by == []


def test_verdict_needs_an_interval_that_excludes_zero() -> None:
    assert made_sets(accuracy=0.8, distance=0.5).verdict == "memorised in weights"
    assert made_sets(accuracy=0.8, distance=1.0).verdict == "not memorised"


def test_difference_has_an_interval_around_it() -> None:
    random = np.random.default_rng(0)
    mine, theirs = random.normal(1, 1, 200), random.normal(0, 1, 200)
    mean, low, high = difference_interval(mine, theirs)
    assert mean == pytest.approx(mine.mean() - theirs.mean())
    assert low < mean < high and high - low == pytest.approx(2 * 1.96 * 0.1, rel=0.2)


def test_other_architectures_are_refused(trained_zoo: Path, tiny_zoo: Path) -> None:
    train, val, test = splits(trained_zoo)
    with pytest.raises(UnsuitableError, match="another architecture"):
        judge_generated(train, [val, test], load_zoo(tiny_zoo, split="train"))


def test_command_writes_report_data_and_plot(
    trained_zoo: Path, copies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "judged"
    command = ["memorisation", str(trained_zoo), str(copies), "--out", str(out), "--models", "6"]
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads((out / "report.json").read_text())
    assert data["verdict"] == "memorised"
    low, high = data["differences"][UNSEEN]["distance"][1:]
    assert low <= high < 0
    assert "**Verdict: memorised.**" in (out / "report.md").read_text()
    assert (out / "plot.png").stat().st_size > 5000
