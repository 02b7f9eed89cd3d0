"""FFN-level mixtures: Llama checkpoints as the experts of one Mixtral checkpoint.

Attention, norms, embeddings and head are averaged or taken from a base; the feed-forward blocks
stay apart as experts, and a linear gate per layer routes every token.

Shape letters: E experts, T tokens, W width.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...loaders.collections import FolderMember, ModelCollection, open_collection
from ...zoos.errors import MergeError
from ...zoos.strict_json import json_text
from ...zoos.tensors.checkpoint_folder import CONFIG_NAME, WEIGHTS_NAME
from ...zoos.tensors.lazy import TensorType
from ...zoos.tensors.safetensors_file import SafetensorsWriter
from ..merging.merge import check_mergeable
from ..merging.output import MERGE_NAME, merge_folder, write_text
from ..merging.recipe import read_merge_recipe

GATES = ("random", "prompts")
_FFN = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
_EMBEDDING = "model.embed_tokens.weight"
RANDOM_GATE_STD = 0.02


def assemble_experts(
    members: Sequence[Path | str],
    out: Path,
    *,
    base: Path | str | None = None,
    gate: str = "random",
    prompts: Sequence[Sequence[int]] = (),
    experts_per_token: int = 2,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write a Mixtral checkpoint that `transformers` loads.

    Args:
        members: Llama checkpoints of one shape, E of them.
        out: the folder to make.
        base: what attention, norms, embeddings and head are taken from; None averages them.
        gate: "random", or "prompts": every layer's gate is the mean embedding of an expert's
            tokens, less that of the others', scaled to unit length.
        prompts: E lists of token numbers that are typical of each expert.
        experts_per_token: experts that a token is sent to.
        seed: seed of random gates.
        overwrite: replace an earlier result there.

    Raises:
        MergeError: if members are no Llamas of one shape, or prompts do not fit them.
    """
    collection = open_collection(members, base)
    recipe = read_merge_recipe({"method": "mean", "members": [str(path) for path in members]})
    check_mergeable(collection, recipe)
    first = collection.members[0]
    if not isinstance(first, FolderMember) or first.architecture != "LlamaForCausalLM":
        raise MergeError(f"experts must be Llama checkpoints, {first.name} is {first.architecture}")
    if not 1 <= experts_per_token <= len(collection.members):
        raise MergeError(
            f"experts_per_token must lie within 1 and {len(collection.members)}, got "
            f"{experts_per_token!r}"
        )
    layers = int(first.folder.config["num_hidden_layers"])
    gate_EW = _gate(collection, gate, prompts)
    kinds, reads = _plan(collection, layers, gate_EW, seed)
    size_bytes = sum(kind.size_bytes for kind in kinds.values())
    state = {
        "mixture": "ffn",
        "members": [member.name for member in collection.members],
        "base": None if collection.base is None else collection.base.name,
        "gate": gate,
        "prompts": [list(tokens) for tokens in prompts],
        "experts_per_token": experts_per_token,
        "seed": seed,
    }
    with merge_folder(out, state, size_bytes, overwrite) as folder:
        writer = SafetensorsWriter(folder / WEIGHTS_NAME, kinds, {"format": "pt"})
        for name in writer.tensors:
            writer.write(name, 0, reads[name]())
        writer.close()
        for file in first.folder.side_files():
            shutil.copyfile(file, folder / file.name)
        config = _config(first, len(collection.members), experts_per_token)
        write_text(folder / CONFIG_NAME, json_text(config, indent=2))
        write_text(folder / MERGE_NAME, json_text(state, indent=1))


def _prompt_gate(embedding_TW: Tensor, prompts: Sequence[Sequence[int]]) -> Tensor:
    """(E, W): mean embedding of each expert's tokens less the mean of the others', normalised.

    Source: the cheapest gates of mergekit's mixtures, written independently.
    """
    means = torch.stack([embedding_TW[list(tokens)].float().mean(0) for tokens in prompts])
    others = (means.sum(0) - means) / max(1, len(means) - 1)
    return F.normalize(means - others, dim=1)


def _gate(
    collection: ModelCollection, gate: str, prompts: Sequence[Sequence[int]]
) -> Tensor | None:
    if gate not in GATES:
        raise MergeError(f"gate must be one of {GATES}, got {gate!r}")
    if gate == "random":
        return None
    embedding = (collection.base or collection.members[0]).read(_EMBEDDING)
    fits = len(prompts) == len(collection.members) and all(
        tokens and all(0 <= token < len(embedding) for token in tokens) for tokens in prompts
    )
    if not fits:
        raise MergeError(
            f"gate 'prompts' needs {len(collection.members)} lists of token numbers below "
            f"{len(embedding)}, one per expert"
        )
    return _prompt_gate(embedding, prompts)


def _plan(
    collection: ModelCollection, layers: int, gate_EW: Tensor | None, seed: int
) -> tuple[dict[str, TensorType], dict[str, Callable[[], Tensor]]]:
    """Type of every tensor of the mixture, and how its values are got."""
    first, experts = collection.members[0], len(collection.members)
    kinds, reads = dict[str, TensorType](), dict[str, Callable[[], Tensor]]()
    for name, kind in first.tensors.items():
        role = name.rsplit(".", 2)[-2]
        if ".mlp." in name and role in _FFN:
            head = name.split(".mlp.")[0]
            for expert, member in enumerate(collection.members):
                new = f"{head}.block_sparse_moe.experts.{expert}.{_FFN[role]}.weight"
                kinds[new] = kind
                reads[new] = lambda member=member, name=name: member.read(name)  # type: ignore[misc]
        else:
            kinds[name] = kind
            reads[name] = lambda name=name: _shared(collection, name)  # type: ignore[misc]
    width = first.tensors[_EMBEDDING].shape[1]
    for layer in range(layers):
        name = f"model.layers.{layer}.block_sparse_moe.gate.weight"
        kinds[name] = TensorType(first.tensors[_EMBEDDING].dtype, (experts, width))
        reads[name] = lambda layer=layer: _layer_gate(gate_EW, (experts, width), seed + layer)  # type: ignore[misc]
    return kinds, reads


def _shared(collection: ModelCollection, name: str) -> Tensor:
    if collection.base is not None:
        return collection.base.read(name)
    return torch.stack([values.float() for values in collection.read(name)]).mean(0)


def _layer_gate(gate_EW: Tensor | None, shape: tuple[int, int], seed: int) -> Tensor:
    if gate_EW is not None:
        return gate_EW
    return RANDOM_GATE_STD * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _config(first: FolderMember, experts: int, experts_per_token: int) -> Mapping[str, object]:
    """Mixtral's config: Llama's figures, and its defaults, which differ; and the experts."""
    config = dict(first.folder.config)
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise MergeError(f"{first.name} has biases, which Mixtral's layout does not hold")
    heads = config.get("num_attention_heads")
    unsaid = {"rms_norm_eps": 1e-6, "num_key_value_heads": heads, "max_position_embeddings": 2048}
    if "rope_parameters" not in config:
        unsaid["rope_theta"] = 10000.0
    return (
        {name: value for name, value in unsaid.items() if value is not None}
        | config
        | {
            "architectures": ["MixtralForCausalLM"],
            "model_type": "mixtral",
            "num_local_experts": experts,
            "num_experts_per_tok": experts_per_token,
            "sliding_window": None,
        }
    )
