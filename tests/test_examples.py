"""The examples in docstrings and guides run and give what they say."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

MODULES = (
    "builders.build",
    "builders.writing.hf_dataset",
    "builders.writing.own_models",
    "builders.writing.zoo_writer",
    "encoders.flow_matching",
    "encoders.hyper_representation",
    "encoders.losses",
    "encoders.registry",
    "encoders.sane",
    "encoders.scale_gmn",
    "encoders.sne",
    "encoders.statistics",
    "loaders.batching.device",
    "loaders.batching.mixed",
    "loaders.batching.order",
    "loaders.batching.window_reader",
    "loaders.collections.collection",
    "loaders.collections.members",
    "loaders.concatenation",
    "loaders.collections.mixed_zoo",
    "loaders.dataset.batch",
    "loaders.dataset.edits",
    "loaders.dataset.trajectories",
    "loaders.dataset.zoo_dataset",
    "loaders.editing",
    "loaders.load",
    "loaders.transforms.alignment",
    "loaders.transforms.augmentations",
    "loaders.transforms.permutations",
    "loaders.transforms.standardization",
    "loaders.zoo_dict",
    "tasks.autoencoding.hyper_representation",
    "tasks.autoencoding.sane",
    "tasks.flow_matching.flow_training",
    "tasks.generation.generated_zoo",
    "tasks.prediction.property_prediction",
    "tasks.prediction.property_report",
    "tasks.pretrained",
    "tasks.scoring.evaluator",
    "tasks.training.encoder_making",
    "tasks.training.encoder_regressor",
    "tasks.training.property_predictor",
    "tasks.training.settings",
    "zoos.networks.tracing",
    "zoos.recipe",
    "zoos.tokens.chunks",
    "zoos.tokens.lora_sets",
    "zoos.tokens.mixed_sets",
    "zoos.tokens.neurons",
    "zoos.tokens.windows",
    "zoos.texts.corpus",
    "zoos.texts.text_set",
)
PUBLIC = ("", ".loaders", ".loaders.collections", ".encoders", ".tasks")
GUIDES = (
    "bring_your_models.md",
    pytest.param("index.md", marks=pytest.mark.slow),
    "training_loop.md",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name: str, request: pytest.FixtureRequest) -> None:
    module = importlib.import_module(f"weightzoo.{name}")
    rows = "sharded_zoo" if name.startswith("tasks.") else "tiny_zoo"  # training needs 10 rows
    result = doctest.testmod(module, extraglobs={"ZOO": request.getfixturevalue(rows)})
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_classes_and_functions_have_an_example_that_runs(name: str) -> None:
    package = importlib.import_module(f"weightzoo{name}")
    public = {one: getattr(package, one) for one in package.__all__}
    described = {one: value for one, value in public.items() if callable(value)}
    assert len(described) >= 8
    assert [one for one, value in described.items() if ">>>" not in (value.__doc__ or "")] == []
    homes = {value.__module__.removeprefix("weightzoo.") for value in described.values()}
    assert homes <= set(MODULES)


@pytest.mark.parametrize("name", GUIDES)
def test_blocks_of_a_guide_run_in_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[1] / "docs" / name).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
