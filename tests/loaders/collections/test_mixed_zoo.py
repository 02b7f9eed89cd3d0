"""What a mixed zoo says where only rows of one architecture will do."""

import copy
from pathlib import Path

import pytest
from make_mixed_zoo import make_mixed_zoo

from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.loaders.collections.mixed_zoo import OneArchitectureError


def test_attributes_of_one_architecture_are_refused_with_advice(tmp_path: Path) -> None:
    train = load_zoo(make_mixed_zoo(tmp_path / "park"), split="train")
    with pytest.raises(OneArchitectureError, match="needs rows of one: take one of .* 'tiny-cnn'"):
        train.layer_table  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        train.nothing  # noqa: B018
    assert not hasattr(train, "weights") and len(copy.copy(train)) == len(train)


def test_training_on_a_mixed_zoo_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    park = make_mixed_zoo(tmp_path / "park")
    assert main(["train", "sne", str(park), "--out", str(tmp_path / "model")]) == 1
    assert "park is a mixed zoo of many architectures" in capsys.readouterr().err
