import json
import pickle
import shutil
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_published_zoos import (
    flatten,
    published_cnn,
    result_line,
    trial_name,
    write_trial,
    write_tune_zoo,
)
from make_published_zoos import zoo_rows as rows

from weightzoo.builders.imports import import_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.format import SPLITS
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.networks.presets import cnn_s
from weightzoo.zoos.recipe import load_recipe


def raw(source: Path, out: Path, **options: Any) -> Any:
    return import_zoo("modelzoos-raw", source, out, progress=False, **options)


def pack(folder: Path, kind: str) -> Path:
    """The tree in one of the containers in which it is published."""
    if kind == "folder":
        return folder
    path = folder.with_name("zoo." + kind)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(folder.rglob("*")):
                packed.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(folder, folder.name)
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_raw_zoo_comes_in_whole_from_every_container(kind: str, tmp_path: Path) -> None:
    states = write_tune_zoo(tmp_path / "tune_zoo_mnist", models=4)
    report = raw(pack(tmp_path / "tune_zoo_mnist", kind), tmp_path / "out")
    columns, weights = rows(tmp_path / "out")
    assert (report.models, report.rows, report.refused, report.gaps) == (4, 12, (), ())
    for index, name in enumerate(columns["model_name"]):
        wanted = flatten(states[name][int(columns["epoch"][index])])
        np.testing.assert_array_equal(weights[index], wanted)


def test_raw_columns_have_our_names_and_units(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=3)
    raw(tmp_path / "zoo", tmp_path / "out")
    columns, _ = rows(tmp_path / "out")
    one = {name: column[columns["seed"] == 2][1] for name, column in columns.items()}
    assert one["model_name"] == trial_name(1, 2) and one["epoch"] == 1
    assert (one["activation"], one["init"], one["optimizer"]) == ("tanh", "uniform", "adam")
    assert (one["lr"], one["weight_decay"], one["batch_size"]) == (3e-4, 0.0, 10)
    assert one["test_accuracy"] == pytest.approx(0.21)
    assert one["train_accuracy"] == pytest.approx(0.26)
    assert one["generalization_gap"] == pytest.approx(0.05)
    assert np.isnan(one["val_accuracy"])


def test_initial_state_has_no_training_metrics(tmp_path: Path) -> None:
    """The published line 0 holds -999, a sentinel that must not become a loss."""
    write_tune_zoo(tmp_path / "zoo", models=2)
    raw(tmp_path / "zoo", tmp_path / "out")
    columns, _ = rows(tmp_path / "out")
    first = columns["epoch"] == 0
    assert np.isnan(columns["train_loss"][first]).all()
    assert np.isfinite(columns["test_loss"][first]).all()
    assert set(columns["status"]) == {"ok"}


@pytest.mark.parametrize("initial_line", [True, False])
def test_results_belong_by_iteration_not_by_line(initial_line: bool, tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, initial_line=initial_line)
    report = raw(tmp_path / "zoo", tmp_path / "out")
    columns, _ = rows(tmp_path / "out")
    last = (columns["epoch"] == 2) & (columns["seed"] == 1)
    assert columns["test_accuracy"][last] == pytest.approx(0.3)
    assert len(report.remarks) == (0 if initial_line else 2)  # epoch 0 has no result then


@pytest.mark.parametrize("padded", [True, False])
def test_both_paddings_of_the_epoch_are_read(padded: bool, tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, padded=padded, epochs=(0, 2, 11))
    raw(tmp_path / "zoo", tmp_path / "out")
    assert sorted(set(rows(tmp_path / "out")[0]["epoch"])) == [0, 2, 11]


