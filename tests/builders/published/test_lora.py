"""Adapters in the layouts that PEFT, diffusers and kohya write, read by `import lora`."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_published_zoos import zoo_rows
from safetensors.torch import save_file
from torch import Tensor

from weightzoo.builders.imports import import_zoo
from weightzoo.loaders import LoraSets, load_zoo
from weightzoo.zoos.errors import BuildError

MODULES = {"layers.0.q_proj": (8, 6), "layers.0.v_proj": (4, 6)}
CONFIG = {
    "peft_type": "LORA",
    "task_type": "SEQ_CLS",
    "base_model_name_or_path": "org/base",
    "r": 2,
    "lora_alpha": 16,
    "target_modules": ["v_proj", "q_proj"],
}
CARD = "---\nlicense: apache-2.0\n---\n# An adapter\n"


def factors(
    seed: int, rank: int = 2, names: str = "lora_{}", middle: str = ""
) -> dict[str, Tensor]:
    """Factors of an adapter under PEFT's names or others."""
    torch.manual_seed(seed)
    return {
        f"{module}.{names.format(side)}{middle}.weight": torch.randn(shape)
        for module, (outputs, inputs) in MODULES.items()
        for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank)))
    }


def write_peft(folder: Path, seed: int, rank: int = 2, **config: Any) -> dict[str, Tensor]:
    """An adapter as `save_pretrained` of PEFT writes it."""
    folder.mkdir(parents=True)
    state = factors(seed, rank)
    named = {f"base_model.model.{name}": value for name, value in state.items()}
    save_file(named, folder / "adapter_model.safetensors", {"format": "pt"})
    text = json.dumps(CONFIG | {"r": rank} | config)
    (folder / "adapter_config.json").write_text(text)
    (folder / "README.md").write_text(CARD)
    return state


def imported(source: Path, **options: Any) -> tuple[Any, dict[str, np.ndarray]]:
    report = import_zoo("lora", source, source.parent / "out", progress=False, **options)
    return report, zoo_rows(source.parent / "out")[0]


def kept_state(zoo: Path, name: str) -> dict[str, Tensor]:
    """Tensors of the imported adapter with this name."""
    for split in load_zoo(zoo).values():
        names = split.columns["model_name"].tolist()
        if name in names:
            return split.state_dict(names.index(name))
    raise KeyError(name)


def test_peft_adapters_keep_factors_and_config(tmp_path: Path) -> None:
    states = {f"user/task{i}": write_peft(tmp_path / "in/user" / f"task{i}", i) for i in range(4)}
    report, columns = imported(tmp_path / "in")
    assert (report.models, report.refused) == (4, ())
    assert set(columns["adapter_base"]) == {"org/base"}
    assert set(columns["adapter_task"]) == {"SEQ_CLS"} and set(columns["adapter_rank"]) == {2}
    assert set(columns["adapter_alpha"]) == {16} and set(columns["adapter_scale"]) == {8.0}
    assert set(columns["licence"]) == {"apache-2.0"}
    for name, state in states.items():
        for key, value in kept_state(tmp_path / "out", name).items():
            assert torch.equal(value, state[key])


@pytest.mark.parametrize(
    ("config", "scale"),
    [({"use_rslora": True}, 16 / math.sqrt(2)), ({"alpha_pattern": {"q_proj": 4}}, None)],
)
def test_scale_follows_the_config(config: Any, scale: float | None, tmp_path: Path) -> None:
    for seed in range(3):
        write_peft(tmp_path / f"in/a{seed}", seed, **config)
    _, columns = imported(tmp_path / "in")
    if scale is None:
        by_module = json.loads(columns["adapter_scales"][0])
        assert by_module == {"layers.0.q_proj": 2.0, "layers.0.v_proj": 8.0}
    else:
        np.testing.assert_allclose(columns["adapter_scale"], scale)


def test_ranks_make_zoos_of_their_own(tmp_path: Path) -> None:
    for seed in range(3):
        write_peft(tmp_path / f"in/small{seed}", seed, rank=2)
        write_peft(tmp_path / f"in/large{seed}", seed, rank=4)
    report = import_zoo("lora", tmp_path / "in", tmp_path / "out", progress=False)
    assert [zoo.models for zoo in report.zoos] == [3, 3]


def test_diffusers_files_keep_metadata_split_and_class(tmp_path: Path) -> None:
    """The layout of Model-J: a split, a folder per adapter, the class in the metadata."""
    for index, split in enumerate(("train", "train", "val", "test")):
        folder = tmp_path / f"in/{split}/model_idx_{index:04d}"
        folder.mkdir(parents=True)
        state = {}
        for name, value in factors(index).items():
            side = "down" if ".lora_A" in name else "up"
            state[f"unet.{name.split('.lora_')[0]}.lora.{side}.weight"] = value
        text = {"format": "pt", "imagenet_class_id": f"n{index:04d}", "long": "x" * 999}
        save_file(state, folder / "pytorch_lora_weights.safetensors", text)
    report, columns = imported(tmp_path / "in")
    assert report.zoos[0].splits == {"train": 2, "val": 1, "test": 1}
    assert sorted(columns["imagenet_class_id"]) == ["n0000", "n0001", "n0002", "n0003"]
    assert set(columns["adapter_scale"]) == {1.0} and "long" not in columns
    assert set(columns["licence"]) == {"none stated"}
    assert kept_state(tmp_path / "out", "val/model_idx_0002").keys() == {
        f"unet.{name}" for name in factors(0)
    }


