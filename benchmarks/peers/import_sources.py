"""Files in the layouts of published zoos, for `importing.py`, and a Hub on the loopback.

Every format has a function that writes models and one that loads all files without an import.
"""

import json
import multiprocessing
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from weightzoo.builders.published import nino
from weightzoo.zoos.networks.presets import cnn_l

LAYER = "encoder.layer.1.output.dense"


@dataclass(frozen=True)
class Format:
    """How files of a format are written and loaded without an import.

    Attributes:
        write: function that writes a number of models into a new folder.
        load: function that loads all files of a folder.
        alone: name of `load` in the table.
        format: name for `import_zoo`; "" takes the name in `FORMATS`.
        layer: layer to import, for formats that need one.
    """

    write: Callable[[Path, int], None]
    load: Callable[[Path], None]
    alone: str = "torch.load, weights_only"
    format: str = ""
    layer: str = ""


def _write_adapters(folder: Path, models: int) -> None:
    """Write PEFT folders: query and value of four layers of width 768, rank 8."""
    from safetensors.torch import save_file

    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "org/base"}
    shapes = {"A": (8, 768), "B": (768, 8)}
    for index in range(models):
        state = {
            f"base_model.model.layers.{layer}.{name}.lora_{side}.weight": torch.randn(shape)
            for layer in range(4)
            for name in ("q_proj", "v_proj")
            for side, shape in shapes.items()
        }
        path = folder / f"adapter-{index:06d}"
        path.mkdir(parents=True)
        save_file(state, path / "adapter_model.safetensors")
        (path / "adapter_config.json").write_text(json.dumps(config))


def _load_adapters(folder: Path) -> None:
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*/adapter_model.safetensors")):
        load_file(path)


def _write_transformers(folder: Path, models: int) -> None:
    """Write networks of the Small Transformer Zoo with its table."""
    shapes = {"embedding.conv1.weight": (32, 1, 4, 4), "embedding.conv1.bias": (32,)}
    shapes["embedding.pos_embedding"] = (49, 32)
    for layer in range(2):
        for name in ("queries", "keys", "values", "out_projection"):
            shapes[f"encoder.{layer}.attention.{name}.weight"] = (32, 32)
        shapes |= {f"encoder.{layer}.fc1.weight": (64, 32), f"encoder.{layer}.fc1.bias": (64,)}
        shapes |= {f"encoder.{layer}.fc2.weight": (32, 64), f"encoder.{layer}.fc2.bias": (32,)}
    shapes |= {"classifier.fc1.weight": (32, 32), "classifier.fc1.bias": (32,)}
    shapes |= {"classifier.fc2.weight": (10, 32), "classifier.fc2.bias": (10,)}
    (folder / "mnist").mkdir(parents=True)
    (folder / "metadata").mkdir()
    lines = ["ckpt_file,ckpt_epoch,seed,optimizer,learning_rate,test_top1_accuracy"]
    for index in range(models):
        name = f"run{index:06d}_75_9000.pt"
        torch.save(
            {key: torch.randn(shape) for key, shape in shapes.items()}, folder / "mnist" / name
        )
        lines.append(f"mnist/{name},75,{index},adam,0.001,0.9")
    (folder / "metadata" / "mnist.csv").write_text("\n".join(lines) + "\n")


def _load_files(folder: Path) -> None:
    for path in sorted(folder.rglob("*.pt")):
        torch.load(path, weights_only=True)


def _write_maps(folder: Path, models: int) -> None:
    """Write memory maps of 20 states each, in place of the published 2,688."""
    nino.SHAPES["fm-16"] = (models, 20, 14_378)
    folder.mkdir(parents=True)
    with (folder / "fm-16.dat").open("wb") as file:
        for _ in range(models):
            file.write(torch.randn(20, 14_378).half().numpy().tobytes())


