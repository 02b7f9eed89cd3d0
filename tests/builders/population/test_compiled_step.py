"""Compiled training steps: equal to torch's, chosen once a build, recorded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from weightzoo.builders.build import build_zoo
from weightzoo.builders.estimate import estimate_build
from weightzoo.builders.population import compiled_step as module
from weightzoo.builders.population.compiled_step import COMPILED, can_compile, step_code
from weightzoo.builders.shard_build import build_shard
from weightzoo.builders.training.cohort import Cohort
from weightzoo.builders.training.objectives import load_data
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.recipe import Model, Recipe, load_recipe

POINTS = 1000


def _recipe(name: str = "sine-inr") -> Recipe:
    recipe = load_recipe(name)
    fixed = {"batch_size": 40, "activation": "gelu", "dropout": 0.0, "lr": 1e-3}
    return replace(recipe, factors=recipe.factors | fixed, seeds=8, epochs=1, checkpoints=(1,))


def _values(recipe: Recipe, models: int | None = None) -> list[Any]:
    return [model.hyper_parameters for model in recipe.models(models)]


def _uncompiled(known: Any, function: Any, example: Any) -> Any:
    return function


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every build is worth compiling, and its steps are run as they would be traced."""
    monkeypatch.setattr(module, "_library", _uncompiled)
    monkeypatch.setattr(module, "saved_seconds", lambda *_: 1e9)
    monkeypatch.setattr(module, "_has_compiler", lambda: True)
    can_compile.cache_clear()


def _losses(recipe: Recipe, models: list[Model], code: str) -> torch.Tensor:
    cohort = Cohort(recipe, models, load_data(recipe.images), code=code)
    return torch.stack([losses for _, losses in zip(range(6), cohort.epoch(), strict=False)])


@pytest.mark.parametrize("name", ["sine-inr", "digits-mlp", "digits-vit"])
def test_traced_steps_have_the_losses_of_torch(name: str, traced: None) -> None:
    recipe = _recipe(name)
    models = list(recipe.models())[:3]
    compiled, by_torch = (_losses(recipe, models, code) for code in ("compiled", "torch"))
    torch.testing.assert_close(compiled, by_torch, rtol=1e-4, atol=1e-5)
    assert compiled[0].std() > 0


def test_step_code_compiles_where_the_whole_build_is_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_has_compiler", lambda: True)
    monkeypatch.setattr(module, "can_compile", lambda: True)
    recipe = load_recipe("sine-inr")
    codes = [step_code(recipe, _values(recipe, models), POINTS, "cpu") for models in (1000, 20)]
    assert codes == ["compiled", "torch"]
    assert step_code(recipe, _values(recipe, 1000), POINTS, "cuda") == "torch"


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp", "cifar10-resnet18-seed"])
def test_step_code_leaves_other_nets_and_mixed_populations_to_torch(
    name: str, traced: None
) -> None:
    recipe = load_recipe(name)
    assert step_code(recipe, _values(recipe), POINTS, "cpu") == "torch"


