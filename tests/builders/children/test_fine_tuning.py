"""Fine-tuning starts from the parents' own weights, keeps their splits, and says so."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightzoo.builders.build import Engine
from weightzoo.builders.children.fine_tuning import fine_tune_zoo
from weightzoo.builders.children.parents import choose_parents, parse_overrides
from weightzoo.zoos.errors import BuildError, RecipeError, ZooNotFoundError
from weightzoo.zoos.format import ZooFile, open_zoo_file, write_zoo_file
from weightzoo.zoos.images import catalog as images
from weightzoo.zoos.images.image_set import ImageSet, make_image_set
from weightzoo.zoos.index import ZooIndex, describe_shard
from weightzoo.zoos.provenance import parent_provenance

Rows = dict[tuple[int, int], dict[str, Any]]


def _tune(source: Path, out: Path, **options: Any) -> Path:
    engine = Engine(workers=1, cohort_size=4, progress=False)
    defaults = {"images": "digits", "epochs": 1, "overrides": {"train_fraction": 0.2}}
    fine_tune_zoo(source, out, engine=engine, **defaults | options)  # type: ignore[arg-type]
    return out


def _rows(folder: Path) -> Rows:
    """Columns and weights of every row, by model and epoch."""
    rows: Rows = {}
    for file in ZooIndex.read(folder).open(folder):
        columns = file.read_columns() | {"weights": file.map_weights()}
        for index in range(file.rows):
            row = {name: column[index] for name, column in columns.items()}
            rows[row["model_id"], row["epoch"]] = row
    return rows


def _header(folder: Path) -> Any:
    return ZooIndex.read(folder).open(folder)[0].header


def _other_images(classes: int = 10, side: int = 28) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    splits = []
    for count in (64, 32, 32):
        pixels = torch.randint(0, 255, (count, 1, side, side), generator=generator)
        splits.append((pixels.to(torch.uint8), torch.arange(count) % classes))
    return make_image_set("other", splits, classes)


def test_fine_tuned_zoo_starts_from_its_parents_and_moves_on(
    parent_zoo: Path, tmp_path: Path
) -> None:
    """On the parents' own images epoch 0 has their weights and their recorded accuracy."""
    parents, children = _rows(parent_zoo), _rows(_tune(parent_zoo, tmp_path / "child"))
    assert sorted(children) == [(model, epoch) for model in range(10) for epoch in (0, 1)]
    for model in range(10):
        parent, start, end = parents[model, 4], children[model, 0], children[model, 1]
        np.testing.assert_array_equal(start["weights"], parent["weights"])
        assert start["test_accuracy"] == parent["test_accuracy"]
        assert (start["split"], start["seed"]) == (parent["split"], parent["seed"])
        assert start["activation"] == parent["activation"]
        assert (end["weights"] != start["weights"]).mean() > 0.3  # dead units stay
    gain = [children[m, 1]["train_loss"] - children[m, 0]["train_loss"] for m in range(10)]
    assert np.mean(gain) < 0


def test_fine_tuned_zoo_tells_its_lineage(parent_zoo: Path, tmp_path: Path) -> None:
    out = _tune(parent_zoo, tmp_path / "child", epochs=2, checkpoints=[2])
    for (model, epoch), row in _rows(out).items():
        assert (row["relation"], row["parent_zoo"]) == ("fine-tuned", "readers")
        assert (row["parent_model_id"], row["parent_epoch"], epoch) == (model, 4, 2)
    header = _header(out)
    assert header.provenance["parent"] == parent_provenance(parent_zoo)
    assert header.recipe["fine_tuning"] == {"redrawn": [], "left_out": 0}
    assert header.recipe["name"] == ZooIndex.read(out).name == "child"