def _load_maps(folder: Path) -> None:
    path = folder / "fm-16.dat"
    torch.from_file(str(path), size=path.stat().st_size // 2, dtype=torch.float16).float()


def _write_runs(folder: Path, models: int) -> None:
    """Write runs of WeightCLIP's script: five checkpoints of each model."""
    network = cnn_l(3).module()
    layers = [child for child in network.children() if [*child.parameters()]]
    places = dict(zip((0, 4, 8, 13, 16), layers, strict=True))
    params = {"model::type": "CNN3", "model::channels_in": 3, "model::o_dim": 10}
    params |= {"model::nlin": "gelu", "model::dropout": 0.0, "lr": 0.001}
    for index in range(models):
        run = folder / "c10" / "cnn3" / "tune_zoo_c10_cnn3" / f"NN_tune_trainable_seed={index}"
        run.mkdir(parents=True)
        lines = []
        for epoch in range(5):
            state = {
                f"module_list.{place}.{role}": torch.randn(value.shape)
                for place, layer in places.items()
                for role, value in layer.named_parameters()
            }
            (run / f"checkpoint_{epoch:06d}").mkdir()
            torch.save(state, run / f"checkpoint_{epoch:06d}" / "checkpoints")
            row = {"epoch": epoch, "train_loss": 2.0, "train_acc": 20.0, "test_acc": 22.0}
            lines.append(json.dumps(row | {"learning_rate": 1e-3}))
        (run / "result.json").write_text("\n".join(lines) + "\n")
        (run / "params.json").write_text(json.dumps(params | {"seed": index}))


def _load_runs(folder: Path) -> None:
    for path in sorted(folder.rglob("checkpoints")):
        torch.load(path, weights_only=True)


def _write_trees(folder: Path, models: int) -> None:
    """Write MoTHer's graph, whose trees have a root and four children, with their snapshots."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    module = types.ModuleType("model_graph")
    names = ("ModelGraphNodeMetadata", "ModelGraphNode", "ModelGraph")
    made = {name: type(name, (), {"__module__": "model_graph"}) for name in names}
    module.__dict__.update(made)
    roots: list[Any] = []
    for index in range(models):
        name, tree = f"net{index:06d}", index // 5
        facts, node = made["ModelGraphNodeMetadata"](), made["ModelGraphNode"]()
        facts.__dict__ |= {"component_id": tree, "depth": min(index % 5, 1), "seed": index}
        facts.__dict__ |= {"dataset_name": "c100", "model_path": f"MoTHer-VTHR/{name}"}
        parent = roots[-1] if index % 5 else None
        node.__dict__ |= {"metadata": facts, "children": [], "parent": parent}
        (parent.children if parent else roots).append(node)
        (folder / name).mkdir()
        state = {f"layer.{i}.weight": torch.randn(128, 192) for i in range(4)}
        save_file(state, folder / name / "model.safetensors")
    graph = made["ModelGraph"]()
    graph.__dict__["roots"] = roots
    sys.modules["model_graph"] = module
    (folder / "full_model_graph.pkl").write_bytes(pickle.dumps(graph))
    del sys.modules["model_graph"]


def _load_trees(folder: Path) -> None:
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*/model.safetensors")):
        load_file(path)


def _write_index(folder: Path, models: int) -> None:
    """Write repositories, and an index beside them that names them."""
    from safetensors.torch import save_file

    repositories = folder.with_name("hub")
    rows = ["hf_model_id,split,lr"]
    for index in range(models):
        name = f"org/{folder.name}-{index:06d}"
        path = repositories / name
        if not path.is_dir():
            path.mkdir(parents=True)
            state = {f"{LAYER}.weight": torch.randn(128, 768), "large": torch.randn(100_000)}
            save_file(state, path / "model.safetensors", {"format": "pt"})
        rows.append(f"{name},{'test' if index % 5 == 0 else 'train'},0.1")
    folder.mkdir()
    (folder / "index.csv").write_text("\n".join(rows) + "\n")


def _load_ranges(folder: Path) -> None:
    """Read the header and the layer of each repository by ranges, as `HfFileSystem` does."""
    from huggingface_hub import HfFileSystem

    for line in (folder / "index.csv").read_text().splitlines()[1:]:
        path = f"{line.partition(',')[0]}/model.safetensors"
        with HfFileSystem().open(path, "rb", cache_type="none") as file:
            size = int.from_bytes(file.read(8), "little")
            start, stop = json.loads(file.read(size))[f"{LAYER}.weight"]["data_offsets"]
            file.seek(8 + size + start)
            file.read(stop - start)


@contextmanager
def local_hub(folder: Path) -> Iterator[None]:
    """A Hub on the loopback, in another process, with the repositories that lie in `hub`."""
    context = multiprocessing.get_context("spawn")
    address, done = context.Queue(), context.Event()
    server = context.Process(target=_serve, args=(folder / "hub", address, done))
    server.start()
    os.environ |= {"HF_ENDPOINT": address.get(), "HF_HOME": str(folder), "HF_TOKEN": ""}
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    try:
        yield
    finally:
        done.set()
        server.join()


def _serve(folder: Path, address: Any, done: Any) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "data"))
    from hub_server import HubServer, Repo

    class OnDisk(dict[str, Repo]):
        """Repositories that are read when they are first asked for."""

        def get(self, name: str, default: Any = None) -> Any:
            if name not in self and (folder / name).is_dir():
                server.models = dict.__new__(dict)
                server.add_repo(name, folder / name, model=True)
                self[name], server.models = server.models[name], self
            return super().get(name, default)

    with HubServer() as server:
        server.models = OnDisk()
        address.put(server.endpoint)
        done.wait()


FORMATS = {
    "lora": Format(_write_adapters, _load_adapters, "safetensors load_file"),
    "small-transformers": Format(_write_transformers, _load_files),
    "nino": Format(_write_maps, _load_maps, "torch.from_file, float"),
    "weightclip": Format(_write_runs, _load_runs, format="modelzoos-raw"),
    "mother": Format(_write_trees, _load_trees, "safetensors load_file"),
    "model-j": Format(_write_index, _load_ranges, "HfFileSystem, ranges", layer=LAYER),
}
