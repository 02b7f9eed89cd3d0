"""Feature files: written in pieces, continued after a stop, checked on opening."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from weightzoo.tasks.ranking.features import FeatureFile, Task, create_features
from weightzoo.tasks.ranking.samples import fingerprints, image_samples, refuse_overlap
from weightzoo.zoos.errors import UnsuitableError, ZooFormatError, ZooNotFoundError
from weightzoo.zoos.images.catalog import load_images

RNG = np.random.default_rng(0)
LABELS = np.arange(20) % 2
TASK = Task(name="toy", samples=np.arange(20, dtype="u8"), labels=LABELS, domains=LABELS)
ROWS, LOGITS = RNG.normal(size=(20, 5)), RNG.normal(size=(20, 3))


def test_features_are_read_as_written(tmp_path: Path) -> None:
    with create_features(tmp_path / "f.h5", TASK, {}) as file:
        file.append("net/1", ROWS, LOGITS, {"layer": "last"})
        file.append("net/2", ROWS[:, :2], None, {}, "float16")
    with FeatureFile(tmp_path / "f.h5") as file:
        assert file.models == ["net/1", "net/2"] and file.details("net/1") == {"layer": "last"}
        task = file.read("net/1")
        assert task.features == pytest.approx(ROWS, abs=1e-6) and task.domains is not None
        assert task.logits == pytest.approx(LOGITS, abs=1e-6)
        half = file.read("net/2")
        assert half.features == pytest.approx(ROWS[:, :2], abs=2e-3) and half.logits is None


def test_a_file_that_was_killed_goes_on(tmp_path: Path) -> None:
    with create_features(tmp_path / "f.h5", TASK, {}) as file:
        file.append("net", ROWS[:12], LOGITS[:12], {})
        assert file.models == []
    with create_features(tmp_path / "f.h5", TASK, {}) as file:
        assert file.rows_done("net") == 12 and file.rows_done("other") == 0
        file.append("net", ROWS[12:], LOGITS[12:], {})
        assert file.models == ["net"]
        assert file.read("net").features == pytest.approx(ROWS, abs=1e-6)
        with pytest.raises(UnsuitableError, match="more rows than the task has images"):
            file.append("net", ROWS[:1], LOGITS[:1], {})


def test_a_file_of_another_task_is_not_gone_on_with(tmp_path: Path) -> None:
    create_features(tmp_path / "f.h5", TASK, {}).__exit__()
    other = Task(name="toy", samples=TASK.samples + 1, labels=LABELS)
    with pytest.raises(ZooFormatError, match="on other images"):
        create_features(tmp_path / "f.h5", other, {})


def test_overflow_of_half_precision_is_refused(tmp_path: Path) -> None:
    with create_features(tmp_path / "f.h5", TASK, {}) as file:
        with pytest.raises(UnsuitableError, match="overflow float16"):
            file.append("net", ROWS * 1e6, None, {}, "float16")
        with pytest.raises(ValueError, match="precision must be one of"):
            file.append("net", ROWS, None, {}, "bfloat16")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.attrs.modify("format", "weightzoo-features-9"), "format must be"),
        (lambda file: file.pop("labels"), "it lacks 'labels'"),
        (lambda file: file["models/000000"].attrs.modify("rows_done", 99), "claims 99 of 20 rows"),
        (lambda file: file["models/000000"].pop("features"), "lacks features"),
        (lambda file: file.__setitem__("labels2", h5py.ExternalLink("x.h5", "y")), "is a link"),
    ],
)
def test_damaged_feature_files_are_refused(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "f.h5"
    with create_features(path, TASK, {}) as file:
        file.append("net", ROWS, None, {})
    with h5py.File(path, "r+") as raw:
        damage(raw)  # type: ignore[operator]
    with pytest.raises(ZooFormatError, match=message):
        FeatureFile(path)


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ZooNotFoundError, match="weightzoo features"):
        FeatureFile(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(ZooFormatError, match="not an HDF5 file"):
        FeatureFile(tmp_path / "text.h5")


def test_samples_are_known_by_their_pixels() -> None:
    digits = load_images("digits")
    train, test = (image_samples(digits, part) for part in (digits.train, digits.test))
    refuse_overlap(train, test, "train images", "the task")
    pixels = (digits.brightness(digits.test.pixels) * 255).round().byte()
    assert np.array_equal(fingerprints(pixels.flip(0)), test[::-1])
    assert not np.isin(fingerprints((pixels.int() ^ 1).to(torch.uint8)), test).any()
    mixed = np.concatenate([test[:5], train[:3]])
    with pytest.raises(UnsuitableError, match="3 of 8 images of the task are also among train"):
        refuse_overlap(train, mixed, "train images", "the task")
