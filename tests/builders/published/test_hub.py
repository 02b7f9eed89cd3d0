import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from weightzoo.builders.imports import import_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.index import ZooIndex

safetensors = pytest.importorskip("safetensors.numpy")


def write_repository(folder: Path, seed: int, parts: int = 1) -> np.ndarray:
    """A model repository with its weights in `parts` files; returns them flat."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    tensors = {
        f"encoder.layer.{n}.{role}": rng.normal(size=shape).astype(np.float32)
        for n in (2, 10)
        for role, shape in {"bias": (4,), "weight": (4, 3)}.items()
    }
    names = list(tensors)
    for part in range(parts):
        own = {name: tensors[name] for name in names[part::parts]}
        name = (
            "model.safetensors"
            if parts == 1
            else f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        )
        safetensors.save_file(own, folder / name)
    config = {"architectures": ["TinyModel"], "model_type": f"tiny{seed % 2}"}
    (folder / "config.json").write_text(json.dumps(config))
    return np.concatenate([tensors[name].ravel() for name in names])


def rows(out: Path) -> dict[str, tuple[np.ndarray, str]]:
    """Weights and model type by model name."""
    found = {}
    for file in ZooIndex.read(out).open(out):
        columns, weights = file.read_columns(), file.map_weights()
        for index, name in enumerate(columns["model_name"]):
            found[name] = np.array(weights[index]), columns["model_type"][index]
    return found


def test_folder_of_snapshots_comes_in(tmp_path: Path) -> None:
    wanted = {f"m{i}": write_repository(tmp_path / "models" / f"m{i}", i) for i in range(4)}
    report = import_zoo("hub", tmp_path / "models", tmp_path / "out", progress=False)
    found = rows(tmp_path / "out")
    assert report.models == 4
    for index, (name, weights) in enumerate(wanted.items()):
        np.testing.assert_array_equal(found[name][0], weights)
        assert found[name][1] == f"tiny{index % 2}"


def test_weights_in_several_files_are_put_together(tmp_path: Path) -> None:
    whole = write_repository(tmp_path / "models" / "whole", 0)
    parts = write_repository(tmp_path / "models" / "parts", 0, parts=3)
    report = import_zoo("hub", tmp_path / "models", tmp_path / "out", progress=False)
    found = rows(tmp_path / "out")
    assert len(report.zoos) == 1
    np.testing.assert_array_equal(found["whole"][0], whole)
    np.testing.assert_array_equal(found["parts"][0], parts)


def test_list_of_local_snapshots(tmp_path: Path) -> None:
    for index in range(3):
        write_repository(tmp_path / "models" / f"m{index}", index)
    (tmp_path / "list.txt").write_text(
        "# models\nmodels/m0\nmodels/m2  # second\n\nno such thing\n"
    )
    report = import_zoo("hub", tmp_path / "list.txt", tmp_path / "out", progress=False)
    assert set(rows(tmp_path / "out")) == {"m0", "m2"}
    (refused,) = report.refused
    assert refused.model == "no such thing" and "neither a local folder" in refused.reason


def test_cached_repository_is_read_through_its_links(tmp_path: Path) -> None:
    """A snapshot in the Hub's cache, with links to blobs, is found offline by its name."""
    cache = tmp_path / "cache" / "models--org--tiny"
    weights = write_repository(cache / "blobs" / "all", 0)
    snapshot = cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    for file in (cache / "blobs" / "all").iterdir():
        (snapshot / file.name).symlink_to(file)
    (tmp_path / "list.txt").write_text("org/tiny\norg/missing\n")
    code = (
        "import sys, pathlib; from weightzoo.builders.imports import import_zoo; "
        "r = import_zoo('hub', sys.argv[1], pathlib.Path(sys.argv[2]), progress=False); "
        "print(r.models, *(x.model for x in r.refused))"
    )
    environment = {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "list.txt"), str(tmp_path / "out")],
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["1", "org/missing"], done.stderr
    np.testing.assert_array_equal(rows(tmp_path / "out")["org/tiny"][0], weights)


def test_repository_without_safetensors_is_refused(tmp_path: Path) -> None:
    write_repository(tmp_path / "models" / "good", 0)
    (tmp_path / "models" / "empty").mkdir()
    report = import_zoo("hub", tmp_path / "models", tmp_path / "out", progress=False)
    assert [(r.model, r.reason) for r in report.refused] == [("empty", "holds no safetensors file")]


def test_source_without_models_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(BuildError, match="no file is of this format"):
        import_zoo("hub", tmp_path / "models", tmp_path / "out", progress=False)
