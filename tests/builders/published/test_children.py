"""Published children: sparse twins of Model Zoos, fine-tuned models of the ViT zoo."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_published_zoos import (
    clipped_twin,
    flatten,
    published_cnn,
    write_trial,
    write_twin,
    write_vit_zoo,
)
from make_published_zoos import zoo_rows as rows

from weightzoo.builders.imports import import_zoo
from weightzoo.loaders import load_zoo
from weightzoo.zoos.index import ZooIndex


def raw(source: Path, out: Path, **options: Any) -> Any:
    return import_zoo("modelzoos-raw", source, out, progress=False, **options)


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A zoo of five trials, and a zoo of their sparse twins; the folders of the twins by name."""
    torch.manual_seed(0)
    made = {}
    for index in range(5):
        folder, states = write_trial(tmp_path / "tune_zoo_mnist", index, dropout=0.5)
        made[folder.name] = write_twin(tmp_path / "ARD", folder, states[2])
    return tmp_path, made


def test_sparse_twins_have_the_weights_they_compute_with(twins: Any) -> None:
    root, made = twins
    report = raw(root / "ARD", root / "out")
    columns, weights = rows(root / "out")
    assert (report.models, report.rows, len(report.zoos)) == (5, 10, 1)
    folders = {folder.name: folder for folder in made.values()}
    for index, name in enumerate(columns["model_name"]):
        file = folders[name] / f"checkpoint_{columns['epoch'][index]:06d}/checkpoints"
        np.testing.assert_array_equal(weights[index], flatten(clipped_twin(torch.load(file))))
    assert "are rounded to float32" in report.remarks[0].reason


def test_sparsity_of_twins_is_the_share_of_zeros(twins: Any) -> None:
    root, _ = twins
    raw(root / "ARD", root / "out")
    columns, weights = rows(root / "out")
    (file, *_) = ZooIndex.read(root / "out").open(root / "out")
    table = file.header.layer_table
    inside = np.concatenate(
        [np.arange(t.offset, t.offset + t.size) for t in table if t.name.endswith("weight")]
    )
    zeros = (weights[:, inside] == 0).mean(1)
    assert 0.2 < zeros.min() and zeros.max() < 0.9
    np.testing.assert_allclose(columns["sparsity"], zeros)
    np.testing.assert_allclose(columns["sparsity"], columns["sparsity_ratio"])


def test_rebuilt_twin_gives_the_outputs_of_the_clipped_network(twins: Any) -> None:
    root, made = twins
    raw(root / "ARD", root / "out")
    zoo = load_zoo(root / "out")["train"]
    folders = {folder.name: folder for folder in made.values()}
    name, epoch = zoo[0]["model_name"], int(zoo[0]["epoch"])
    twin = torch.load(folders[name] / f"checkpoint_{epoch:06d}/checkpoints")
    network = published_cnn(0.5)
    network.load_state_dict(clipped_twin(twin))
    images = torch.randn(3, 1, 28, 28)
    wanted = torch.nn.Sequential(*network.module_list).eval()(images)
    torch.testing.assert_close(zoo.module(0)(images), wanted)


def test_variance_without_its_weight_is_refused(twins: Any) -> None:
    root, made = twins
    folder = next(iter(made.values()))
    for file in folder.glob("*/checkpoints"):
        state = torch.load(file)
        torch.save({k: v for k, v in state.items() if k != "module_list.0.weight"}, file)
    report = raw(root / "ARD", root / "out")
    assert report.models == 4
    assert [remark.model for remark in report.refused] == [folder.name]


def test_twins_name_their_parent_row_in_an_imported_zoo(twins: Any) -> None:
    root, made = twins
    raw(root / "tune_zoo_mnist", root / "parents", seed=3)
    raw(root / "ARD", root / "out", parents=root / "parents")
    columns, _ = rows(root / "out")
    parents, _ = rows(root / "parents")
    of = {folder.name: name for name, folder in made.items()}
    assert set(columns["relation"]) == {"pruned"} and set(columns["parent_zoo"]) == {"parents"}
    assert set(columns["parent_epoch"]) == {2}
    for index, name in enumerate(columns["model_name"]):
        own = parents["model_id"] == columns["parent_model_id"][index]
        assert set(parents["model_name"][own]) == {of[name]}
        assert set(parents["split"][own]) == {columns["split"][index]}


def test_twins_alone_name_the_zoo_of_their_parents(twins: Any) -> None:
    root, made = twins
    raw(root / "ARD", root / "out")
    columns, _ = rows(root / "out")
    assert set(columns["parent_zoo"]) == {"tune_zoo_mnist"}
    assert set(columns["parent_model_id"]) == {-1}
    assert set(columns["parent_model_name"]) == set(made)


def test_fine_tuned_models_keep_the_split_of_their_parent(tmp_path: Path) -> None:
    write_vit_zoo(tmp_path / "dataset")
    report = raw(tmp_path / "dataset", tmp_path / "out")
    assert [(zoo.models, zoo.rows) for zoo in report.zoos] == [(8, 8), (4, 4)]
    (tuned, _), (parents, _) = (rows(Path(zoo.path)) for zoo in report.zoos)
    name_of = dict(zip(parents["model_id"], parents["model_name"], strict=True))
    split_of = dict(zip(parents["model_id"], parents["split"], strict=True))
    for index, parent in enumerate(tuned["parent_model_id"]):
        assert name_of[parent] in tuned["model_name"][index]
        assert tuned["split"][index] == split_of[parent]
    assert set(tuned["relation"]) == {"fine-tuned"} and set(parents["relation"]) == {"trained"}
    assert set(tuned["parent_epoch"]) == {89}
    assert set(tuned["parent_zoo"]) == {Path(report.zoos[1].path).name}


def test_configs_of_the_vit_zoo_become_columns(tmp_path: Path) -> None:
    states = write_vit_zoo(tmp_path / "dataset")
    report = raw(tmp_path / "dataset", tmp_path / "out")
    columns, weights = rows(Path(report.zoos[0].path))
    assert sorted(set(columns["lr"])) == [0.001, 0.003] and set(columns["seed"]) == {42}
    for name, row in zip(columns["model_name"], weights, strict=True):
        np.testing.assert_array_equal(row, flatten(states[name]))


def test_children_of_an_absent_model_say_so(tmp_path: Path) -> None:
    write_vit_zoo(tmp_path / "dataset")
    for file in (tmp_path / "dataset/pretraining").glob("*_seed_1_*/*/checkpoints"):
        file.write_bytes(b"damaged")
    report = raw(tmp_path / "dataset", tmp_path / "out")
    reasons = [
        remark.reason for remark in report.remarks if "is not in the source" in remark.reason
    ]
    assert len(reasons) == 2
    columns, _ = rows(Path(report.zoos[0].path))
    lost = np.array(["_seed_1_" in name for name in columns["model_name"]])
    assert set(columns["parent_model_id"][lost]) == {-1}
    assert len({*columns["split"][lost]}) == 1  # siblings stay together


def test_config_beside_the_trials_is_no_config_of_a_model(tmp_path: Path) -> None:
    write_trial(tmp_path / "zoo", 0)
    (tmp_path / "zoo/config.json").write_text(json.dumps({"seed": 99}))
    assert raw(tmp_path / "zoo", tmp_path / "out").refused == ()