def test_fine_tuning_draws_only_the_head_for_other_classes_anew(
    parent_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(images.IMAGE_SETS, "other", lambda: _other_images(classes=3))
    out = _tune(parent_zoo, tmp_path / "child", images="other")
    header, table = _header(out), _header(parent_zoo).layer_table
    assert header.architecture.shapes()[-1] == (3,)
    assert header.recipe["fine_tuning"]["redrawn"] == ["linear2.weight", "linear2.bias"]
    parents, children = _rows(parent_zoo), _rows(out)
    heads = []
    for model in range(10):
        new = header.layer_table.split(torch.tensor(children[model, 0]["weights"]))
        old = table.split(torch.tensor(parents[model, 4]["weights"]))
        for name in set(old) - {"linear2.weight", "linear2.bias"}:
            assert torch.equal(new[name], old[name])
        heads.append(new["linear2.weight"])
    assert not torch.equal(heads[0], heads[1]) and heads[0].std() > 0


def test_fine_tuning_takes_the_rows_that_a_condition_picks(
    parent_zoo: Path, tmp_path: Path
) -> None:
    def early(columns: Any) -> np.ndarray:
        return (columns["epoch"] == 0) & (columns["model_id"] < 6)

    out = _tune(parent_zoo, tmp_path / "child", where=early, overrides={"lr": 0.25})
    parents, children = _rows(parent_zoo), _rows(out)
    assert {model for model, _ in children} == set(range(6))
    assert _header(out).recipe["fine_tuning"]["left_out"] == 4
    for model in range(6):
        np.testing.assert_array_equal(children[model, 0]["weights"], parents[model, 0]["weights"])
        assert (children[model, 1]["parent_epoch"], children[model, 1]["lr"]) == (0, 0.25)


def test_fine_tuning_leaves_diverged_rows_out(parent_zoo: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(parent_zoo, tmp_path / "readers"))
    _change(
        folder, lambda columns: columns["status"].__setitem__(columns["model_id"] == 1, "diverged")
    )
    parents = choose_parents(folder)
    assert parents.left_out == 1 and 1 not in [model.model_id for model in parents.models]


def _change(folder: Path, change: Any, **header: Any) -> None:
    """Write every file of a zoo again, changed, and list it."""
    index = ZooIndex.read(folder)
    for shard in index.shards:
        file: ZooFile = open_zoo_file(folder / shard.path)
        columns, weights = file.read_columns(), np.array(file.map_weights())
        change(columns)
        write_zoo_file(file.path, replace(file.header, **header), columns, weights)
    shards = [describe_shard(folder, s.path, s.split, s.models) for s in index.shards]
    ZooIndex(name=index.name, shards=tuple(shards)).write(folder)


def test_fine_tuning_of_an_imported_zoo_asks_for_what_it_must_know(
    parent_zoo: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(parent_zoo, tmp_path / "readers"))
    _change(
        folder,
        lambda columns: [columns.pop("activation"), columns["lr"].fill(np.nan)],
        hyper_parameters=("lr",),
    )
    with pytest.raises(BuildError, match="activation of model 0 is unknown: give it, as in --set"):
        choose_parents(folder)
    models = choose_parents(folder, overrides={"activation": "tanh"}).models
    assert {m.hyper_parameters.activation for m in models} == {"tanh"}
    assert {m.hyper_parameters.lr for m in models} == {1e-3}
    _change(folder, lambda columns: None, architecture=None)
    with pytest.raises(BuildError, match="stores no architecture"):
        choose_parents(folder)


def test_fine_tuning_refuses_images_that_do_not_fit(
    parent_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(images.IMAGE_SETS, "other", lambda: _other_images(side=8))
    with pytest.raises(BuildError, match=r"takes \(1, 28, 28\).*has inputs of \(1, 8, 8\)"):
        _tune(parent_zoo, tmp_path / "child", images="other")
    with pytest.raises(ZooNotFoundError):
        _tune(tmp_path, tmp_path / "child")
    with pytest.raises(BuildError, match="no finite row that can be taken"):
        _tune(parent_zoo, tmp_path / "child", where=lambda columns: columns["epoch"] > 9)
    assert not list(tmp_path.iterdir())


def test_fine_tuning_goes_on_only_with_the_same_parents(parent_zoo: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _tune(parent_zoo, tmp_path / "child")
    with pytest.raises(
        BuildError, match="unfinished finetune of .readers. that differs in .*places"
    ):
        _tune(parent_zoo, tmp_path / "child", where=lambda columns: columns["epoch"] == 0)
    _tune(parent_zoo, tmp_path / "child")


def test_overrides_are_read_by_the_type_of_the_hyper_parameter() -> None:
    texts = ["lr=1e-4", "batch_size=16", "optimizer=sgd"]
    assert parse_overrides(texts) == {"lr": 1e-4, "batch_size": 16, "optimizer": "sgd"}
    for text, message in {
        "lr": "name=value",
        "speed=3": "unknown hyper-parameters .'speed'., known are",
        "batch_size=2.5": "batch_size must be int, got '2.5'",
    }.items():
        with pytest.raises(RecipeError, match=message):
            parse_overrides([text])
