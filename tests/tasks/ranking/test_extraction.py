"""Features of zoos in one pass, of callables and of backbones by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.loaders.load import load_zoo
from weightzoo.tasks.ranking import backbones, extraction
from weightzoo.tasks.ranking.backbones import backbone_group, with_features
from weightzoo.tasks.ranking.extraction import callable_groups, extract_features, zoo_groups
from weightzoo.tasks.ranking.features import FeatureFile
from weightzoo.zoos.errors import UnsuitableError
from weightzoo.zoos.images.catalog import load_images

DIGITS = load_images("digits")


def test_zoo_features_are_what_each_rebuilt_module_computes(
    trained_zoo: Path, tmp_path: Path
) -> None:
    names = extract_features(
        zoo_groups(trained_zoo), DIGITS, "test", tmp_path / "f.h5", progress=False
    )
    assert len(names) == 24 and names[0].startswith("small/")
    rows = load_zoo(trained_zoo, split="train").with_format("module")
    last = int(np.flatnonzero(rows.columns["epoch"] == 3)[0])
    net = rows[last]["module"]
    with FeatureFile(tmp_path / "f.h5") as file:
        task = file.read(f"small/{rows.columns['model_id'][last]}")
        noted = file.details(names[0])
    features, logits = with_features(net)(DIGITS.test.pixels)
    assert task.features == pytest.approx(features.detach().numpy(), abs=1e-4)
    assert task.logits == pytest.approx(logits.detach().numpy(), abs=1e-4)
    assert noted["source"] == "digits" and 0 < noted["source_accuracy"] < 1


def test_extraction_that_was_killed_computes_only_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def net(pixels: torch.Tensor) -> torch.Tensor:
        if len(seen) == 2:
            seen.append(-1)
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return pixels.flatten(1)[:, 300:310]

    monkeypatch.setattr(extraction, "BATCH", 128)
    groups = callable_groups({"crop": net})
    with pytest.raises(KeyboardInterrupt):
        extract_features(groups, DIGITS, "test", tmp_path / "f.h5", progress=False)
    assert extract_features(groups, DIGITS, "test", tmp_path / "f.h5", progress=False) == ["crop"]
    assert seen == [128, 128, -1, 44]
    with FeatureFile(tmp_path / "f.h5") as file:
        wanted = DIGITS.test.pixels.flatten(1)[:, 300:310].numpy()
        assert file.read("crop").features == pytest.approx(wanted)


def test_images_that_models_were_trained_on_are_refused(trained_zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsuitableError, match="1197 of 1197 images of task 'digits/train'"):
        extract_features(zoo_groups(trained_zoo), DIGITS, "train", tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()


def test_extraction_refuses_bad_input_before_any_work(trained_zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    one = callable_groups({"a": lambda pixels: pixels})
    with pytest.raises(ValueError, match="named twice: .'a'"):
        extract_features([*one, *one], DIGITS, "test", out)
    with pytest.raises(ValueError, match="split must be one of"):
        extract_features(one, DIGITS, "validation", out)
    small = replace(zoo_groups(trained_zoo)[0], shape=(3, 32, 32))
    with pytest.raises(UnsuitableError, match=r"take images of shape \(3, 32, 32\)"):
        extract_features([small], DIGITS, "test", out)
    assert not out.exists()


def test_backbones_of_libraries_that_are_missing_say_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UnsuitableError, match=r"timm is not installed: run .*weightzoo\[ranking\]"):
        backbone_group("timm:resnet18?random")
    with pytest.raises(ValueError, match="must start with one of"):
        backbone_group("keras:resnet")


def test_function_of_a_module_is_a_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_backbones.py").write_text(
        "def rows():\n    return lambda pixels: pixels.mean((1, 2))\ndef number():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = ["python:own_backbones:rows", "python:own_backbones:rows@16"]
    groups, out = backbones.model_groups(names), tmp_path / "f.h5"
    extract_features(groups, DIGITS, "test", out, limit=80, progress=False)
    with FeatureFile(out) as file:
        assert [file.read(name).features.shape for name in names] == [(80, 224), (80, 16)]
    with pytest.raises(UnsuitableError, match="must return a callable of pixels"):
        backbone_group("python:own_backbones:number").prepare()
    with pytest.raises(ValueError, match="has no 'row', it has .*did you mean 'rows'"):
        backbone_group("python:own_backbones:row")
    with pytest.raises(ValueError, match="leave out '.random'"):
        backbone_group("python:own_backbones:rows?random")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm:resnet10t?random", "torchvision:resnet18?random"])
def test_random_backbones_give_features_and_logits(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name.partition(":")[0], reason=f"{name} needs its library")
    group = backbone_group(name, side=64)
    extract_features([group], DIGITS, "test", tmp_path / "f.h5", limit=8, progress=False)
    with FeatureFile(tmp_path / "f.h5") as file:
        task = file.task
        assert file.models == [name] and len(task.samples) == 8


def test_library_that_does_not_fit_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(backbones, "import_module", broken)
    with pytest.raises(UnsuitableError, match="timm is installed but cannot be imported .*nms"):
        backbone_group("timm:resnet18?random")
