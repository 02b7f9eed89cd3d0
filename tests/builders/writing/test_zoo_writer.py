"""`ZooWriter`: a training loop that is killed goes on, and its zoo is as if it had not been."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weightzoo import ZooWriter, load_zoo
from weightzoo.builders.writing import spool
from weightzoo.zoos.errors import BuildError

NAMED: dict[str, Any] = {"name": "mine", "licence": "mit"}


def trained(seed: int, epoch: int) -> nn.Module:
    """Weights that are a function of seed and epoch, as of a deterministic training."""
    torch.manual_seed(100 * seed + epoch)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def fill(writer: ZooWriter, models: int, stop_at: int | None = None) -> int:
    """Train what is not there; return how many were trained."""
    done = 0
    for seed in range(models):
        for epoch in (0, 1):
            if (seed, epoch) in writer:
                continue
            if done == stop_at:
                raise InterruptedError("killed")
            writer.add(trained(seed, epoch), model_id=seed, epoch=epoch, loss=seed / 7)
            done += 1
    return done


def rows(folder: Path) -> dict[tuple[int, int], np.ndarray]:
    return {
        (int(row["model_id"]), int(row["epoch"])): row["weights"].numpy()
        for part in load_zoo(folder).values()
        for row in part
    }


def test_stopped_writer_goes_on_where_it_was(tmp_path: Path) -> None:
    with ZooWriter(tmp_path / "whole", **NAMED) as writer:
        fill(writer, 6)
    with (
        pytest.raises(InterruptedError),
        ZooWriter(tmp_path / "z", **NAMED) as writer,
    ):
        fill(writer, 6, stop_at=5)
    assert not (tmp_path / "z").exists()
    with ZooWriter(tmp_path / "z", **NAMED) as writer:
        assert len(writer) == 5
        assert fill(writer, 6) == 7
    one, other = rows(tmp_path / "whole"), rows(tmp_path / "z")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


KILLED = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_zoo_writer import NAMED, trained
from weightzoo import ZooWriter
with ZooWriter(Path({folder!r}), **NAMED) as writer:
    for seed in range(3):
        writer.add(trained(seed, 0), model_id=seed, epoch=0, loss=seed / 7)
    os.kill(os.getpid(), 9)
"""


def test_killed_process_loses_no_row(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "z"))
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with ZooWriter(tmp_path / "z", **NAMED) as writer:
        assert [(seed, 0) in writer for seed in range(4)] == [True, True, True, False]
        fill(writer, 3)
    found = rows(tmp_path / "z")
    table = load_zoo(tmp_path / "z", split="train").layer_table
    for (seed, epoch), weights in found.items():
        state = trained(seed, epoch).state_dict()
        ours = dict(zip([tensor.name for tensor in table], state.values(), strict=True))
        assert np.array_equal(table.flatten(ours).numpy(), weights)


@pytest.mark.parametrize("torn", ["weights", "journal"])
def test_half_written_row_is_cut_off(tmp_path: Path, torn: str) -> None:
    with pytest.raises(InterruptedError), ZooWriter(tmp_path / "z", **NAMED) as writer:
        fill(writer, 6, stop_at=5)
    name = spool._WEIGHTS if torn == "weights" else spool._JOURNAL
    path = tmp_path / "z.partial" / "scratch" / name
    path.write_bytes(path.read_bytes()[:-3])
    with ZooWriter(tmp_path / "z", **NAMED) as writer:
        assert len(writer) == 4
        fill(writer, 6)
    assert len(rows(tmp_path / "z")) == 12


def test_row_that_differs_from_the_earlier_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError), ZooWriter(tmp_path / "z", **NAMED) as writer:
        fill(writer, 6, stop_at=5)
    with (
        pytest.raises(ValueError, match="model 0 at epoch 0 differs from that of the earlier run"),
        ZooWriter(tmp_path / "z", **NAMED) as writer,
    ):
        writer.add(trained(0, 0), model_id=0, epoch=0, loss=0.0)  # as it was
        writer.add(trained(0, 1), model_id=0, epoch=1, loss=0.0)
        writer._added.clear()
        writer.add(trained(5, 0), model_id=0, epoch=0, loss=0.0)


def test_writer_with_other_settings_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError), ZooWriter(tmp_path / "z", **NAMED) as writer:
        fill(writer, 6, stop_at=5)
    with pytest.raises(BuildError, match="differs in 'splits'"):
        ZooWriter(tmp_path / "z", splits=1, **NAMED).__enter__()


def test_finished_folder_that_was_not_cleaned_up_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weightzoo.zoos.partial_folder import PartialFolder

    def killed(held: PartialFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PartialFolder, "_remove", killed)
        with pytest.raises(KeyboardInterrupt), ZooWriter(tmp_path / "z", **NAMED) as writer:
            fill(writer, 3)
    with ZooWriter(tmp_path / "z", **NAMED) as writer:
        assert len(writer) == 6 and fill(writer, 3) == 0
    assert writer.result.rows == 6 and not (tmp_path / "z.partial").exists()


def test_kill_while_files_are_written_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weightzoo.builders.writing import zoo_writer

    def half(folder: Path, *arguments: Any) -> None:
        (folder / "train-00000-of-00009.h5").write_bytes(b"of a run with other rows")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zoo_writer, "write_zoo_rows", half)
        with pytest.raises(KeyboardInterrupt), ZooWriter(tmp_path / "z", **NAMED) as writer:
            fill(writer, 3)
    with ZooWriter(tmp_path / "z", **NAMED) as writer:
        assert fill(writer, 4) == 2
    assert len(rows(tmp_path / "z")) == 8
    assert len(list((tmp_path / "z").glob("train-*"))) == 1


def test_values_that_are_missing_or_not_finite_survive_the_journal(tmp_path: Path) -> None:
    with ZooWriter(tmp_path / "z", splits={"train": 1.0}, **NAMED) as writer:
        writer.add(trained(0, 0), train_loss=float("inf"), note="ü")
        writer.add(trained(1, 0), width=torch.tensor(3), note=None)
    columns = load_zoo(tmp_path / "z", split="train").columns
    np.testing.assert_array_equal(columns["train_loss"], [np.inf, np.nan])
    np.testing.assert_array_equal(columns["width"], [np.nan, 3])
    assert columns["note"].tolist() == ["ü", ""]


def test_writer_without_models_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no model was added"), ZooWriter(tmp_path / "z", **NAMED):
        pass
    assert list(tmp_path.iterdir()) == []


def test_unopened_writer_says_how_to_open_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="open the writer first"):
        ZooWriter(tmp_path / "z", **NAMED).add(trained(0, 0))


def test_value_of_another_type_is_refused_when_it_is_added(tmp_path: Path) -> None:
    with ZooWriter(tmp_path / "z", **NAMED) as writer:
        writer.add(trained(0, 0))
        with pytest.raises(TypeError, match="'grades' must hold text, a number"):
            writer.add(trained(1, 0), grades=[1, 2])
        with pytest.raises(ValueError, match="fractions"):
            writer.add(trained(1, 0), test_accuracy=97.0)
    assert writer.result.rows == 1