def test_an_epoch_in_both_paddings_is_read_once(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    trial = tmp_path / "zoo" / trial_name(0, 1)
    shutil.copytree(trial / "checkpoint_000001", trial / "checkpoint_1")
    report = raw(tmp_path / "zoo", tmp_path / "out")
    assert report.rows == 6
    assert [remark.epoch for remark in report.remarks] == [1]


def test_dropout_shifted_keys_make_one_zoo(tmp_path: Path) -> None:
    """With dropout the published keys are 0, 4, 8, 11, 14 instead of 0, 3, 6, 9, 11."""
    plain, shifted = (list(published_cnn(rate).state_dict()) for rate in (0.0, 0.5))
    assert plain[2] == "module_list.3.weight" and shifted[2] == "module_list.4.weight"
    states: dict[str, Any] = {}
    for index, dropout in enumerate((0.0, 0.5, 0.3, 0.0)):
        folder, states_of_one = write_trial(tmp_path / "zoo", index, dropout=dropout)
        states[folder.name] = states_of_one
    report = raw(tmp_path / "zoo", tmp_path / "out")
    columns, weights = rows(tmp_path / "out")
    assert len(report.zoos) == 1 and report.rows == 12
    for index, name in enumerate(columns["model_name"]):
        wanted = flatten(states[name][int(columns["epoch"][index])])
        np.testing.assert_array_equal(weights[index], wanted)
    assert set(columns["dropout"]) == {0.0, 0.3, 0.5}


def test_layer_table_is_that_of_our_own_zoos(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    raw(tmp_path / "zoo", tmp_path / "out")
    (file, *_) = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    ours = load_recipe("digits-cnn").architecture
    assert file.header.layer_table == ours.layer_table()
    assert file.header.architecture == cnn_s(1) == ours


def test_rebuilt_network_gives_the_published_outputs(tmp_path: Path) -> None:
    folder, states = write_trial(tmp_path / "zoo", 0, epochs=(1,), dropout=0.5)
    raw(tmp_path / "zoo", tmp_path / "out")
    published = published_cnn(0.5)
    published.load_state_dict(states[1])
    (file,) = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    ours = file.header.architecture.module("tanh", 0.5)  # type: ignore[union-attr]
    ours.load_state_dict(file.header.layer_table.state_dict(torch.tensor(file.map_weights()[0])))
    images = torch.randn(5, 1, 28, 28)
    wanted = images
    for layer in published.eval().module_list:  # type: ignore[union-attr]
        wanted = layer(wanted)
    torch.testing.assert_close(ours.eval()(images), wanted)


def test_large_cnn_is_recognised(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, large=True, dropout=0.5, epochs=(0,))
    report = raw(tmp_path / "zoo", tmp_path / "out")
    assert (report.zoos[0].architecture, report.zoos[0].parameters) == ("cnn-l", 10_853)


def rewrite(checkpoint: Path, change: Any) -> None:
    state = torch.load(checkpoint, weights_only=True)
    change(state)
    torch.save(state, checkpoint)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("module_list.3.bias", "layer 'module_list.3' has ['weight'], not weight and bias"),
        ("module_list.0.weight", "layer 'module_list.0' has ['bias'], not weight and bias"),
    ],
)
def test_missing_tensor_is_refused_loudly(key: str, reason: str, tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=3)
    for epoch in range(3):
        checkpoint = tmp_path / "zoo" / trial_name(1, 2) / f"checkpoint_{epoch:06d}/checkpoints"
        rewrite(checkpoint, lambda state: state.pop(key))
    report = raw(tmp_path / "zoo", tmp_path / "out")
    assert report.models == 2
    assert [(r.model, r.reason) for r in report.refused] == [(trial_name(1, 2), reason)]


def test_missing_layer_is_refused_with_its_name(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)

    def drop_second(state: dict[str, Any]) -> None:
        del state["module_list.3.weight"], state["module_list.3.bias"]

    rewrite(tmp_path / "zoo" / trial_name(0, 1) / "checkpoint_000002/checkpoints", drop_second)
    report = raw(tmp_path / "zoo", tmp_path / "out")
    assert report.rows == 5 and report.models == 2
    (refused,) = report.refused
    assert (refused.model, refused.epoch) == (trial_name(0, 1), 2)
    assert "a layer is missing" in refused.reason and "conv2.weight" in refused.reason


def test_diverged_models_are_kept_and_flagged(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=3)
    trial = tmp_path / "zoo" / trial_name(0, 1)
    rewrite(
        trial / "checkpoint_000001/checkpoints",
        lambda state: state["module_list.0.bias"].fill_(float("nan")),
    )
    lines = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
    lines[2]["train_loss"] = float("nan")
    (trial / "result.json").write_text("\n".join(map(json.dumps, lines)))
    report = raw(tmp_path / "zoo", tmp_path / "out")
    columns, weights = rows(tmp_path / "out")
    own = columns["seed"] == 1
    assert columns["status"][own].tolist() == ["ok", "diverged", "diverged"]
    assert np.isnan(weights[own][1][200:208]).all() and np.isfinite(weights[own][2]).all()
    assert report.rows == 9 and report.zoos[0].diverged_rows == 2


