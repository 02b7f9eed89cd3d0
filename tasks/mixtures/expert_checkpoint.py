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
from .token_gates import fit_token_gates, shared_model, shared_values

GATES = ("random", "prompts", "trained")
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
        gate: "random"; "prompts", where every layer's gate is the mean embedding of an expert's
            tokens, less that of the others', scaled to unit length; or "trained", a regression
            from what enters a layer's feed-forward block on the prompts to their expert, for which
            `transformers` runs the base or the mean of the members.
        prompts: E lists of token numbers that are typical of each expert.
        experts_per_token: experts that a token is sent to.
        seed: seed of random gates.
        overwrite: replace an earlier result there.

    Raises:
        MergeError: if members are no Llamas of one shape, prompts do not fit them, or
            `transformers` is missing for trained gates.
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
    gates = _gates(collection, gate, prompts, layers, seed)
    kinds, reads = _plan(collection, gates)
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


def _gates(
    collection: ModelCollection,
    gate: str,
    prompts: Sequence[Sequence[int]],
    layers: int,
    seed: int,
) -> list[Tensor]:
    """(E, W) for every layer."""
    if gate not in GATES:
        raise MergeError(f"gate must be one of {GATES}, got {gate!r}")
    kind = collection.members[0].tensors[_EMBEDDING]
    if gate == "random":
        shape = (len(collection.members), kind.shape[1])
        draws = [torch.Generator().manual_seed(seed + layer) for layer in range(layers)]
        return [RANDOM_GATE_STD * torch.randn(shape, generator=one) for one in draws]
    fits = len(prompts) == len(collection.members) and all(
        tokens and all(0 <= token < kind.shape[0] for token in tokens) for tokens in prompts
    )
    if not fits:
        raise MergeError(
            f"gate {gate!r} needs {len(collection.members)} lists of token numbers below "
            f"{kind.shape[0]}, one per expert"
        )
    if gate == "trained":
        return fit_token_gates(shared_model(collection), prompts)
    embedding = (collection.base or collection.members[0]).read(_EMBEDDING)
    return [_prompt_gate(embedding, prompts)] * layers


def _plan(
    collection: ModelCollection, gates: Sequence[Tensor]
) -> tuple[dict[str, TensorType], dict[str, Callable[[], Tensor]]]:
    """Type of every tensor of the mixture, and how its values are got."""
    first = collection.members[0]
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
            reads[name] = lambda name=name: shared_values(collection, name)  # type: ignore[misc]
    for layer, gate_EW in enumerate(gates):
        name = f"model.layers.{layer}.block_sparse_moe.gate.weight"
        kinds[name] = TensorType(first.tensors[_EMBEDDING].dtype, tuple(gate_EW.shape))
        reads[name] = lambda gate_EW=gate_EW: gate_EW  # type: ignore[misc]
    return kinds, reads


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