@pytest.mark.parametrize("lacking", ["compiler", "switch", "torch"])
def test_step_code_is_torch_where_nothing_can_be_compiled(
    lacking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no omp.h")

    can_compile.cache_clear()
    match lacking:
        case "compiler":
            monkeypatch.setenv("CXX", "no-such-compiler")
        case "switch":
            monkeypatch.setenv("WEIGHTZOO_COMPILE", "0")
        case "torch":
            monkeypatch.setenv("CXX", "true")
            monkeypatch.setattr(module, "_library", fails)
    recipe = load_recipe("sine-inr")
    if lacking == "torch":
        with pytest.warns(UserWarning, match="training will be slower: RuntimeError"):
            code = step_code(recipe, _values(recipe), POINTS, "cpu")
    else:
        code = step_code(recipe, _values(recipe), POINTS, "cpu")
    can_compile.cache_clear()
    assert code == "torch"


def test_build_records_the_code_of_its_steps(tmp_path: Path, traced: None) -> None:
    build_zoo(_recipe(), tmp_path / "zoo", models=8, workers=1, progress=False)
    (file, *_) = ZooIndex.read(tmp_path / "zoo").open(tmp_path / "zoo")
    assert file.header.provenance["steps"] == COMPILED


def test_build_goes_on_with_the_code_it_began_with_only(
    tmp_path: Path, traced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("weightzoo.builders.build.run_here", stop)
        with pytest.raises(KeyboardInterrupt):
            build_zoo(_recipe(), tmp_path / "zoo", models=8, workers=1, progress=False)
    monkeypatch.setattr(module, "_has_compiler", lambda: False)
    with pytest.raises(BuildError, match="steps"):
        build_zoo(_recipe(), tmp_path / "zoo", models=8, workers=1, progress=False)


def test_worker_that_cannot_compile_stops_the_build(
    traced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no omp.h")

    monkeypatch.setattr(module, "_library", fails)
    recipe = _recipe()
    with pytest.raises(BuildError, match="WEIGHTZOO_COMPILE=0"):
        _losses(recipe, list(recipe.models())[:2], COMPILED)


def test_estimate_takes_off_what_compiling_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, found = load_recipe("sine-inr"), {}
    models = list(recipe.models(1000))
    rates = type("Rates", (), {"training": 1e6, "evaluation": 1e6, "models": 1, "batch_size": 9})
    monkeypatch.setattr("weightzoo.builders.estimate.probe", lambda *_: rates)
    for has in (True, False):
        monkeypatch.setattr(module, "_has_compiler", lambda has=has: has)
        found[has] = estimate_build(recipe, models, workers=1)
    assert found[True].seconds < found[False].seconds - 300
    assert "steps are compiled" in found[True].basis and "steps" not in found[False].basis


@pytest.mark.slow
@pytest.mark.skipif(not module._has_compiler(), reason="needs g++")
@pytest.mark.parametrize("name", ["sine-inr", "digits-mlp", "digits-vit"])
def test_compiled_steps_have_the_losses_of_torch(name: str) -> None:
    recipe = _recipe(name)
    models = list(recipe.models())[:3]
    compiled, by_torch = (_losses(recipe, models, code) for code in ("compiled", "torch"))
    torch.testing.assert_close(compiled, by_torch, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not module._has_compiler(), reason="needs g++")
def test_compiled_builds_are_equal_in_processes_shards_and_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "saved_seconds", lambda *_: 1e9)
    can_compile.cache_clear()
    recipe, options = _recipe(), {"models": 8, "cohort_size": 4, "progress": False}
    build_zoo(recipe, tmp_path / "one", workers=1, **options)  # type: ignore[arg-type]
    build_zoo(recipe, tmp_path / "two", workers=2, **options)  # type: ignore[arg-type]
    for shard in (1, 2):
        build_shard(recipe, tmp_path / "shards", (shard, 2), **options)  # type: ignore[arg-type]
    _stopped_after_one_cohort(recipe, tmp_path / "resumed", options, monkeypatch)
    build_zoo(recipe, tmp_path / "resumed", workers=1, **options)  # type: ignore[arg-type]
    weights = [_weights(tmp_path / name) for name in ("one", "two", "shards", "resumed")]
    assert len(set(weights)) == 1
    monkeypatch.setenv("WEIGHTZOO_COMPILE", "0")
    build_zoo(recipe, tmp_path / "torch", workers=1, **options)  # type: ignore[arg-type]
    assert _weights(tmp_path / "torch") != weights[0]


def _stopped_after_one_cohort(
    recipe: Recipe, out: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from weightzoo.builders.engines import process_engine

    real, calls = process_engine.train_and_write, []

    def once(*arguments: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        real(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(process_engine, "train_and_write", once)
        build_zoo(recipe, out, workers=1, **options)


def _weights(folder: Path) -> bytes:
    return b"".join(file.map_weights().tobytes() for file in ZooIndex.read(folder).open(folder))
