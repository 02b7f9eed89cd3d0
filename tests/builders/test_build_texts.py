"""Language models as zoos: built, verified, fine-tuned on one domain, merged by family."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.zoos.texts.test_text_set import write_text
from weightzoo.builders.build import Engine, build_zoo
from weightzoo.builders.children.fine_tuning import fine_tune_zoo
from weightzoo.builders.training.cohort import train_cohort
from weightzoo.builders.training.one_by_one import train_one
from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.tasks.dynamics.analysis import analyse_zoo
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.networks.presets import preset
from weightzoo.zoos.recipe import Recipe, load_recipe
from weightzoo.zoos.texts.text_set import load_texts


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return replace(
        load_recipe("packages-transformer"),
        architecture=preset("transformer", width=8, blocks=1, heads=2),
        images=f"text:{write_text(tmp_path / 'own.txt')}",
        epochs=2,
        checkpoints=(0, 2),
        seeds=3,
    )


def test_population_of_language_models_equals_one_by_one(recipe: Recipe) -> None:
    texts, models = load_texts(recipe.images), recipe.models()
    together = train_cohort(recipe, models, texts)
    for row, model in enumerate(models):
        module, losses = train_one(recipe, model, texts)
        flat = recipe.architecture.layer_table().flatten(module.state_dict())
        torch.testing.assert_close(together.weights[row, -1], flat, atol=1e-4, rtol=1e-3)
        assert losses[-1] < losses[0]


def test_weights_do_not_depend_on_the_cohort(recipe: Recipe) -> None:
    texts, models = load_texts(recipe.images), recipe.models()
    together = train_cohort(recipe, models, texts)
    alone = train_cohort(recipe, models[1:2], texts)
    assert torch.equal(together.weights[1:2], alone.weights)
    assert torch.equal(together.metrics["test_loss"][1:2], alone.metrics["test_loss"])


def test_zoo_of_language_models_is_verified_and_fine_tuned(recipe: Recipe, tmp_path: Path) -> None:
    build_zoo(recipe, tmp_path / "bases", workers=1, progress=False)
    other = write_text(tmp_path / "other.txt", 450)
    fine_tune_zoo(
        tmp_path / "bases",
        tmp_path / "children",
        images=f"text:{other}",
        epochs=1,
        engine=Engine(workers=1, progress=False),
    )
    for name in ("bases", "children"):
        checks = verify_zoo(tmp_path / name)
        assert all(check.passed for check in checks), checks
    bases, children = (load_zoo(tmp_path / name)["train"] for name in ("bases", "children"))
    last = bases.columns["epoch"] == 2
    np.testing.assert_array_equal(bases.weights()[last], children.weights()[::2])
    loss = bases.columns["test_loss"]
    assert (loss[last] < loss[~last]).all() and (loss[~last] > 5).all()
    assert children.header.recipe["fine_tuning"]["redrawn"] == []


def test_an_image_architecture_does_not_fit_a_text(recipe: Recipe, tmp_path: Path) -> None:
    wrong = replace(recipe, architecture=preset("cnn-s"))
    with pytest.raises(BuildError, match=r"needs outputs of \(128, 256\)"):
        build_zoo(wrong, tmp_path / "zoo", workers=1, progress=False)


def test_analysis_measures_paths_and_spectra_and_says_what_a_text_lacks(
    recipe: Recipe, tmp_path: Path
) -> None:
    build_zoo(recipe, tmp_path / "bases", workers=1, progress=False)
    found = analyse_zoo(tmp_path / "bases", tmp_path / "analysed", progress=False)
    assert "path_length" in found.data["measures"]
    assert any("its networks read text" in note for note in found.data["notes"])


def test_children_of_a_text_zoo_are_found_and_merged(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_zoo(recipe, tmp_path / "bases", workers=1, progress=False)
    texts = [f"text:{write_text(tmp_path / name, 450)}" for name in ("one.txt", "two.txt")]
    for number, text in enumerate(texts):
        fine_tune_zoo(
            tmp_path / "bases",
            tmp_path / f"children-{number}",
            images=text,
            epochs=1,
            engine=Engine(workers=1, progress=False),
        )
    pool, merged = str(tmp_path / "pool"), str(tmp_path / "merged")
    children = [str(tmp_path / f"children-{number}") for number in range(2)]
    assert main(["concat", *children, "--same-ids", "renumber", "--out", pool]) == 0
    capsys.readouterr()
    assert main(["families", pool, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["families"]) == 3  # one per base
    chosen = ["merge", pool, "--where", "epoch == 1 and seed == 1", "--out", merged]
    assert main(chosen) == 1
    assert "say what merges are measured on, with --images NAME" in capsys.readouterr().err
    assert main([*chosen, "--images", texts[0]]) == 0
    [zoo] = load_zoo(merged).values()
    assert np.isfinite(zoo.columns["test_loss"]).all()