def test_percent_becomes_fractions_and_is_said(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, scale=100.0)
    report = raw(tmp_path / "zoo", tmp_path / "out")
    columns, _ = rows(tmp_path / "out")
    last = (columns["epoch"] == 2) & (columns["seed"] == 1)
    assert columns["test_accuracy"][last] == pytest.approx(0.3)
    assert columns["generalization_gap"][last] == pytest.approx(0.05)
    assert "percent" in report.notes[0]


def test_missing_epochs_are_listed(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=3, epochs=(0, 1, 2, 3, 5))
    trial = tmp_path / "zoo" / trial_name(2, 3)
    for epoch in (1, 2, 5):
        shutil.rmtree(trial / f"checkpoint_{epoch:06d}")
    report = raw(tmp_path / "zoo", tmp_path / "out")
    assert report.rows == 12
    assert [(g.model, g.reason) for g in report.gaps] == [
        (trial_name(2, 3), "lacks the epochs 1-2, 5")
    ]


def test_incomplete_folders_are_reported(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=4)
    trials = [tmp_path / "zoo" / trial_name(index, index + 1) for index in range(4)]
    for checkpoint in trials[0].glob("checkpoint_*"):
        shutil.rmtree(checkpoint)
    (trials[1] / "result.json").unlink()
    (trials[2] / "result.json").unlink()
    (trials[2] / "params.json").unlink()
    torn = (trials[3] / "result.json").read_text()[:-40]
    (trials[3] / "result.json").write_text(torn)
    report = raw(tmp_path / "zoo", tmp_path / "out")
    assert {(r.model, r.reason) for r in report.refused} == {
        (trials[0].name, "has properties, but no checkpoint"),
        (trials[2].name, "has checkpoints, but neither params.json nor result.json"),
    }
    said = {(r.model, r.reason) for r in report.remarks}
    assert (trials[1].name, "no result.json: its metrics are unknown") in said
    assert (trials[3].name, "a line of result.json is damaged") in said
    columns, _ = rows(tmp_path / "out")
    assert np.isnan(columns["test_accuracy"][columns["seed"] == 2]).all()


