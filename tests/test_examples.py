"""The examples in docstrings and guides run and give what they say."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

MODULES = (
    "builders.writing.own_models",
    "builders.writing.zoo_writer",
    "encoders.losses",
    "encoders.registry",
    "encoders.statistics",
    "loaders.batching.device",
    "loaders.concatenation",
    "loaders.dataset.edits",
    "loaders.dataset.trajectories",
    "loaders.dataset.zoo_dataset",
    "loaders.editing",
    "loaders.load",
    "loaders.tokens.chunks",
    "loaders.tokens.mixed_sets",
    "loaders.tokens.neurons",
    "loaders.transforms.alignment",
    "loaders.transforms.augmentations",
    "loaders.transforms.standardization",
    "loaders.zoo_dict",
    "tasks.scoring.evaluator",
    "tasks.training.encoder_making",
    "tasks.training.settings",
    "zoos.networks.tracing",
    "zoos.recipe",
)
GUIDES = (
    "bring_your_models.md",
    pytest.param("index.md", marks=pytest.mark.slow),
    "training_loop.md",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name: str, tiny_zoo: Path) -> None:
    module = importlib.import_module(f"weightzoo.{name}")
    result = doctest.testmod(module, extraglobs={"ZOO": tiny_zoo})
    assert result.attempted > 0 and result.failed == 0


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
