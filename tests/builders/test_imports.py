import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_published_zoos import flatten, trial_name, write_trial, write_tune_zoo

from weightzoo.builders.importing import partial_import as import_writer
from weightzoo.builders.importing.report import REPORT_NAME, ImportReport
from weightzoo.builders.imports import FORMATS, import_zoo
from weightzoo.builders.published.modelzoos import RawReader
from weightzoo.loaders.load import load_zoo
from weightzoo.zoos import zoo_folder
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.partial_folder import PartialFolder


def imported(source: Path, out: Path, **options: Any) -> Any:
    return import_zoo("modelzoos-raw", source, out, progress=False, **options)


def checksums(zoo: Path) -> list[dict[str, str]]:
    return [file.header.checksums for file in ZooIndex.read(zoo).open(zoo)]


def names_by_split(zoo: Path) -> dict[str, list[str]]:
    index = ZooIndex.read(zoo)
    found: dict[str, list[str]] = {}
    for shard, file in zip(index.shards, index.open(zoo), strict=True):
        names = file.read_columns(["model_name"])["model_name"].tolist()
        found[shard.split] = sorted({*found.get(shard.split, []), *names})
    return found


class Killed(BaseException):
    """Stands for a kill."""


def kill_after(monkeypatch: pytest.MonkeyPatch, reads: int) -> None:
    """Let the reader die when it opens one checkpoint more than `reads`."""
    real, count = RawReader.open, iter(range(10**6))

    def open_or_die(self: Any, model: Any, row: int) -> Any:
        if next(count) >= reads:
            raise Killed
        return real(self, model, row)

    monkeypatch.setattr(RawReader, "open", open_or_die)


def test_import_leaves_zoo_and_report_only(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=10)
    report = imported(tmp_path / "zoo", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "zoo"]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "README.md",
        REPORT_NAME,
        "zoo.json",
        *(f"{split}-00000-of-00001.h5" for split in ("train", "validation", "test")),
    }
    assert json.loads((tmp_path / "out" / REPORT_NAME).read_text()) == json.loads(
        json.dumps(report.to_json())
    )


def test_imported_zoo_loads_like_any_other(tmp_path: Path) -> None:
    states = write_tune_zoo(tmp_path / "zoo", models=6)
    imported(tmp_path / "zoo", tmp_path / "out")
    train = load_zoo(tmp_path / "out", split="train")
    first = train[0]
    wanted = flatten(states[first["model_name"]][int(first["epoch"])])
    np.testing.assert_array_equal(np.asarray(first["weights"]), wanted)


def test_splits_are_by_model_and_do_not_depend_on_file_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tune_zoo(tmp_path / "zoo", models=20, epochs=(0, 1))
    imported(tmp_path / "zoo", tmp_path / "one")
    shutil.copytree(tmp_path / "zoo", tmp_path / "copy" / "zoo")
    for folder in reversed(sorted((tmp_path / "copy" / "zoo").glob("NN_*"))):
        shutil.move(folder, tmp_path / "moved")  # the folder gets another place in its directory
        shutil.move(tmp_path / "moved", folder)
    imported(tmp_path / "copy" / "zoo", tmp_path / "two")
    assert names_by_split(tmp_path / "one") == names_by_split(tmp_path / "two")
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")
    counts = {split: len(names) for split, names in names_by_split(tmp_path / "one").items()}
    assert counts == {"train": 14, "val": 3, "test": 3}
    every = [name for names in names_by_split(tmp_path / "one").values() for name in names]
    assert len(every) == len(set(every)) == 20


def test_seed_and_fractions_change_the_split_and_are_stored(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=10, epochs=(0,))
    imported(tmp_path / "zoo", tmp_path / "zero")
    imported(tmp_path / "zoo", tmp_path / "one", seed=1, fractions=(0.5, 0.3, 0.2))
    assert [len(names) for names in names_by_split(tmp_path / "one").values()] == [5, 3, 2]
    assert names_by_split(tmp_path / "one")["test"] != names_by_split(tmp_path / "zero")["test"]
    (file, *_) = ZooIndex.read(tmp_path / "one").open(tmp_path / "one")
    shares = {"train": 0.5, "val": 0.3, "test": 0.2}
    assert file.header.split == {"by": "model", "fractions": shares, "seed": 1}


