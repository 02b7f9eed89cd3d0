"""Rows of zoos as members of a merge, and the data that some methods need of their networks.

Shape letters: E examples, O outputs, I inputs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...loaders import ZooDataset, concatenate_zoos, load_zoo
from ...loaders.collections import ModelCollection, ZooMember
from ...zoos.errors import MergeError
from ...zoos.images.catalog import Images
from ...zoos.tensors.lazy import TensorType
from .recipe import ZooRows

EXAMPLES = 256  # of a calibration set, as RegMean takes


class StateMember:
    """A member whose tensors are in memory."""

    architecture = tokenizer = vocabulary = tied = None

    def __init__(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Hold the tensors.

        Args:
            name: name of the member.
            state: tensors by name.
        """
        self.name, self.state = name, state
        self.tensors = {
            key: TensorType(str(value.dtype).removeprefix("torch."), tuple(value.shape))
            for key, value in state.items()
        }

    def read(self, name: str) -> Tensor:
        """A whole tensor."""
        return self.state[name]

    def block(self, name: str, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Some values of a flattened tensor.

        Args:
            name: tensor name.
            start: first value of the block.
            stop: end of the block, exclusive.
            out: buffer (stop - start,) to write to; None allocates one.
        """
        part = self.state[name].flatten()[start:stop]
        return part if out is None else out[: stop - start].copy_(part)

    def columns(self, name: str, chosen: Tensor) -> Tensor:
        """Some columns of a matrix.

        Args:
            name: tensor name.
            chosen: column numbers, (c,).
        """
        return self.state[name].flatten(1)[:, chosen]


def open_zoo_rows(rows: ZooRows) -> tuple[ZooDataset, ZooMember | None]:
    """The rows of a zoo that a recipe names, and the base.

    Raises:
        MergeError: if no row fulfils a condition, or more than one that of the base.
    """
    zoo = load_zoo(rows.path, split=rows.split)
    chosen = zoo.filter(rows.where) if rows.where else last_checkpoints(zoo)
    if len(chosen) == 0:
        raise MergeError(f"no row of {rows.path} {rows.split!r} fulfils {rows.where!r}")
    return chosen, _base(rows) if rows.base else None


def last_checkpoints(zoo: ZooDataset) -> ZooDataset:
    """The last checkpoint of every model that did not diverge."""
    ids, epochs = zoo.hidden_column("model_id", "merging"), zoo.hidden_column("epoch", "merging")
    good = np.flatnonzero(zoo.hidden_column("status", "merging") == "ok")
    last: dict[int, int] = {}
    for row in good[np.argsort(epochs[good], kind="stable")].tolist():
        last[int(ids[row])] = row
    return zoo.select(sorted(last.values()))


def _base(rows: ZooRows) -> ZooMember:
    whole = concatenate_zoos(list(load_zoo(rows.path).values()))
    found = whole.filter(rows.base)
    if len(found) != 1:
        raise MergeError(f"the base must be one row, {len(found)} fulfil {rows.base!r}")
    return ZooMember(found, 0)


def fisher_information(module: nn.Module, images: Images, seed: int = 0) -> dict[str, Tensor]:
    """Diagonal Fisher information of a classifier's parameters.

    Source: Matena and Raffel 2022, arXiv:2111.09832: the mean square of the gradient of the
    log-probability of a label drawn from the model itself.

    Args:
        module: network in eval mode.
        images: E examples.
        seed: seed of the draws.

    Returns:
        float32, by name of the state dict; buffers get ones, so that they are averaged.
    """
    generator = torch.Generator().manual_seed(seed)
    total = {name: torch.zeros_like(value) for name, value in module.named_parameters()}
    for pixels in images.pixels[:EXAMPLES].split(1):
        with torch.enable_grad():
            logits = module(pixels)
            label = torch.multinomial(logits.detach().softmax(1), 1, generator=generator)[:, 0]
            gradients = torch.autograd.grad(
                F.cross_entropy(logits, label), list(module.parameters())
            )
        for name, gradient in zip(total, gradients, strict=True):
            total[name] += gradient.square()
    count = min(EXAMPLES, len(images.pixels))
    ones = {name: torch.ones_like(value).float() for name, value in module.named_buffers()}
    return ones | {name: value / count for name, value in total.items()}


def input_grams(module: nn.Module, images: Images) -> dict[str, Tensor]:
    """Gram matrices of the inputs of linear and convolution layers, by name of the weight.

    Args:
        module: network in eval mode.
        images: E examples.

    Returns:
        (I, I) float32 each; a convolution's inputs are its patches.
    """
    grams: dict[str, Tensor] = {}

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = _input_rows(layer, inputs[0])
        grams[f"{name}.weight"] = rows.T @ rows

    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs, name=name: record(name, layer, inputs)
        )
        for name, layer in module.named_modules()
        if takes_gram(layer)
    ]
    with torch.no_grad():
        module(images.pixels[:EXAMPLES])
    for hook in hooks:
        hook.remove()
    return grams


def takes_gram(layer: nn.Module) -> bool:
    """Whether RegMean merges a layer's weight: a linear layer or an ungrouped convolution."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _input_rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs of a layer, (E, I): of a convolution one row per patch."""
    if not isinstance(layer, nn.Conv2d):
        return inputs.flatten(0, -2)
    if isinstance(layer.padding, str):
        raise MergeError(f"convolutions with padding {layer.padding!r} have no Gram matrix here")
    patches = F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return patches.transpose(1, 2).flatten(0, 1)


def zoo_companions(
    kind: str | None, zoo: ZooDataset, indices: Sequence[int], images: Images
) -> ModelCollection | None:
    """What a method needs beside each member, measured on images.

    Args:
        kind: "fisher", "gram", or None for nothing.
        zoo: rows of the members.
        indices: row numbers of the members.
        images: examples.
    """
    if kind is None:
        return None
    measure = fisher_information if kind == "fisher" else input_grams
    return ModelCollection(
        [StateMember(str(index), measure(zoo.module(index), images)) for index in indices]
    )