def test_kohya_alphas_become_the_scale(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(3):
        state = {}
        for name, value in factors(seed).items():
            module, side = name.split(".lora_")
            flat = f"lora_unet_{module.replace('.', '_')}"
            state[f"{flat}.lora_{'down' if side[0] == 'A' else 'up'}.weight"] = value
            state[f"{flat}.alpha"] = torch.tensor(1.0)
        save_file(state, tmp_path / f"in/style{seed}.safetensors", {"ss_network_dim": "2"})
    _, columns = imported(tmp_path / "in")
    assert set(columns["adapter_alpha"]) == {1.0} and set(columns["adapter_scale"]) == {0.5}
    assert not any("alpha" in name for name in kept_state(tmp_path / "out", "style0"))


def test_padbench_files_have_labels_and_splits(tmp_path: Path) -> None:
    for index in range(6):
        folder = tmp_path / "in" / ("test" if index > 3 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            f"base_model.model.{name}": value
            for name, value in factors(index, middle=".default").items()
        }
        torch.save(state, folder / f"imdb_{index:04d}_{index % 2}.pth")
    report, columns = imported(tmp_path / "in")
    assert report.zoos[0].splits == {"train": 4, "val": 0, "test": 2}
    numbers = [int(name.split("_")[-2]) for name in columns["model_name"]]
    assert columns["label"].tolist() == [number % 2 for number in numbers]
    assert kept_state(tmp_path / "out", "train/imdb_0000_0").keys() == factors(0).keys()


@pytest.mark.parametrize("by_module", [False, True])
def test_products_of_padbench_are_kept_as_stored(by_module: bool, tmp_path: Path) -> None:
    """Its detector loads one tensor (modules x layers, out, in), or one by kind of module."""
    for index in range(6):
        folder = tmp_path / f"in/{'train' if index < 4 else 'test'}"
        folder.mkdir(parents=True, exist_ok=True)
        stack = torch.full((2 * 3, 5, 4), float(index))
        saved = {"q_proj": stack[:3].clone(), "v_proj": stack[3:, :2].clone()}
        torch.save(saved if by_module else stack, folder / f"imdb_{index:04d}_{index % 2}.pth")
    report, columns = imported(tmp_path / "in")
    assert report.refused == () and report.zoos[0].splits == {"train": 4, "val": 0, "test": 2}
    kept = kept_state(tmp_path / "out", "test/imdb_0005_1")
    shapes = {name: tuple(tensor.shape) for name, tensor in kept.items()}
    wanted = {"q_proj": (3, 5, 4), "v_proj": (3, 2, 4)} if by_module else {"products": (6, 5, 4)}
    assert shapes == wanted and all((tensor == 5).all() for tensor in kept.values())
    assert sorted(columns["label"].tolist()) == [0, 0, 0, 1, 1, 1]


def test_other_kinds_and_halves_are_refused(tmp_path: Path) -> None:
    for seed in range(3):
        write_peft(tmp_path / f"in/a{seed}", seed)
    write_peft(tmp_path / "in/dora", 4, use_dora=True)
    write_peft(tmp_path / "in/ia3", 5, peft_type="IA3")
    half = {name: value for name, value in factors(0).items() if "q_proj.lora_B" not in name}
    save_file(half, tmp_path / "in/half.safetensors")
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "in/plain.safetensors")
    report, _ = imported(tmp_path / "in")
    reasons = {remark.model: remark.reason for remark in report.refused}
    assert (
        "kind 'DoRA'" in reasons["dora/adapter_model"] and "'IA3'" in reasons["ia3/adapter_model"]
    )
    assert "lacks one of the two factors" in reasons["half"]
    assert "no factors of an adapter" in reasons["plain"] and report.models == 3


def test_epochs_of_an_adapter_are_one_model(tmp_path: Path) -> None:
    for run in ("a", "b", "c"):
        for epoch in (5, 10):
            write_peft(tmp_path / f"in/{run}/checkpoint-{epoch}", epoch)
    report, columns = imported(tmp_path / "in")
    assert (report.models, report.rows) == (3, 6)
    assert sorted(set(columns["epoch"])) == [5, 10]


def test_zoo_of_adapters_loads_as_sets_of_the_product(tmp_path: Path) -> None:
    for seed in range(3):
        write_peft(tmp_path / f"in/a{seed}", seed)
    imported(tmp_path / "in")
    train = load_zoo(tmp_path / "out", split="train")
    item = train.with_format("layer_sets", LoraSets(train.layer_table))[0]
    state = train.state_dict(0)
    product = state["layers.0.q_proj.lora_B.weight"] @ state["layers.0.q_proj.lora_A.weight"]
    wanted = torch.linalg.svdvals(product)[:2]
    torch.testing.assert_close(item["singular"][:2], wanted, atol=1e-4, rtol=1e-4)


def test_folder_without_adapters_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    torch.save({"weight": torch.zeros(2)}, tmp_path / "in/net.pth")
    with pytest.raises(BuildError, match="no factors of an adapter"):
        imported(tmp_path / "in")


def test_layer_tables_of_hundreds_of_modules_are_kept(tmp_path: Path) -> None:
    """Attention of Stable Diffusion has 128 modules with names of 70 letters."""
    (tmp_path / "in").mkdir()
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.{}.attn1.processor.to_q_lora"
    for seed in range(3):
        state = {
            f"{name.format(i)}.{side}.weight": torch.full(shape, float(seed))
            for i in range(150)
            for side, shape in (("down", (1, 2)), ("up", (2, 1)))
        }
        save_file(state, tmp_path / f"in/{seed}.safetensors")
    report, _ = imported(tmp_path / "in")
    assert report.models == 3 and load_zoo(tmp_path / "out", split="train").layer_table.width == 600