def test_split_file_decides(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=4, epochs=(0,))
    lines = [f"{trial_name(0, 1)},test", f"{trial_name(2, 3)},train", "ghost,val"]
    (tmp_path / "splits.csv").write_text("\n".join(["model_name,split", *lines]))
    report = imported(tmp_path / "zoo", tmp_path / "out", split_file=tmp_path / "splits.csv")
    assert names_by_split(tmp_path / "out") == {
        "train": [trial_name(2, 3)],
        "test": [trial_name(0, 1)],
    }
    assert {(r.model, r.reason) for r in report.refused} == {
        (trial_name(1, 2), "not in the split file splits.csv"),
        (trial_name(3, 4), "not in the split file splits.csv"),
        ("ghost", "in splits.csv, but not in the source"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,split\na,train\n", "must have the columns model_name and split"),
        ("model_name,split\na,validation\n", "must be one of .* got 'validation'"),
        ("model_name,split\na,train\na,test\n", "is in two splits"),
    ],
)
def test_bad_split_file_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, epochs=(0,))
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(BuildError, match=message):
        imported(tmp_path / "zoo", tmp_path / "out", split_file=tmp_path / "splits.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["splits.csv", "zoo"]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, 0.2), (1.2, -0.1, -0.1)])
def test_bad_fractions_are_an_error(fractions: tuple[float, ...], tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, epochs=(0,))
    with pytest.raises(BuildError, match="three shares that sum to 1"):
        imported(tmp_path / "zoo", tmp_path / "out", fractions=fractions)


def test_killed_import_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tune_zoo(tmp_path / "zoo", models=8)
    imported(tmp_path / "zoo", tmp_path / "whole")
    monkeypatch.setattr(import_writer, "BLOCK_BYTES", 2464 * 4 * 2)
    with monkeypatch.context() as patch:
        kill_after(patch, reads=8 + 7)  # one look at each model, then three blocks of two rows
        with pytest.raises(Killed):
            imported(tmp_path / "zoo", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    journal = tmp_path / "out.partial" / "import.jsonl"
    assert len(journal.read_text().splitlines()) == 3
    journal.write_text(journal.read_text() + '{"file": "out/tra')  # torn by the kill
    with monkeypatch.context() as patch:
        kill_after(patch, reads=8 + 24 - 6)  # the six rows are not read again
        imported(tmp_path / "zoo", tmp_path / "out")
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("module", "name", "stage"),
    [
        (zoo_folder, "create_zoo_file", "planning"),
        (zoo_folder, "finish_zoo_file", "finishing"),
        (zoo_folder, "write_card", "finishing"),
        (ImportReport, "write", "finishing"),
        (PartialFolder, "_rename", "renaming"),
        (PartialFolder, "_remove", "renaming"),
    ],
)
def test_import_killed_in_any_stage_ends_the_same(
    module: Any, name: str, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tune_zoo(tmp_path / "zoo", models=4)
    (tmp_path / "zoo" / trial_name(0, 1) / "checkpoint_000001" / "checkpoints").write_bytes(b"")
    whole = imported(tmp_path / "zoo", tmp_path / "whole")
    monkeypatch.setattr(PartialFolder, "abandon", lambda held: None)  # a kill runs no clean-up
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, name, die)
        imported(tmp_path / "zoo", tmp_path / "out")
    assert PartialFolder(tmp_path / "out.partial").stage == stage
    report = imported(tmp_path / "zoo", tmp_path / "out")
    assert (report.rows, report.refused) == (whole.rows, whole.refused)
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole", "zoo"]


def die(*arguments: Any, **options: Any) -> None:
    raise Killed


def test_archive_that_changed_is_not_taken_for_the_unpacked_one(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    archive = Path(shutil.make_archive(str(tmp_path / "nets"), "gztar", tmp_path / "zoo"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PartialFolder, "abandon", lambda held: None)
        patch.setattr(zoo_folder, "create_zoo_file", die)
        imported(archive, tmp_path / "out")
    assert (tmp_path / "out.partial" / "scratch").is_dir()
    write_trial(tmp_path / "zoo", 2)
    shutil.make_archive(str(tmp_path / "nets"), "gztar", tmp_path / "zoo")
    with pytest.raises(BuildError, match="that differs in 'archive': finish it"):
        imported(archive, tmp_path / "out")
    assert imported(archive, tmp_path / "out", overwrite=True).models == 3


def test_damaged_journal_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(zoo_folder, "finish_zoo_file", die)
        imported(tmp_path / "zoo", tmp_path / "out")
    journal = tmp_path / "out.partial" / "import.jsonl"
    journal.write_text('{"file": 1}\n' + journal.read_text())
    with pytest.raises(BuildError, match="import.jsonl is damaged in the line .*: delete"):
        imported(tmp_path / "zoo", tmp_path / "out")


def test_import_with_other_settings_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tune_zoo(tmp_path / "zoo", models=4)
    with monkeypatch.context() as patch:
        kill_after(patch, reads=6)
        with pytest.raises(Killed):
            imported(tmp_path / "zoo", tmp_path / "out")
    with pytest.raises(BuildError, match=r"unfinished import of .* that differs in 'seed'"):
        imported(tmp_path / "zoo", tmp_path / "out", seed=1)
    write_trial(tmp_path / "zoo", 4)
    with pytest.raises(BuildError, match=r"differs in \['files', 'plan'\]"):
        imported(tmp_path / "zoo", tmp_path / "out")
    report = imported(tmp_path / "zoo", tmp_path / "out", seed=1, overwrite=True)
    assert report.models == 5


def test_out_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    imported(tmp_path / "zoo", tmp_path / "out")
    with pytest.raises(BuildError, match="exists"):
        imported(tmp_path / "zoo", tmp_path / "out")
    write_trial(tmp_path / "zoo", 2)
    assert imported(tmp_path / "zoo", tmp_path / "out", overwrite=True).models == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "zoo"]


def test_folder_that_is_no_zoo_is_never_overwritten(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(BuildError, match="neither a zoo folder"):
        imported(tmp_path / "zoo", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_mixed_architectures_become_a_collection(tmp_path: Path) -> None:
    for index in range(5):
        write_trial(tmp_path / "zoo", index, large=index == 4)
    report = imported(tmp_path / "zoo", tmp_path / "out")
    found = {Path(zoo.path).name: (zoo.models, zoo.rows) for zoo in report.zoos}
    assert found == {"cnn-s-2464": (4, 12), "cnn-l-10853": (1, 3)}
    for name in found:
        assert ZooIndex.read(tmp_path / "out" / name).name == name
        own = json.loads((tmp_path / "out" / name / REPORT_NAME).read_text())
        assert [Path(zoo["path"]).name for zoo in own["zoos"]] == [name]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {*found, REPORT_NAME, "README.md"}


def test_collection_is_overwritten_unless_it_holds_more_than_zoos(tmp_path: Path) -> None:
    for index in range(3):
        write_trial(tmp_path / "zoo", index, large=index == 2)
    imported(tmp_path / "zoo", tmp_path / "out")
    write_trial(tmp_path / "zoo", 3)
    report = imported(tmp_path / "zoo", tmp_path / "out", overwrite=True)
    assert {zoo.models for zoo in report.zoos} == {3, 1}
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(BuildError, match="nor a folder of zoos only"):
        imported(tmp_path / "zoo", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_strict_refuses_mixed_architectures(tmp_path: Path) -> None:
    for index in range(3):
        write_trial(tmp_path / "zoo", index, large=index == 2)
    with pytest.raises(BuildError, match="2 architectures: 2 of 2464 .* 1 of 10853"):
        imported(tmp_path / "zoo", tmp_path / "out", strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


def test_unreadable_checkpoints_leave_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = write_tune_zoo(tmp_path / "zoo", models=8)
    monkeypatch.setattr(zoo_folder, "SHARD_BYTES", 2464 * 4 * 6)  # two models per file
    broken = [(0, 1), (3, 2), (3, 0)]
    for index, epoch in broken:
        path = tmp_path / "zoo" / trial_name(index, index + 1) / f"checkpoint_{epoch:06d}"
        (path / "checkpoints").write_bytes(b"PK\x03\x04 cut short")
    report = imported(tmp_path / "zoo", tmp_path / "out")
    assert (report.models, report.rows) == (8, 21)
    assert {(r.model, r.epoch) for r in report.refused} == {
        (trial_name(index, index + 1), epoch) for index, epoch in broken
    }
    for file in ZooIndex.read(tmp_path / "out").open(tmp_path / "out"):
        columns, weights = file.read_columns(), file.map_weights()
        assert set(columns["status"]) == {"ok"}
        for index, name in enumerate(columns["model_name"]):
            wanted = flatten(states[name][int(columns["epoch"][index])])
            np.testing.assert_array_equal(weights[index], wanted)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_machine_that_is_full_ends_the_import_and_leaves_no_zoo(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tune_zoo(tmp_path / "zoo", models=4)
    fail_at_row(monkeypatch, 1, OSError(number, "no more room"))
    with pytest.raises(BuildError, match="cannot import .* to .*out: .*no more room"):
        imported(tmp_path / "zoo", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad sector"), ValueError("bad sector")])
def test_one_row_that_cannot_be_flattened_is_one_line_of_the_report(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tune_zoo(tmp_path / "zoo", models=4)
    fail_at_row(monkeypatch, 1, error)
    report = imported(tmp_path / "zoo", tmp_path / "out")
    (refused,) = report.refused
    assert report.rows == 11 and "bad sector" in refused.reason


def fail_at_row(monkeypatch: pytest.MonkeyPatch, row: int, error: Exception) -> None:
    """Let the flattening of one row of the import raise an error."""
    real, count = import_writer.flatten, iter(range(10**6))

    def flatten_or_fail(*arguments: Any) -> None:
        if next(count) == row:
            raise error
        real(*arguments)

    monkeypatch.setattr(import_writer, "flatten", flatten_or_fail)


def rot_after_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files of three models rot between the look at them and their reading."""
    monkeypatch.setattr(zoo_folder, "SHARD_BYTES", 1)  # one model per file
    real, seen = RawReader.open, set[str]()

    def open_once(self: Any, model: Any, row: int) -> Any:
        if model.seed in (1, 2, 3) and model.name in seen:
            raise OSError("input/output error")
        seen.add(model.name)
        return real(self, model, row)

    monkeypatch.setattr(RawReader, "open", open_once)


@pytest.mark.parametrize("killed_after", [None, 0, 1, 2])
def test_file_that_loses_all_rows_is_left_out(
    killed_after: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the import is killed while files get their final names."""
    write_tune_zoo(tmp_path / "zoo", models=6, epochs=(0,))
    options: dict[str, Any] = {"fractions": (1, 0, 0)}
    if killed_after is not None:
        with monkeypatch.context() as patch:
            rot_after_the_first_look(patch)
            real, count = import_writer.describe_shard, iter(range(10))

            def describe_or_die(*arguments: Any) -> Any:
                if next(count) == killed_after:
                    raise Killed
                return real(*arguments)

            patch.setattr(import_writer, "describe_shard", describe_or_die)
            with pytest.raises(Killed):
                imported(tmp_path / "zoo", tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
    with monkeypatch.context() as patch:
        rot_after_the_first_look(patch)
        report = imported(tmp_path / "zoo", tmp_path / "out", **options)
    assert report.models == report.rows == 3 and len(report.refused) == 3
    index = ZooIndex.read(tmp_path / "out")
    assert [shard.path for shard in index.shards] == [
        f"train-{number:05d}-of-00003.h5" for number in range(3)
    ]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"README.md", REPORT_NAME, "zoo.json", *(s.path for s in index.shards)}
    seeds = [file.read_columns(["seed"])["seed"][0] for file in index.open(tmp_path / "out")]
    assert seeds == [4, 5, 6]


def test_nothing_readable_is_an_error_with_the_reason(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, epochs=(0,))
    for path in (tmp_path / "zoo").rglob("checkpoints"):
        path.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(BuildError, match="names 'posix.system', which is not allowed"):
        imported(tmp_path / "zoo", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


def test_hostile_checkpoint_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=3, epochs=(0,))
    hostile = tmp_path / "zoo" / trial_name(1, 2) / "checkpoint_000000" / "checkpoints"
    hostile.write_bytes(b"cposix\nsystem\n(S'touch %s/ran'\ntR." % str(tmp_path).encode())
    report = imported(tmp_path / "zoo", tmp_path / "out")
    assert report.models == 2 and not (tmp_path / "ran").exists()
    (refused,) = report.refused
    assert refused.model == trial_name(1, 2) and "'posix.system'" in refused.reason


def test_summary_says_what_matters(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=4)
    (tmp_path / "zoo" / trial_name(0, 1) / "checkpoint_000001" / "checkpoints").write_bytes(b"")
    shutil.rmtree(tmp_path / "zoo" / trial_name(1, 2) / "checkpoint_000002")
    text = imported(tmp_path / "zoo", tmp_path / "out").summary()
    assert "4 models, 10 rows" in text and "cnn-s, 2,464 parameters" in text
    assert "refused: 1" in text and "gaps: 1" in text and "lacks the epochs 2" in text


@pytest.mark.parametrize(
    ("format", "source", "message"),
    [
        ("model-zoos", "zoo", "format must be one of"),
        ("modelzoos-raw", "nowhere", "no file or folder"),
        ("smallcnn", "zoo", "holds no weights.npy"),
        ("wildpark", "zoo", "no file is of this format"),
        ("inr-pth", "zoo", "no file is of this format"),
        ("modelzoos-pt", "zoo", "no dataset object"),
    ],
)
def test_wrong_arguments_leave_nothing(
    format: str, source: str, message: str, tmp_path: Path
) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, epochs=(0,))
    with pytest.raises(BuildError, match=message):
        import_zoo(format, tmp_path / source, tmp_path / "out", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


def test_out_must_lie_outside_the_source(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, epochs=(0,))
    before = sorted((tmp_path / "zoo").rglob("*"))
    with pytest.raises(BuildError, match="lies in the source"):
        imported(tmp_path / "zoo", tmp_path / "zoo" / "out")
    assert sorted((tmp_path / "zoo").rglob("*")) == before


def test_truncated_archive_leaves_nothing(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, epochs=(0,))
    for kind in ("zip", "xztar"):
        path = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "zoo"))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(BuildError, match="truncated or damaged"):
            imported(path, tmp_path / "out")
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"zoo", "packed"}


def test_stray_archive_entries_are_in_the_report(tmp_path: Path) -> None:
    import zipfile

    write_tune_zoo(tmp_path / "zoo", models=2, epochs=(0,))
    with zipfile.ZipFile(tmp_path / "zoo.zip", "w") as packed:
        packed.writestr("../../evil/checkpoint_0/checkpoints", "evil")
        for file in sorted((tmp_path / "zoo").rglob("*")):
            packed.write(file, file.relative_to(tmp_path))
    report = imported(tmp_path / "zoo.zip", tmp_path / "out")
    (refused,) = report.refused
    assert refused.model.startswith("../../evil") and "leads outside" in refused.reason


def test_all_published_formats_are_there() -> None:
    assert set(FORMATS) == {
        "lora",
        "model-j",
        "mother",
        "modelzoos-raw",
        "modelzoos-pt",
        "smallcnn",
        "inr-pth",
        "wildpark",
        "small-transformers",
        "nino",
        "state-dicts",
        "hub",
    }
