"""Write small checkpoint folders in the Hugging Face layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weightzoo.zoos.tensors.safetensors_file import write_safetensors

WIDTH, TOKENS = 8, 12


def llama_tensors(
    seed: int, dtype: torch.dtype = torch.float32, tokens: int = TOKENS
) -> dict[str, Tensor]:
    """The tensors of a decoder with one layer and random weights."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (tokens, WIDTH),
        "model.layers.0.input_layernorm.weight": (WIDTH,),
        "model.layers.0.self_attn.q_proj.weight": (WIDTH, WIDTH),
        "model.layers.0.mlp.up_proj.weight": (2 * WIDTH, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (tokens, WIDTH),
    }
    return {
        name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }


def make_checkpoint(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    shards: int = 1,
    config: Mapping[str, Any] | None = None,
    vocabulary: str = "words",
) -> Path:
    """Write a checkpoint folder with a tokenizer whose digest follows from `vocabulary`."""
    folder.mkdir(parents=True)
    facts = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(facts | dict(config or {})))
    (folder / "tokenizer.json").write_text(json.dumps({"model": vocabulary}))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    weight_map = {}
    for index in range(shards):
        part = dict(list(tensors.items())[index::shards])
        name = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        write_safetensors(folder / name, part)
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def make_adapter(folder: Path, base: Path | str, rank: int = 2, seed: int = 0) -> Path:
    """Write a LoRA adapter of the query projection."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{prefix}.lora_A.weight": torch.randn(rank, WIDTH, generator=generator),
        f"{prefix}.lora_B.weight": torch.randn(WIDTH, rank, generator=generator),
    }
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
