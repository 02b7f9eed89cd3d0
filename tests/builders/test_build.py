"""Builds: whole, resumed after a kill, refused; nothing that existed is lost."""

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightzoo.builders.build import build_zoo
from weightzoo.builders.engines import process_engine
from weightzoo.builders.engines.worker_processes import Worker
from weightzoo.builders.writing.partial_zoo import PartialZoo
from weightzoo.cli.main import main
from weightzoo.zoos.errors import BuildError, RecipeError, ZooFormatError
from weightzoo.zoos.format import SPLITS, checksum, open_zoo_file, writing
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.networks import convolution_c
from weightzoo.zoos.recipe import Recipe, load_recipe
from weightzoo.zoos.zoo_folder import plan_shards

TRAIN = "train-00000-of-00001.h5"
BUILD = (
    "import json, sys\n"
    "from weightzoo.builders.build import build_zoo\n"
    "from weightzoo.zoos.recipe import Recipe\n"
    "if __name__ == '__main__':\n"
    "    recipe = Recipe.from_json(json.load(open(sys.argv[1])))\n"
    "    build_zoo(recipe, sys.argv[2], workers={workers}, cohort_size=3)\n"
)


def _recipe() -> Recipe:
    recipe = load_recipe("digits-mlp")
    factors = recipe.factors | {"train_fraction": {"choice": [0.05, 0.1]}, "dropout": 0.2}
    return replace(recipe, factors=factors, seeds=12, epochs=2, checkpoints=(0, 1, 2))


def _build(out: Path, recipe: Recipe | None = None, **options: object) -> Path:
    options = {"workers": 1, "cohort_size": 3, "progress": False} | options
    build_zoo(recipe or _recipe(), out, **options)  # type: ignore[arg-type]
    return out


