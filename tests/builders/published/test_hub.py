import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_client import HubClient
from hub_server import HubServer, blob
from make_published_zoos import zoo_rows

from weightzoo.builders.checkpoints.unreadable import UnreadableFileError
from weightzoo.builders.imports import import_zoo
from weightzoo.builders.published.hub import choose_weights
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
    assert [(r.model, r.reason) for r in report.refused] == [
        ("empty", "holds no safetensors file, and no .bin file of a usual name")
    ]


def test_source_without_models_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(BuildError, match="no file is of this format"):
        import_zoo("hub", tmp_path / "models", tmp_path / "out", progress=False)


IMPORT = """
import pathlib
from weightzoo.builders.imports import import_zoo
report = import_zoo("hub", listing, pathlib.Path(out), progress=False)
result = [report.models, report.rows, [[r.model, r.reason] for r in report.refused]]
"""


def test_revisions_of_one_repository_are_checkpoints_of_one_model(
    hub: HubServer, client: HubClient, tmp_path: Path
) -> None:
    lines, weights = [], {}
    for model in range(3):
        repo = hub.add_repo(f"org/run{model}", model=True)
        for step in (1000, 20, 300):
            weights[model, step] = write_repository(tmp_path / f"{model}-{step}", 10 * model + step)
            files = (tmp_path / f"{model}-{step}").iterdir()
            repo.tags[f"step{step}"] = repo.commit(
                {f.name: blob(f.name, f.read_bytes()) for f in files}
            )
            lines.append(f"org/run{model}@step{step}")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = client.run(IMPORT, listing=tmp_path / "list.txt", out=tmp_path / "out")
    assert found == [3, 9, []]
    columns, rows = zoo_rows(tmp_path / "out")
    for index, name in enumerate(columns["model_name"]):
        model, epoch = int(name[-1]), int(columns["epoch"][index])
        np.testing.assert_array_equal(rows[index], weights[model, epoch])
        assert columns["revision"][index] == f"step{epoch}"
        assert columns["commit"][index] == hub.models[name].tags[f"step{epoch}"]


def test_bad_repositories_are_lines_of_the_report(
    hub: HubServer, client: HubClient, tmp_path: Path
) -> None:
    hub.add_repo("org/good", _repository(tmp_path / "good", 1), model=True)
    hub.add_repo("org/lost", _repository(tmp_path / "lost", 2), model=True)
    hub.add_repo("org/empty", model=True)
    hub.fail("HEAD", "/org/lost/resolve/.*/model.safetensors", times=99, status=500)
    (tmp_path / "list.txt").write_text("org/good\norg/lost\norg/missing\norg/empty\norg/good@v9\n")
    models, _, refused = client.run(IMPORT, listing=tmp_path / "list.txt", out=tmp_path / "out")
    hub.forget()
    assert models == 1
    assert {name for name, _ in refused} == {"org/lost", "org/missing", "org/empty", "org/good@v9"}


def test_only_chosen_files_are_fetched(hub: HubServer, client: HubClient, tmp_path: Path) -> None:
    folder = _repository(tmp_path / "repo", 1)
    for name in ("model.fp16.safetensors", "consolidated.safetensors", "pytorch_model.bin"):
        (folder / name).write_bytes(b"another copy")
    _repository(folder / "checkpoint-5", 2)
    hub.add_repo("org/copies", folder, model=True)
    (tmp_path / "list.txt").write_text("org/copies")
    hub.requests.clear()
    assert client.run(IMPORT, listing=tmp_path / "list.txt", out=tmp_path / "out")[:2] == [1, 1]
    fetched = {r.split("/main/")[-1] for r in hub.requests if "/resolve/" in r}
    assert {name.rpartition("/")[2] for name in fetched} == {"config.json", "model.safetensors"}
    assert hub.count(".*checkpoint-5/model.safetensors") == 0


def _repository(folder: Path, seed: int) -> Path:
    write_repository(folder, seed)
    return folder


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["model.safetensors", "consolidated.safetensors"], [["model.safetensors"]]),
        (["model.fp16.safetensors", "model.safetensors"], [["model.safetensors"]]),
        (["model.fp16.safetensors", "config.json"], [["model.fp16.safetensors"]]),
        (["pytorch_model.bin", "training_args.bin"], [["pytorch_model.bin"]]),
        (["pytorch_model.bin", "model.safetensors"], [["model.safetensors"]]),
        (
            ["checkpoint-20/model.safetensors", "checkpoint-3/model.safetensors"],
            [["checkpoint-3/model.safetensors"], ["checkpoint-20/model.safetensors"]],
        ),
        (["model.safetensors", "checkpoint-3/model.safetensors"], [["model.safetensors"]]),
        (
            [
                "model_index.json",
                "unet/diffusion_pytorch_model.safetensors",
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "text_encoder/model.safetensors",
            ],
            [["text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors"]],
        ),
        (["adapter_model.safetensors", "adapter_config.json"], [["adapter_model.safetensors"]]),
        (["resnet.safetensors"], [["resnet.safetensors"]]),
    ],
)
def test_weights_are_chosen_by_the_stated_rule(names: list[str], wanted: list[list[str]]) -> None:
    assert [[file for file, _ in one.files] for one in choose_weights(names)] == wanted


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.safetensors", "b.safetensors"], "several weights of equal rank"),
        (["optimizer.bin"], "no safetensors file"),
        (["model-00001-of-00002.safetensors"], r"lacks the shards \[2\]"),
    ],
)
def test_weights_that_cannot_be_chosen_are_refused(names: list[str], reason: str) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        choose_weights(names)


def test_adapter_config_and_licence_become_columns(tmp_path: Path) -> None:
    for index in range(3):
        folder = tmp_path / "loras" / f"lora{index}"
        write_repository(folder, index)
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
        adapter = {
            "peft_type": "LORA",
            "r": 4 + index,
            "lora_alpha": 16,
            "target_modules": ["v", "q"],
            "base_model_name_or_path": "org/base",
        }
        (folder / "adapter_config.json").write_text(json.dumps(adapter))
        (folder / "README.md").write_text(
            "---\nlicense: apache-2.0\ntags: [x]\n---\nlicense: none\n"
        )
    import_zoo("hub", tmp_path / "loras", tmp_path / "out", progress=False)
    columns, _ = zoo_rows(tmp_path / "out")
    assert sorted(columns["adapter_rank"]) == [4, 5, 6] and set(columns["adapter_alpha"]) == {16}
    assert set(columns["adapter_base"]) == {"org/base"}
    assert set(columns["adapter_targets"]) == {'["q", "v"]'}
    assert set(columns["licence"]) == {"apache-2.0"}
    (file, *_) = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    assert file.header.provenance["licence"] == "apache-2.0"


def test_components_of_diffusers_are_one_model(tmp_path: Path) -> None:
    for index in range(2):
        folder = tmp_path / "models" / f"m{index}"
        unet, vae = (
            write_repository(folder / part, index + n) for n, part in enumerate(("unet", "vae"))
        )
        (folder / "model_index.json").write_text("{}")
    import_zoo("hub", tmp_path / "models", tmp_path / "out", progress=False)
    columns, rows = zoo_rows(tmp_path / "out")
    last = int(np.flatnonzero(columns["model_name"] == "m1")[0])
    np.testing.assert_array_equal(rows[last], np.concatenate([unet, vae]))
    (file, *_) = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    assert {t.name.partition(".")[0] for t in file.header.layer_table} == {"unet", "vae"}
