"""Protocols on columns: every split equals one that is derived here from the published rule."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.protocols.definitions import PROTOCOLS, find_protocol
from weightzoo.zoos.protocols.protocol import protocol_notes
from weightzoo.zoos.protocols.split_files import read_split_file, splits_by_path


def small_cnn_columns(models: int = 30) -> dict[str, np.ndarray]:
    """Rows in another order than the published one: three steps of each model."""
    rows = np.random.default_rng(1).permutation(3 * models)
    return {
        "published_row": rows,
        "model_name": np.array([f"run{row % models}" for row in rows], object),
        "epoch": np.array([(0, 40, 86)[row // models] for row in rows]),
        "activation": np.array([("relu", "tanh")[row % 2] for row in rows], object),
    }


def written_shuffle(folder: Path, count: int, header: bool = True) -> tuple[Path, list[int]]:
    order = list(range(count))
    random.Random(7).shuffle(order)
    path = folder / "cifar10_split.csv"
    path.write_text("".join(f"{line}\n" for line in ([0] if header else []) + order))
    return path, order


def published_small_cnn_split(order: list[int], models: int) -> dict[int, str]:
    """The published steps on a plain list: shuffled rows, final ones, halves, 80 % of the first."""
    final = [row for row in [0, *order] if row // models == 2]
    half = len(final) // 2
    first, second = list(range(half)), final[half:]
    random.Random(0).shuffle(first)
    split = dict.fromkeys(second, "test")
    split |= {final[i]: "val" for i in first[int(0.8 * half) :]}
    return split | {final[i]: "train" for i in first[: int(0.8 * half)]}


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_small_cnn_split_is_the_published_one(activation: str | None, tmp_path: Path) -> None:
    columns = small_cnn_columns()
    path, order = written_shuffle(tmp_path, 90)
    name = "nfn" if activation is None else f"nfn-{activation}"
    found = find_protocol(name).apply(columns, path)
    wanted = published_small_cnn_split(order, 30)
    for row, number in enumerate(columns["published_row"].tolist()):
        kept = activation in (None, columns["activation"][row])
        assert found.split[row] == (wanted.get(number, "") if kept else "")
    if activation is None:
        assert found.description["rows"] == {"train": 12, "val": 3, "test": 15}


def test_small_cnn_row_that_the_header_repeats_keeps_its_first_split(tmp_path: Path) -> None:
    columns = small_cnn_columns() | {"epoch": np.full(90, 86)}
    path, _ = written_shuffle(tmp_path, 90)
    with_header = find_protocol("nfn").apply(columns, path)
    (row_0,) = np.flatnonzero(columns["published_row"] == 0)
    assert with_header.split[row_0] in ("train", "val")  # position 0 of 91
    assert sum(with_header.description["rows"].values()) == 90


def test_small_cnn_split_refuses_a_zoo_that_lacks_rows(tmp_path: Path) -> None:
    columns = {name: column[1:] for name, column in small_cnn_columns().items()}
    path, _ = written_shuffle(tmp_path, 90)
    with pytest.raises(ValueError, match="1 rows of the file are not in the zoo, 0 of the zoo not"):
        find_protocol("nfn").apply(columns, path)


def test_zhou_split_is_by_image_and_keeps_copies_of_train_images_only() -> None:
    image = np.array([0, 44_999, 45_000, 49_999, 50_000, 59_999] * 2)
    columns = {
        "image_id": image,
        "augmentation": np.repeat([-1, 3], 6),
        "model_name": np.array([f"net{i}" for i in range(12)], object),
    }
    wanted = ["train", "train", "val", "val", "test", "test"]
    plain = find_protocol("zhou-inrs").apply(columns, None).split.tolist()
    assert plain == [*wanted, *[""] * 6]
    views = find_protocol("zhou-inrs-augmented").apply(columns, None).split.tolist()
    assert views == [*wanted, "train", "train", *[""] * 4]


@pytest.mark.parametrize("cut_off", [0, 20, 40, 60, 80])
def test_transformer_split_is_seeded_and_sized_as_published(cut_off: int) -> None:
    rng = np.random.default_rng(0)
    names = np.array([f"mnist/run-{i}" for i in range(40)] * 2, object)
    accuracy = rng.random(80).astype(np.float32)
    columns = {"model_name": names, "epoch": np.repeat([50, 75], 40), "test_accuracy": accuracy}
    name = f"small-transformers-{cut_off}" if cut_off else "small-transformers"
    split = find_protocol(name).apply(columns, None).split
    kept = sorted(str(names[i]) for i in range(40, 80) if accuracy[i] >= cut_off / 100)
    random.Random(0).shuffle(kept)
    train, val = len(kept) * 7 // 10, len(kept) * 15 // 100
    assert set(split[:40]) == {""}
    found = {part: {*names[40:][split[40:] == part]} for part in ("train", "val", "test")}
    assert found["train"] == {*kept[:train]}
    assert found["val"] == {*kept[train : train + val]}
    assert found["test"] == {*kept[train + val :]}


def test_transformer_split_of_a_task_ignores_the_other_task() -> None:
    def columns(tasks: tuple[str, ...]) -> dict[str, np.ndarray]:
        names = np.array([f"{task}/run-{i}" for task in tasks for i in range(20)], object)
        count = len(names)
        return {
            "model_name": names,
            "epoch": np.full(count, 75),
            "test_accuracy": np.ones(count, np.float32),
        }

    protocol = find_protocol("small-transformers")
    alone = protocol.apply(columns(("mnist",)), None).split
    both = protocol.apply(columns(("ag_news", "mnist")), None).split
    assert (both[20:] == alone).all()


def test_model_zoos_protocol_keeps_late_epochs_in_their_stored_splits() -> None:
    columns = {
        "epoch": np.tile([0, 20, 21, 25, 26], 2),
        "split": np.array(["train"] * 5 + ["test"] * 5, object),
        "model_name": np.repeat(np.array(["a", "b"], object), 5),
    }
    split = find_protocol("modelzoos-late").apply(columns, None).split.tolist()
    assert split == ["", "", "train", "train", "", "", "", "test", "test", ""]


def park_file(folder: Path, cut: bool) -> Path:
    """A JSON file as published for the Wild Park; cut: one run has checkpoints in two splits."""
    path = "cifar10_zooV2/run{}/checkpoint_{:06d}/checkpoint.pt"
    runs = {"train": (0, 1), "val": (2,), "test": (3,)}
    listed = {s: [path.format(r, c) for r in own for c in (0, 1)] for s, own in runs.items()}
    if cut:
        listed["test"].append(listed["train"].pop())
    file = folder / "cnn_park_splits.json"
    file.write_text(
        json.dumps({s: {"path": p, "score": [0.5] * len(p)} for s, p in listed.items()})
    )
    return file


@pytest.mark.parametrize("cut", [False, True])
def test_wild_park_split_is_kept_as_published_and_its_leak_is_said(
    cut: bool, tmp_path: Path
) -> None:
    pairs = [(run, checkpoint) for run in range(5) for checkpoint in (0, 1)]  # run 4 is not listed
    columns = {
        "model_name": np.array([f"run{run}" for run, _ in pairs], object),
        "published_file": np.array(
            [f"park/run{run}/checkpoint_{c:06d}/checkpoint.pt" for run, c in pairs], object
        ),
    }
    found = find_protocol("wild-park").apply(columns, park_file(tmp_path, cut))
    wanted = ["train"] * 4 + ["val"] * 2 + ["test"] * 2 + [""] * 2
    wanted[3] = "test" if cut else "train"
    assert found.split.tolist() == wanted
    assert found.cut_models == int(cut)
    assert any("leaks: 1 models" in line for line in found.notes) == cut


def test_paths_without_a_row_are_said(tmp_path: Path) -> None:
    columns = {
        "model_name": np.array(["run0"], object),
        "published_file": np.array(["run0/checkpoint_000000/checkpoint.pt"], object),
    }
    found = find_protocol("wild-park").apply(columns, park_file(tmp_path, cut=False))
    assert any("7 paths of the file match no checkpoint" in line for line in found.notes)


def test_protocol_asks_for_its_file_and_refuses_one_that_it_does_not_read(tmp_path: Path) -> None:
    columns = small_cnn_columns()
    with pytest.raises(ValueError, match=r"needs its published split file: download https://"):
        find_protocol("nfn").apply(columns, None)
    with pytest.raises(ValueError, match="takes no split file"):
        find_protocol("modelzoos-late").apply(columns | {"split": columns["epoch"]}, tmp_path)
    with pytest.raises(ValueError, match=r"needs the columns \['published_row'\].*import smallcnn"):
        find_protocol("nfn").apply({k: v for k, v in columns.items() if k != "published_row"}, None)


def test_unknown_protocol_suggests_a_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'wild-park'"):
        find_protocol("wildpark")


def test_path_in_two_splits_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text('{"train": ["a/x.pth"], "test": ["a/x.pth"]}')
    with pytest.raises(ZooFormatError, match="in two splits"):
        splits_by_path(["a/x"], read_split_file(path))


def test_notes_are_of_protocols_only() -> None:
    assert protocol_notes({"by": "model", "seed": 0}) == []


def test_every_protocol_names_a_format_and_says_whether_it_compares() -> None:
    from weightzoo.builders.imports import FORMATS

    for protocol in PROTOCOLS.values():
        assert protocol.formats and {*protocol.formats} <= {*FORMATS}
        assert protocol.rule and protocol.comparable and protocol.tie_ceiling
        assert (protocol.split_file == "none") == (protocol.file_source == "")