def _columns(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for file in ZooIndex.read(folder).open(folder):
        yield file.path.name, "weights", file.map_weights().tobytes()
        for name, column in file.read_columns().items():
            yield file.path.name, name, checksum(column).encode()


def test_build_zoo_writes_every_model_and_checkpoint_in_order(tmp_path: Path) -> None:
    folder = _build(tmp_path / "zoo")
    files = ZooIndex.read(folder).open(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [file.path.name for file in files] + ["README.md", "zoo.json"]
    )
    seen: list[int] = []
    for file in files:
        columns = file.read_columns()
        ids = columns["model_id"]
        assert (np.diff(ids) >= 0).all()
        assert columns["epoch"].tolist() == [0, 1, 2] * (file.rows // 3)
        assert np.isfinite(columns["test_loss"]).all()
        assert file.header.checksums["weights"] == checksum(file.map_weights())
        seen += ids[::3].tolist()
    assert sorted(seen) == list(range(12))


def test_build_zoo_stores_provenance_recipe_and_hyper_parameters(tmp_path: Path) -> None:
    folder = _build(tmp_path / "zoo")
    file = ZooIndex.read(folder).open(folder, "train")[0]
    provenance = file.header.provenance
    assert provenance["device"] == "cpu" and provenance["images"]["name"] == "digits"
    assert Recipe.from_json(file.header.recipe) == _recipe()
    models = {model.model_id: model for model in _recipe().models()}
    columns = file.read_columns()
    for row in range(file.rows):
        model = models[columns["model_id"][row]]
        assert columns["lr"][row] == model.hyper_parameters.lr
        assert columns["activation"][row] == model.hyper_parameters.activation
        assert columns["split"][row] == model.split


def test_build_zoo_gives_equal_columns_for_any_workers_and_cohorts(tmp_path: Path) -> None:
    alone = list(_columns(_build(tmp_path / "a")))
    assert alone == list(_columns(_build(tmp_path / "b", workers=2)))
    assert alone == list(_columns(_build(tmp_path / "c", cohort_size=5)))
    other_seed = replace(_recipe(), seed=1)
    assert alone != list(_columns(_build(tmp_path / "d", other_seed)))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_build_zoo_resumes_after_kill_9(tmp_path: Path, workers: int) -> None:
    recipe = replace(_recipe(), seeds=20, epochs=40, checkpoints=(0, 1, 40))
    whole = list(_columns(_build(tmp_path / "whole", recipe)))
    path, out = tmp_path / "recipe.json", tmp_path / "zoo"
    path.write_text(json.dumps(recipe.to_json()))
    script = tmp_path / "build.py"
    script.write_text(BUILD.format(workers=workers))
    process = subprocess.Popen([sys.executable, str(script), str(path), str(out)], stderr=-1)
    partial = out.with_name("zoo.partial")
    while not list(partial.glob("cohort-*.npz")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in partial.glob("cohort-*.npz")}
    assert kept and len(kept) < 9
    time.sleep(1.0)  # orphaned workers end themselves
    trained = _count_trained(out, recipe)
    assert list(_columns(out)) == whole
    assert 0 < trained < 20


def _count_trained(out: Path, recipe: Recipe) -> int:
    """Finish a build and count the models that were trained for it."""
    trained = 0
    write = PartialZoo.write

    def counting(self: PartialZoo, positions: list[int], *rest: object) -> None:
        nonlocal trained
        trained += len(positions)
        write(self, positions, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartialZoo, "write", counting)
        _build(out, recipe)
    return trained


def test_build_zoo_refuses_to_overwrite(tmp_path: Path) -> None:
    folder = _build(tmp_path / "zoo")
    before = list(_columns(folder))
    with pytest.raises(BuildError, match="--overwrite"):
        _build(folder, replace(_recipe(), seed=5))
    assert list(_columns(folder)) == before
    _build(folder, replace(_recipe(), seed=5), overwrite=True)
    assert list(_columns(folder)) != before
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


def test_build_zoo_never_overwrites_a_folder_that_is_no_zoo(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("data")
    with pytest.raises(BuildError, match="neither a zoo folder"):
        _build(tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "file").read_text() == "data"


def test_build_zoo_refuses_a_second_builder(tmp_path: Path) -> None:
    partial = tmp_path / "zoo.partial"
    partial.mkdir()
    with (partial / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BuildError, match="another command is writing"):
            _build(tmp_path / "zoo")
    _build(tmp_path / "zoo")


def test_build_zoo_refuses_to_go_on_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_engine, "_run_in_this_process", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path / "zoo")
    monkeypatch.undo()
    with pytest.raises(
        BuildError, match="unfinished build of 'digits-mlp' that differs in .*recipe"
    ):
        _build(tmp_path / "zoo", replace(_recipe(), epochs=3))
    (tmp_path / "zoo.partial" / "partial.json").write_bytes(b"")  # as a damaged disk may leave it
    with pytest.raises(BuildError, match="stopped before it recorded its settings: delete"):
        _build(tmp_path / "zoo")
    _build(tmp_path / "zoo", replace(_recipe(), epochs=3), overwrite=True)


def _cnn_recipe() -> Recipe:
    factors = {"train_fraction": 0.02, "lr": 0.01}
    return replace(load_recipe("digits-cnn"), factors=factors, seeds=8, epochs=1, checkpoints=(1,))


def test_build_zoo_records_whether_convolutions_were_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for name, recipe in {"cnn": _cnn_recipe(), "mlp": _recipe()}.items():
        for code in ("here", "torch"):
            if code == "torch":
                monkeypatch.setattr(convolution_c, "library", lambda: None)
            folder = _build(tmp_path / f"{name}-{code}", recipe)
            (file, *_) = ZooIndex.read(folder).open(folder)
            found[name, code] = file.header.provenance["convolution"]
        monkeypatch.undo()
    here = "torch" if convolution_c.library() is None else "compiled"
    want = [here, "torch", "torch", "torch"]
    assert list(found.values()) == want
    assert main(["info", str(tmp_path / "cnn-here")]) == 0
    assert re.search(rf"convolution +{here}\n", capsys.readouterr().out + "\n")


def test_build_zoo_refuses_to_go_on_with_the_other_convolution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if convolution_c.library() is None:
        pytest.skip("no C compiler")
    monkeypatch.setattr(process_engine, "_run_in_this_process", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path / "zoo", _cnn_recipe())
    monkeypatch.undo()
    with monkeypatch.context() as patch, pytest.raises(BuildError) as refused:
        patch.setattr(convolution_c, "library", lambda: None)
        _build(tmp_path / "zoo", _cnn_recipe())
    assert "differs in 'convolution' ('compiled', now 'torch'): finish it" in str(refused.value)
    _build(tmp_path / "zoo", _cnn_recipe())


def test_build_zoo_trusts_no_journal_of_a_half_discarded_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill may leave journals without their plan; the rows they vouch for are new, empty."""
    whole = list(_columns(_build(tmp_path / "whole")))
    monkeypatch.setattr(PartialZoo, "finish", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path / "zoo")
    monkeypatch.undo()
    (tmp_path / "zoo.partial" / "plan.json").unlink()
    assert list(_columns(_build(tmp_path / "zoo"))) == whole


def _interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_build_zoo_reports_a_full_disk_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = _build(tmp_path / "zoo")
    before = list(_columns(folder))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BuildError, match="No space left"):
        _build(folder, replace(_recipe(), seed=2), overwrite=True)
    assert list(_columns(folder)) == before


def test_build_zoo_passes_on_a_workers_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PartialZoo, "create", lambda *arguments: None)  # no files to write in
    with pytest.raises(BuildError, match="a worker failed: ZooNotFoundError.*run the same command"):
        _build(tmp_path / "zoo", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_build_zoo_says_that_a_worker_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Worker.send

    def send_and_kill(worker: Worker, cohort: list[int]) -> None:
        real(worker, cohort)
        worker.process.kill()

    monkeypatch.setattr(Worker, "send", send_and_kill)
    with pytest.raises(BuildError, match="a worker failed: it ended with exit code -9; finished"):
        _build(tmp_path / "zoo", workers=2)
    monkeypatch.undo()
    assert sum(1 for _ in _columns(_build(tmp_path / "zoo"))) > 0


def _heed_interrupts() -> None:
    """Undo what a shell does to its background jobs, whose children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


GROUP: dict[str, Any] = {"start_new_session": True, "preexec_fn": _heed_interrupts}


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_build_zoo_ends_at_once_on_ctrl_c(times: int, tmp_path: Path) -> None:
    """Also on a second one; no worker goes on, and the lock is free."""
    recipe = replace(_recipe(), epochs=10**6, checkpoints=(1,))  # a cohort would take hours
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    script = tmp_path / "build.py"
    script.write_text(BUILD.format(workers=2))
    command = [sys.executable, str(script), str(tmp_path / "recipe.json"), str(tmp_path / "zoo")]
    process = subprocess.Popen(
        command, stderr=-1, start_new_session=True, preexec_fn=_heed_interrupts
    )
    partial = tmp_path / "zoo.partial"
    while not (partial / "plan.json").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(3.0)  # workers start
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)  # workers never act on it
        time.sleep(0.05)
    process.communicate(timeout=30)
    assert _living(process.pid) == []
    with (partial / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _living(group: int) -> list[str]:
    """The processes of a group that do not end within a second."""
    command = ["ps", "-e", "-o", "pgid=,stat=,args="]
    for _ in range(10):
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [line.split(maxsplit=2) for line in lines.splitlines()]
        living = [row[2] for row in rows if row[0] == str(group) and row[1][0] != "Z"]
        if not living:
            break
        time.sleep(0.1)
    return living


def test_build_zoo_refuses_the_leftovers_of_an_import_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoo.partial" / "scratch").mkdir(parents=True)
    trained: list[Any] = []
    monkeypatch.setattr(process_engine, "_run_in_this_process", lambda *args: trained.append(args))
    with pytest.raises(BuildError, match="holds 'scratch' of a command that stopped"):
        _build(tmp_path / "zoo")
    assert not trained
    monkeypatch.undo()
    _build(tmp_path / "zoo", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


@pytest.mark.parametrize("file", [0, 1])
def test_build_zoo_killed_while_it_finishes_files_goes_on(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(_columns(_build(tmp_path / "whole")))
    kill_in_finishing(monkeypatch, file)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path / "zoo")
    monkeypatch.undo()
    assert _count_trained(tmp_path / "zoo", _recipe()) == 0
    assert list(_columns(tmp_path / "zoo")) == whole


def kill_in_finishing(monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    """Stop when the rows of one finished file are copied, as a full disk or a kill may."""
    real, count = writing._copy_rows, iter(range(9))

    def copy_or_die(*arguments: Any) -> None:
        _interrupt() if next(count) == file else real(*arguments)

    monkeypatch.setattr(writing, "_copy_rows", copy_or_die)


def test_build_zoo_finishes_what_an_older_version_was_killed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wrote metrics in place, and HDF5 marks a file that is open for writing."""
    whole = list(_columns(_build(tmp_path / "whole")))
    monkeypatch.setattr(PartialZoo, "finish", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path / "zoo")
    monkeypatch.undo()
    partial = tmp_path / "zoo.partial"
    settings = json.loads((partial / "partial.json").read_text())["settings"]
    (partial / "build.json").write_text(json.dumps(settings))
    (partial / "partial.json").unlink()
    (partial / "plan.json").unlink()
    spoil = "import h5py, os, sys; f = h5py.File(sys.argv[1], 'r+'); f.flush(); os._exit(0)"
    subprocess.run([sys.executable, "-c", spoil, str(partial / TRAIN)], check=True)
    with pytest.raises(ZooFormatError):
        open_zoo_file(partial / TRAIN)
    assert _count_trained(tmp_path / "zoo", _recipe()) == 0
    assert list(_columns(tmp_path / "zoo")) == whole


def test_build_zoo_says_which_journal_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PartialZoo, "finish", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path / "zoo")
    monkeypatch.undo()
    journal = min((tmp_path / "zoo.partial").glob("cohort-*.npz"))
    journal.write_bytes(journal.read_bytes()[:99])
    with pytest.raises(BuildError, match=f"{journal.name} is damaged: delete it"):
        _build(tmp_path / "zoo")
    journal.unlink()
    assert _count_trained(tmp_path / "zoo", _recipe()) == 3


def test_build_zoo_refuses_an_architecture_that_does_not_fit(tmp_path: Path) -> None:
    architecture = load_recipe("digits-cnn").architecture
    narrow = replace(architecture, layers=architecture.layers[:-1])
    with pytest.raises(BuildError, match=r"needs outputs of \(10,\)"):
        _build(tmp_path / "zoo", replace(_recipe(), architecture=narrow))


def test_build_zoo_refuses_zero_models(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="models must be a whole number from 1, got 0"):
        _build(tmp_path / "zoo", models=0)


def test_build_zoo_flags_diverged_rows_and_keeps_them(tmp_path: Path) -> None:
    factors = _recipe().factors | {"lr": 1e12, "optimizer": "sgd", "activation": "relu"}
    folder = _build(tmp_path / "zoo", replace(_recipe(), factors=factors))
    for file in ZooIndex.read(folder).open(folder):
        columns = file.read_columns()
        assert (columns["status"][columns["epoch"] == 0] == "ok").all()
        assert (columns["status"][columns["epoch"] == 2] == "diverged").all()


def test_plan_shards_never_cuts_a_model(tmp_path: Path) -> None:
    models = load_recipe("digits-cnn").models(40)
    plans = plan_shards([model.split for model in models], [3] * 40, row_bytes=8_000_000)
    assert sorted(p for plan in plans for p in plan.positions) == list(range(40))
    assert {plan.split for plan in plans} == set(SPLITS)
    assert max(len(plan.positions) for plan in plans) == 2
    names = [plan.name for plan in plans if plan.split == "val"]
    assert names[0] == f"validation-00000-of-{len(names):05d}.h5"


def test_write_reserves_the_whole_file_at_once(tmp_path: Path) -> None:
    folder = _build(tmp_path / "zoo")
    file = open_zoo_file(folder / "train-00000-of-00001.h5")
    assert file.weights_offset % 4096 == 0
    assert file.path.stat().st_blocks * 512 >= file.rows * file.width * 4