def test_config_is_taken_from_results_without_params(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    (tmp_path / "zoo" / trial_name(0, 1) / "params.json").unlink()
    raw(tmp_path / "zoo", tmp_path / "out")
    columns, _ = rows(tmp_path / "out")
    assert set(columns["seed"]) == {1, 2} and set(columns["optimizer"]) == {"adam"}


def test_resumed_trial_keeps_the_last_result(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    trial = tmp_path / "zoo" / trial_name(0, 1)
    with (trial / "result.json").open("a") as file:
        file.write(json.dumps(result_line(2, 0, 1.0, {}) | {"test_acc": 0.9}) + "\n")
    raw(tmp_path / "zoo", tmp_path / "out")
    columns, _ = rows(tmp_path / "out")
    own = (columns["seed"] == 1) & (columns["epoch"] == 2)
    assert columns["test_accuracy"][own] == pytest.approx(0.9)


def test_sparsity_of_twins_is_a_column(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2)
    for trial in (tmp_path / "zoo").glob("NN_*"):
        lines = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
        lines = [line | {"sparsity_ratio": 0.1 * line["training_iteration"]} for line in lines]
        (trial / "result.json").write_text("\n".join(map(json.dumps, lines)))
    raw(tmp_path / "zoo", tmp_path / "out")
    columns, _ = rows(tmp_path / "out")
    np.testing.assert_allclose(columns["sparsity"], 0.1 * columns["epoch"])


def test_other_network_gets_a_table_of_its_tensors(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=2, config={"model::type": "Resnet18"}, epochs=(1,))
    for seed in (1, 2):
        network = torch.nn.Sequential(
            OrderedDict(
                conv1=torch.nn.Conv2d(3, 4, 3, bias=False),
                bn1=torch.nn.BatchNorm2d(4),
                fc=torch.nn.Linear(4, 2),
            )
        )
        trial = tmp_path / "zoo" / trial_name(seed - 1, seed)
        torch.save(network.state_dict(), trial / "checkpoint_000001/checkpoints")
    raw(tmp_path / "zoo", tmp_path / "out")
    (file, *_) = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    found = {t.name: (t.kind, t.role, t.depth) for t in file.header.layer_table}
    assert file.header.architecture is None
    assert found["conv1.weight"] == ("conv", "weight", 0)
    assert found["bn1.weight"] == ("norm", "weight", 1)
    assert found["bn1.running_var"] == ("norm", "buffer", 1)
    assert found["fc.bias"] == ("linear", "bias", 2)
    assert file.header.layer_table.parameters == 108 + 8 + 10


def write_new_ray_trial(folder: Path, iterations: Sequence[int], named: bool) -> dict[int, Any]:
    """A trial as Ray 2.60 writes it: folders 0, 1, ... for the checkpoints of these iterations."""
    states = {}
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps({"model::type": "CNN", "seed": 1}))
    lines = []
    for iteration in range(1, 5):
        line = result_line(iteration, 0, 1.0, {}) | {"training_iteration": iteration}
        if iteration in iterations:
            index = f"checkpoint_{len(states):06d}"
            states[iteration] = published_cnn(0.0).state_dict()
            (folder / index).mkdir()
            torch.save(states[iteration], folder / index / "checkpoints")
            line |= {"checkpoint_dir_name": index} if named else {}
        lines.append(json.dumps(line))
    (folder / "result.json").write_text("\n".join(lines))
    return states


@pytest.mark.parametrize(
    ("iterations", "named"), [((1, 2, 3, 4), False), ((1, 2, 3, 4), True), ((2, 4), True)]
)
def test_running_index_of_newer_ray_is_no_epoch(
    iterations: tuple[int, ...], named: bool, tmp_path: Path
) -> None:
    states = write_new_ray_trial(tmp_path / "zoo" / "trial", iterations, named)
    report = raw(tmp_path / "zoo", tmp_path / "out")
    columns, weights = rows(tmp_path / "out")
    assert columns["epoch"].tolist() == list(iterations)
    assert "running index" in report.remarks[0].reason
    for epoch, accuracy, row in zip(
        columns["epoch"], columns["test_accuracy"], weights, strict=True
    ):
        np.testing.assert_array_equal(row, flatten(states[int(epoch)]))
        assert accuracy == pytest.approx(result_line(int(epoch), 0, 1.0, {})["test_acc"])


def test_running_index_that_matches_no_result_is_refused(tmp_path: Path) -> None:
    write_tune_zoo(tmp_path / "zoo", models=1)
    write_new_ray_trial(tmp_path / "zoo" / "trial", (2, 4), named=False)
    report = raw(tmp_path / "zoo", tmp_path / "out")
    assert report.models == 1
    assert [(r.model, "they cannot be matched" in r.reason) for r in report.refused] == [
        ("trial", True)
    ]


def test_checkpoint_tells_its_own_iteration(tmp_path: Path) -> None:
    states = write_new_ray_trial(tmp_path / "zoo" / "trial", (2, 4), named=False)
    for index, iteration in enumerate(states):
        folder = tmp_path / "zoo" / "trial" / f"checkpoint_{index:06d}"
        (folder / ".tune_metadata").write_bytes(pickle.dumps({"iteration": iteration}))
    raw(tmp_path / "zoo", tmp_path / "out")
    assert rows(tmp_path / "out")[0]["epoch"].tolist() == [2, 4]


# preprocessed


def write_dataset(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    vector: bool = False,
    dropout: float = 0.0,
    change: dict[str, Any] | None = None,
) -> dict[str, dict[int, Any]]:
    """Pickle objects of the published class, and forget the class."""
    module = types.ModuleType("checkpoints_to_datasets.dataset_base")
    exec("class ModelDatasetBase: pass", module.__dict__)
    package = types.ModuleType("checkpoints_to_datasets")
    monkeypatch.setitem(sys.modules, "checkpoints_to_datasets", package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    saved, states, index = {}, {}, 0
    for part, models in {"trainset": 3, "valset": 1, "testset": 2}.items():
        dataset = module.ModelDatasetBase()
        data: list[Any] = []
        paths: list[Any] = []
        for _ in range(models):
            name = trial_name(index, index + 1)
            states[name] = {epoch: published_cnn(dropout).state_dict() for epoch in (21, 25)}
            data += states[name].values()
            paths += [Path("/netscratch/zoos/tune_zoo_mnist") / name] * 2
            index += 1
        epochs = [21, 25] * models
        accuracy = [0.5 + epoch / 100 for epoch in epochs]
        dataset.__dict__.update(
            root=[Path("/netscratch/zoos")],
            layer_lst=[(0, "conv2d"), (3, "conv2d")],
            train_val_test=part[:-3],
            data_in=torch.stack([flatten(state) for state in data]) if vector else data,
            data_out=pickle.loads(pickle.dumps(data)),
            labels_in=[f"{path}#_#epoch_21" for path in paths],
            paths=paths,
            epochs=epochs,
            properties={
                "test_acc": accuracy,
                "training_iteration": epochs,
                "ggap": [0.125] * len(epochs),
                "model::nlin": ["leakyrelu"] * len(epochs),
                "optim::wd": [0.01] * len(epochs),
            },
        )
        dataset.__dict__.update(change or {})
        saved[part] = dataset
    torch.save(saved, path)
    monkeypatch.delitem(sys.modules, module.__name__)
    monkeypatch.delitem(sys.modules, "checkpoints_to_datasets")
    return states


@pytest.mark.parametrize("vector", [False, True])
def test_preprocessed_zoo_keeps_weights_and_split(
    vector: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = write_dataset(tmp_path / "dataset_mnist_seed.pt", monkeypatch, vector=vector)
    with pytest.raises(ModuleNotFoundError):  # as users know it
        torch.load(tmp_path / "dataset_mnist_seed.pt", weights_only=False)
    source = tmp_path / "dataset_mnist_seed.pt"
    report = import_zoo("modelzoos-pt", source, tmp_path / "out", progress=False)
    columns, weights = rows(tmp_path / "out")
    assert report.zoos[0].splits == {"train": 3, "val": 1, "test": 2} and report.rows == 12
    assert "checkpoints_to_datasets" not in sys.modules
    for index, name in enumerate(columns["model_name"]):
        wanted = flatten(states[name][int(columns["epoch"][index])])
        np.testing.assert_array_equal(weights[index], wanted)


def test_preprocessed_properties_become_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "dataset.pt", monkeypatch)
    import_zoo("modelzoos-pt", tmp_path / "dataset.pt", tmp_path / "out", progress=False)
    columns, _ = rows(tmp_path / "out")
    assert set(columns["activation"]) == {"leaky_relu"} and set(columns["weight_decay"]) == {0.01}
    assert set(columns["seed"]) == {1, 2, 3, 4, 5, 6}  # from the folder's name
    np.testing.assert_allclose(columns["generalization_gap"], 0.125)
    np.testing.assert_allclose(columns["train_accuracy"], columns["test_accuracy"] + 0.125)
    (file, *_) = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    assert file.header.split == {"by": "published"}


def test_preprocessed_dropout_models_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = write_dataset(tmp_path / "dataset.pt", monkeypatch, dropout=0.5)
    import_zoo("modelzoos-pt", tmp_path / "dataset.pt", tmp_path / "out", progress=False)
    columns, weights = rows(tmp_path / "out")
    name, epoch = columns["model_name"][0], int(columns["epoch"][0])
    np.testing.assert_array_equal(weights[0], flatten(states[name][epoch]))


def test_vectors_that_lost_tensors_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published class keeps 948 of 2,464 values of a model with dropout, silently."""
    real = flatten
    monkeypatch.setattr(f"{__name__}.flatten", lambda state: real(state)[:948])
    write_dataset(tmp_path / "dataset.pt", monkeypatch, vector=True)
    with pytest.raises(BuildError, match="948 values is no whole published network"):
        import_zoo("modelzoos-pt", tmp_path / "dataset.pt", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": [1]}, "entries"),
        ({"epochs": ["x"] * 6}, "no whole numbers"),
        ({"paths": 3}, "entries"),
        ({"properties": [1]}, "properties of trainset are a list"),
        ({"data_in": 5}, "neither a list of checkpoints nor one tensor"),
    ],
)
def test_contradicting_dataset_is_an_error(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "dataset.pt", monkeypatch, change=change)
    with pytest.raises(BuildError, match=message):
        import_zoo("modelzoos-pt", tmp_path / "dataset.pt", tmp_path / "out", progress=False)


def test_split_file_overrides_the_published_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = write_dataset(tmp_path / "dataset.pt", monkeypatch)
    lines = [f"{name},{SPLITS[index % 3]}" for index, name in enumerate(states)]
    (tmp_path / "splits.csv").write_text("\n".join(["model_name,split", *lines]))
    report = import_zoo(
        "modelzoos-pt",
        tmp_path / "dataset.pt",
        tmp_path / "out",
        split_file=tmp_path / "splits.csv",
        progress=False,
    )
    assert report.zoos[0].splits == {"train": 2, "val": 2, "test": 2}


def test_other_torch_file_is_no_preprocessed_zoo(tmp_path: Path) -> None:
    torch.save({"trainset": torch.zeros(3)}, tmp_path / "dataset.pt")
    with pytest.raises(BuildError, match="no dataset object of Model Zoos under 'trainset'"):
        import_zoo("modelzoos-pt", tmp_path / "dataset.pt", tmp_path / "out", progress=False)
