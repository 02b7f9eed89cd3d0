"""Merging rows of a zoo into a zoo with lineage."""

import json
from pathlib import Path

import pytest
import torch
from make_tiny_zoo import copy_as_imported

from weightzoo.cli.main import main
from weightzoo.loaders import HiddenPermutations, load_zoo
from weightzoo.tasks.generation.generated_zoo import zoo_images
from weightzoo.tasks.merge_methods.calibration import fisher_information, input_grams
from weightzoo.tasks.merging.merged_zoo import merge_rows, write_merged_zoo
from weightzoo.tasks.merging.recipe import ZooRows, read_merge_recipe
from weightzoo.tasks.merging.zoo_rows import last_checkpoints, open_zoo_rows
from weightzoo.zoos.errors import BuildError, MergeError
from weightzoo.zoos.folder_identity import Identity
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.provenance import parent_provenance

MEAN = read_merge_recipe({"method": "mean", "members": ["-"]})


def test_merged_zoo_is_measured_and_names_its_parents(trained_zoo: Path, tmp_path: Path) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train"))
    model = merge_rows(zoo, [0, 2], MEAN)
    write_merged_zoo(tmp_path / "merged", [model], zoo)
    written = load_zoo(tmp_path / "merged", split="train")
    assert torch.allclose(written.weights()[0], zoo.weights([0, 2]).mean(0))
    assert written.columns["relation"].tolist() == ["merged"]
    assert 0 <= written.columns["test_accuracy"][0] <= 1
    recipe = json.loads((tmp_path / "merged" / f"merge-{model.fingerprint}.json").read_text())
    ids = zoo.columns["model_id"]
    assert recipe["parents"] == [[zoo.name, int(ids[row]), 3] for row in (0, 2)]


def test_merged_zoo_of_imported_parents_claims_no_licence(
    trained_zoo: Path, tmp_path: Path
) -> None:
    folder = copy_as_imported(trained_zoo, tmp_path / "tuned")
    zoo = last_checkpoints(load_zoo(folder, split="train"))
    write_merged_zoo(tmp_path / "merged", [merge_rows(zoo, [0, 1], MEAN)], zoo)
    (made,) = ZooIndex.read(tmp_path / "merged").open(tmp_path / "merged")
    assert made.header.provenance["parent"] == parent_provenance(folder)
    assert "license: unknown" in (tmp_path / "merged" / "README.md").read_text()


def test_merged_zoo_keeps_the_unfinished_work_of_another_command(
    trained_zoo: Path, tmp_path: Path
) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train"))
    model, partial = merge_rows(zoo, [0, 2], MEAN), tmp_path / "merged.partial"
    partial.mkdir()
    Identity("build", "mlps", {}).write(partial)
    with pytest.raises(BuildError, match="unfinished build of 'mlps'"):
        write_merged_zoo(tmp_path / "merged", [model], zoo)
    index = write_merged_zoo(tmp_path / "merged", [model], zoo, overwrite=True)
    assert index.name == "merged" and not partial.exists()


def test_rows_are_chosen_by_condition(trained_zoo: Path) -> None:
    rows = ZooRows(path=str(trained_zoo), split="val", where="epoch == 1")
    zoo, base = open_zoo_rows(rows)
    assert set(zoo.columns["epoch"].tolist()) == {1} and base is None
    with pytest.raises(MergeError, match="no row"):
        open_zoo_rows(ZooRows(path=str(trained_zoo), where="epoch == 99"))
    with pytest.raises(MergeError, match="the base must be one row"):
        open_zoo_rows(ZooRows(path=str(trained_zoo), base="epoch == 0"))


def test_permuted_copies_merge_to_the_model_once_aligned(trained_zoo: Path, tmp_path: Path) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train"))
    permutations = HiddenPermutations.of(zoo.header.architecture)  # type: ignore[arg-type]
    drawn = permutations.random_permutations(torch.Generator().manual_seed(0), 1)
    moved = permutations.apply(zoo.weights([0]), drawn)
    pair = zoo.select([0, 1])
    weights = torch.cat([zoo.weights([0]), moved])
    pair.save(tmp_path / "pair.h5")
    file = load_zoo(tmp_path / "pair.h5", split="train").source.files[0]
    file.map_weights("r+")[:] = weights.numpy()
    loaded = load_zoo(tmp_path / "pair.h5", split="train")
    plain = merge_rows(loaded, [0, 1], MEAN).weights
    aligned = merge_rows(loaded, [0, 1], MEAN, aligned=True).weights
    assert torch.allclose(aligned, weights[0], atol=1e-6)
    assert not torch.allclose(plain, weights[0], atol=1e-2)


@pytest.mark.parametrize("method", ["fisher", "regmean"])
def test_methods_measure_what_they_need_on_the_zoos_images(trained_zoo: Path, method: str) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train"))
    recipe = read_merge_recipe({"method": method, "members": ["-"]})
    same = merge_rows(zoo.select([1]), [0], recipe)
    assert torch.allclose(same.weights, zoo.weights([1])[0], atol=1e-4)
    both = merge_rows(zoo, [0, 1], recipe).weights
    assert both.isfinite().all() and not torch.allclose(both, zoo.weights([0, 1]).mean(0))


def test_grams_and_fisher_have_the_shapes_of_the_weights(trained_zoo: Path) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train"))
    images, state = zoo_images(zoo).train, zoo.state_dict(0)
    fisher, grams = fisher_information(zoo.module(0), images), input_grams(zoo.module(0), images)
    assert {name: value.shape for name, value in fisher.items()} == {
        name: value.shape for name, value in state.items()
    }
    first = next(iter(grams))
    inputs = images.pixels[:256].flatten(1)
    assert torch.allclose(grams[first], inputs.T @ inputs, rtol=1e-4, atol=1e-3)
    assert all(value.min() >= 0 and value.sum() > 0 for value in fisher.values())


def test_rows_are_repaired_after_the_merge(trained_zoo: Path) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train"))
    plain = merge_rows(zoo, [0, 1], MEAN, aligned=True)
    repaired = merge_rows(zoo, [0, 1], MEAN, aligned=True, repaired=True)
    assert repaired.recipe["repaired"] and repaired.fingerprint != plain.fingerprint
    assert not torch.allclose(repaired.weights, plain.weights, atol=1e-2)
    alone = merge_rows(zoo, [0], MEAN, repaired=True)
    assert torch.allclose(alone.weights, zoo.weights([0])[0], atol=1e-4)


def test_command_repairs_an_aligned_merge(trained_zoo: Path, tmp_path: Path) -> None:
    command = ["merge", str(trained_zoo), "--split", "train[:2]", "--align", "--out"]
    assert main([*command, str(tmp_path / "plain")]) == 0
    assert main([*command, str(tmp_path / "repaired"), "--repair"]) == 0
    found = [next((tmp_path / name).glob("merge-*.json")) for name in ("plain", "repaired")]
    assert [json.loads(path.read_text())["repaired"] for path in found] == [False, True]
    zoo = open_zoo_rows(ZooRows(path=str(trained_zoo), split="train[:2]"))[0]
    wanted = merge_rows(zoo, [0, 1], MEAN, aligned=True, repaired=True).weights
    written = load_zoo(tmp_path / "repaired", split="train").weights()[0]
    assert torch.allclose(written, wanted, atol=1e-6)
    folders = [str(tmp_path / "plain"), "--repair", "--recipe", "none.toml"]
    assert main(["merge", *folders, "--out", str(tmp_path / "other")]) == 1
