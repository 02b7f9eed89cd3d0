"""Protocols at import and on load, on zoos in their published structure."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from make_published_zoos import write_tune_zoo, zoo_rows
from make_small_cnn_zoo import write_zoo
from torch import nn

from weightzoo.builders.imports import import_zoo
from weightzoo.loaders import load_zoo
from weightzoo.loaders.editing import save_zoo
from weightzoo.tasks.baselines.regressors import Constant
from weightzoo.tasks.prediction.property_prediction import predict_property
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.index import ZooIndex

MODELS = 40


def small_cnn(folder: Path) -> tuple[Path, Path, dict[int, str]]:
    """A small CNN zoo, a published shuffle, and the split of each final row, derived here."""
    write_zoo(folder / "svhn", models=MODELS)
    order = list(range(3 * MODELS))
    random.Random(3).shuffle(order)
    (folder / "svhn_split.csv").write_text("".join(f"{row}\n" for row in [0, *order]))
    final = [row for row in order if row >= 2 * MODELS]  # rows of step 86 come last
    first, half = list(range(MODELS // 2)), MODELS // 2
    random.Random(0).shuffle(first)
    split = {final[i]: "train" if n < 0.8 * half else "val" for n, i in enumerate(first)}
    return folder / "svhn", folder / "svhn_split.csv", split | dict.fromkeys(final[half:], "test")


def row_splits(columns: dict[str, np.ndarray]) -> dict[int, str]:
    return dict(zip(columns["published_row"].tolist(), columns["split"].tolist(), strict=True))


def test_import_by_a_protocol_holds_its_rows_and_splits(tmp_path: Path) -> None:
    source, file, wanted = small_cnn(tmp_path)
    out = tmp_path / "out"
    report = import_zoo("smallcnn", source, out, protocol="nfn", split_file=file, progress=False)
    columns, _ = zoo_rows(out)
    assert row_splits(columns) == wanted and set(columns["epoch"]) == {86}
    header = ZooIndex.read(out).open(out)[0].header
    assert header.split["protocol"] == "nfn" and header.split["cut_models"] == 0
    assert header.split["tie_ceiling"] == 0  # the fixture has one accuracy for all final rows
    assert report.models == MODELS and "protocol nfn: train 16, val 4, test 20" in report.summary()


def test_loading_by_a_protocol_overrides_the_stored_splits(tmp_path: Path) -> None:
    source, file, wanted = small_cnn(tmp_path)
    import_zoo("smallcnn", source, tmp_path / "out", progress=False)
    zoo = load_zoo(tmp_path / "out", protocol="nfn", split_file=file)
    found = {}
    for split, rows in zoo.items():
        assert set(rows.columns["split"]) == {split} and rows.splitting["protocol"] == "nfn"
        found |= row_splits({name: rows.columns[name] for name in ("published_row", "split")})
    assert found == wanted
    _, weights = zoo_rows(tmp_path / "out")
    stored = load_zoo(tmp_path / "out", split="train+val+test")
    place = {row: n for n, row in enumerate(stored.columns["published_row"].tolist())}
    first = zoo["test"].columns["published_row"][0]
    torch.testing.assert_close(zoo["test"].weights([0])[0], stored.weights([place[first]])[0])
    relu = load_zoo(tmp_path / "out", split="test", protocol="nfn-relu", split_file=file)
    assert set(relu.columns["published_row"]) < {row for row in wanted if wanted[row] == "test"}
    assert set(relu.columns["activation"]) == {"relu"}


def test_slices_columns_and_saving_follow_the_protocol(tmp_path: Path) -> None:
    source, file, wanted = small_cnn(tmp_path)
    import_zoo("smallcnn", source, tmp_path / "out", progress=False)
    part = load_zoo(
        tmp_path / "out",
        split="train[:5]+val",
        protocol="nfn",
        split_file=file,
        columns=["published_row"],
    )
    assert len(part) == 9 and part.shown == ("published_row",)
    save_zoo(load_zoo(tmp_path / "out", protocol="nfn", split_file=file), tmp_path / "saved")
    again = load_zoo(tmp_path / "saved", protocol="nfn")
    assert {split: len(rows) for split, rows in again.items()} == {
        "train": 16,
        "val": 4,
        "test": 20,
    }
    with pytest.raises(ValueError, match="holds only the rows of protocol 'nfn'"):
        load_zoo(tmp_path / "saved", protocol="nfn-relu", split_file=file)


def test_report_names_the_protocol(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=30, epochs=(20, 22, 25))
    import_zoo("modelzoos-raw", tmp_path / "zoo", tmp_path / "out", progress=False)
    zoo = load_zoo(tmp_path / "out", protocol="modelzoos-late")
    report = predict_property(zoo, predictors=[Constant()])
    assert "Protocol modelzoos-late: train" in report.to_markdown()
    assert report.to_json()["splitting"]["protocol"] == "modelzoos-late"
    assert set(zoo["test"].columns["epoch"]) == {22, 25}


def test_splits_that_are_drawn_anew_are_those_of_no_protocol(tmp_path: Path) -> None:
    source, file, _ = small_cnn(tmp_path)
    import_zoo(
        "smallcnn", source, tmp_path / "out", protocol="nfn", split_file=file, progress=False
    )
    train = load_zoo(tmp_path / "out", split="train")
    assert train.splitting["protocol"] == "nfn"
    assert train.train_test_split(0.5)["test"].splitting == {"by": "given"}


def test_navon_split_is_the_published_file(tmp_path: Path) -> None:
    listed: dict[str, dict[str, list[str]]] = {}
    for index, split in enumerate(["train", "train", "val", "test"]):
        part = "testing" if split == "test" else "training"
        name = f"mnist_png_{part}_{index}_{index}/checkpoints/model_final.pth"
        path = tmp_path / "inrs" / name
        path.parent.mkdir(parents=True)
        layers = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)).state_dict()
        torch.save({f"seq.{key}": value for key, value in layers.items()}, path)
        listed.setdefault(split, {"path": []})["path"].append(f"/home/navon/mnist-inrs/{name}")
    (tmp_path / "mnist_splits.json").write_text(json.dumps(listed))
    import_zoo("inr-pth", tmp_path / "inrs", tmp_path / "out", progress=False)
    zoo = load_zoo(
        tmp_path / "out", protocol="navon-inrs", split_file=tmp_path / "mnist_splits.json"
    )
    found = {split: sorted(rows.columns["image_id"].tolist()) for split, rows in zoo.items()}
    assert found == {"train": [0, 1], "val": [2], "test": [3]}


def test_protocol_of_another_format_is_an_error(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    with pytest.raises(BuildError, match=r"is for the formats \['smallcnn'\], got 'modelzoos-raw'"):
        import_zoo(
            "modelzoos-raw", tmp_path / "zoo", tmp_path / "out", protocol="nfn", progress=False
        )


def test_protocol_needs_all_rows(tiny_zoo: Path) -> None:
    with pytest.raises(ValueError, match="reads all rows: leave out streaming"):
        load_zoo("org/zoo", streaming=True, protocol="nfn")
    with pytest.raises(ValueError, match="give protocol too"):
        load_zoo(tiny_zoo, split_file="splits.csv")
