"""Trained gates of feed-forward experts: a regression from what enters a block to the expert.

Shape letters: E experts, T tokens, W width, N all tokens of all prompts.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...loaders.collections import FolderMember, ModelCollection
from ...zoos.errors import MergeError
from ..merging.mixture import trained_gate
from .block_mixture import decoder_layers

WINDOW_TOKENS = 128  # of a prompt, seen at once


def fit_token_gates(model: Any, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """(E, W) for every decoder layer: softmax regression, without bias, from token to expert.

    Experts with short prompts count as much as those with long ones.

    Args:
        model: model that attention, norms and embeddings are taken from, in eval mode; each of its
            decoder layers calls its feed-forward block `mlp`.
        prompts: token numbers that are typical of each of the E experts.
    """
    layers, seen = decoder_layers(model), list[list[Tensor]]()
    seen = [[] for _ in layers]
    hooks = [
        layer.get_submodule("mlp").register_forward_pre_hook(
            lambda _, inputs, place=place: seen[place].append(inputs[0].flatten(0, 1).float())
        )
        for place, layer in enumerate(layers)
    ]
    belongs = list[Tensor]()
    with torch.no_grad():
        for expert, tokens in enumerate(prompts):
            for window in torch.tensor(list(tokens)).split(WINDOW_TOKENS):
                model(input_ids=window[None])
                belongs.append(torch.full((len(window),), expert))
    for hook in hooks:
        hook.remove()
    labels_N = torch.cat(belongs)
    return [
        trained_gate(torch.cat(states), labels_N, len(prompts), bias=False, balanced=True).weight_EF
        for states in seen
    ]


def shared_model(collection: ModelCollection) -> Any:
    """The base of checkpoints as a model of `transformers`, or the mean of all, in float32.

    Args:
        collection: checkpoints of one architecture.

    Raises:
        MergeError: if transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MergeError(
            "gates are trained on hidden states of a model of transformers: pip install "
            "'weightzoo[ranking]'"
        ) from error
    first = collection.members[0]
    assert isinstance(first, FolderMember)
    config = transformers.AutoConfig.from_pretrained(first.folder.path)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    state = {name: shared_values(collection, name).float() for name in first.tensors}
    model.load_state_dict(state, strict=not first.tied)  # a tied head is in no file
    return model.eval()


def shared_values(collection: ModelCollection, name: str) -> Tensor:
    """A tensor of the base, or the mean of all members.

    Args:
        collection: checkpoints of one architecture.
        name: name of the tensor.
    """
    if collection.base is not None:
        return collection.base.read(name)
    return torch.stack([values.float() for values in collection.read(name)]).mean(0)
