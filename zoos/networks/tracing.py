"""Traces a torch module into an `Architecture`, and proves that the two compute the same.

The module's graph is recorded by `torch.fx`. A chain of layers that an architecture knows becomes
those layers. What has been traced is then rebuilt, given the module's own weights, and compared
with it on random inputs: an architecture is returned only if the outputs agree.

Shapes are (channels, height, width) or (features,), without the batch.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsuitableError, ZooFormatError
from .architectures import Architecture
from .layer_kind import Shape
from .layers import Layer, Residual
from .token_layers import Embedding
from .traced_steps import TracedStep, is_torch_layer, traced_steps

LARGEST_SIDE = 512  # of the images that are tried where no input shape is given
TOLERANCE = 1e-4  # relative to the largest output, of float32
_BATCH = 2  # inputs that outputs are compared on


@dataclass(frozen=True, kw_only=True)
class TracedModule:
    """What a torch module was traced to.

    Attributes:
        architecture: layers that compute what the module computes.
        activation: activation function of the module, "" if it has none of its own to choose.
        dropout: rate of its dropout layers, 0 without any.
        names: name of each tensor in the module's state dict, by its name in the architecture.
    """

    architecture: Architecture
    activation: str
    dropout: float
    names: dict[str, str]


def trace_architecture(
    module: nn.Module,
    input_shape: Sequence[int] | None = None,
    name: str | None = None,
    *,
    like: TracedModule | None = None,
) -> TracedModule:
    """Trace a torch module into an architecture from which it can be rebuilt.

    The module must be a chain of convolutions, linear layers, norms, poolings, activations of one
    kind, dropouts of one rate and flattenings, as modules or as functions; `Residual` and the
    other layers of this package are taken too.

    Args:
        module: a torch module.
        input_shape: (channels, height, width) or (features,); None derives it. Of a network of
            convolutions the image size can be derived only if a single square size fits.
        name: name of the architecture; None takes that of the module's class.
        like: a traced module; one that has the same architecture, activation and tensors is not
            run again.

    Returns:
        The architecture, and how tensors and hyper-parameters of the module map to it.

    Raises:
        UnsuitableError: if a layer is unknown, the input shape is open, or the rebuilt network
            computes something else; the message says which.

    Example:
        >>> from torch import nn
        >>> from weightzoo.zoos.networks.tracing import trace_architecture
        >>> traced = trace_architecture(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)))
        >>> traced.activation, traced.names["linear2.weight"]
        ('tanh', '2.weight')
    """
    steps = list(traced_steps(module, ""))
    layers = tuple(step.layer for step in steps)
    shape = _input_shape(layers, steps, input_shape)
    architecture = Architecture(
        name=name or type(module).__name__, input_shape=shape, layers=layers
    )
    try:
        architecture.shapes()
        names = _tensor_names(architecture, steps, module)
    except ZooFormatError as error:
        raise UnsuitableError(f"the layers do not fit the input {shape}: {error}") from error
    traced = TracedModule(
        architecture=architecture,
        activation=_only(steps, "activation", "activation functions") or "",
        dropout=float(_only(steps, "dropout", "dropout rates") or 0.0),
        names=names,
    )
    if traced != like:
        _prove(module, traced)
    return traced


def _all_steps(steps: Sequence[TracedStep]) -> Iterator[TracedStep]:
    for step in steps:
        yield step
        for branch in step.inner:
            yield from _all_steps(branch)


def _only(steps: Sequence[TracedStep], key: str, what: str) -> Any:
    """The one value that all steps have which have any."""
    values = {value for step in _all_steps(steps) if (value := getattr(step, key)) is not None}
    if len(values) > 1:
        raise UnsuitableError(f"the module has the {what} {sorted(values)}: a zoo rebuilds one")
    return next(iter(values), None)


def _input_shape(
    layers: Sequence[Layer], steps: Sequence[TracedStep], given: Sequence[int] | None
) -> Shape:
    """The shape that is given, or the only one that fits."""
    if given is not None:
        return tuple(int(side) for side in given)
    first = next((s for s in _all_steps(steps) if s.features or s.channels), None)
    if first is None or isinstance(layers[0], Embedding):
        raise UnsuitableError("no layer says how many features it takes: give input_shape")
    if first.channels is None:
        return (int(first.features or 0),)
    fitting = [side for side in range(1, LARGEST_SIDE + 1) if _fits(layers, steps, first, side)]
    if len(fitting) == 1:
        return (first.channels, fitting[0], fitting[0])
    found = f"{fitting[:4]} fit" if fitting else f"none up to {LARGEST_SIDE} fits"
    raise UnsuitableError(
        f"the size of the images is open ({found}): give input_shape=({first.channels}, height, "
        "width)"
    )


def _fits(
    layers: Sequence[Layer], steps: Sequence[TracedStep], first: TracedStep, side: int
) -> bool:
    """Whether every linear layer takes what the layers before it make of a square image."""
    try:
        found = Architecture(
            name="", input_shape=(first.channels or 1, side, side), layers=tuple(layers)
        ).shapes()
    except ZooFormatError:
        return False
    return all(
        step.features in (None, shape[-1]) for step, shape in zip(steps, found, strict=False)
    )


def _tensor_names(
    architecture: Architecture, steps: Sequence[TracedStep], module: nn.Module
) -> dict[str, str]:
    """The module's name of each tensor, by ours."""
    wrapped = f"{steps[0].owner}." if len(steps) == 1 and is_torch_layer(module) else ""
    names = dict(_owned_names("", architecture.layer_names(), steps, architecture.layers))
    ours = {tensor.name: tensor.shape for tensor in architecture.layer_table()}
    theirs = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    full = {}
    for name, shape in ours.items():
        layer, _, last = name.rpartition(".")
        owner = next((f"{names[p]}{layer[len(p) :]}" for p in _prefixes(layer) if p in names), "")
        their = f"{owner}.{last}".removeprefix(wrapped)
        if theirs.get(their) != shape:
            raise UnsuitableError(
                f"tensor {their!r} has shape {theirs.get(their)}, the traced layer {name!r} {shape}"
            )
        full[name] = their
    if left := sorted(set(theirs) - set(full.values())):
        raise UnsuitableError(f"the tensors {left[:3]} belong to no layer that forward uses")
    return full


def _prefixes(layer: str) -> Iterator[str]:
    """A layer's name, then those of the layers that it lies in."""
    while layer:
        yield layer
        layer = layer.rpartition(".")[0]


def _owned_names(
    prefix: str, names: Sequence[str], steps: Sequence[TracedStep], layers: Sequence[Layer]
) -> Iterator[tuple[str, str]]:
    """(our layer, their layer) of all steps, those inside residuals too."""
    from .layers import layer_names

    for name, step in zip(names, steps, strict=True):
        yield f"{prefix}{name}", step.owner
        if isinstance(step.layer, Residual):
            branches = (("body", step.layer.body), ("shortcut", step.layer.shortcut))
            for (branch, inner), own in zip(branches, step.inner, strict=True):
                yield from _owned_names(f"{prefix}{name}.{branch}.", layer_names(inner), own, inner)


def _prove(module: nn.Module, traced: TracedModule) -> None:
    """Compare outputs of the module and of the rebuilt network, on random inputs."""
    rebuilt = traced.architecture.module(traced.activation or "relu", traced.dropout)
    state = module.state_dict()
    rebuilt.load_state_dict({ours: state[theirs] for ours, theirs in traced.names.items()})
    generator = torch.Generator().manual_seed(0)
    inputs = _random_inputs(traced.architecture, generator)
    original = copy.deepcopy(module).float().cpu().eval()
    with torch.no_grad():
        try:
            wanted, found = original(inputs), rebuilt.float().eval()(inputs)
        except (RuntimeError, IndexError) as error:
            raise UnsuitableError(
                f"the module cannot take an input of {traced.architecture.input_shape}: {error}"
            ) from error
    if not _agree(wanted, found):
        raise UnsuitableError("the rebuilt network computes something else than the module")


def _random_inputs(architecture: Architecture, generator: torch.Generator) -> Tensor:
    """Normal values, or token numbers where the first layer looks them up."""
    shape, first = (_BATCH, *architecture.input_shape), architecture.layers[0]
    if isinstance(first, Embedding):
        return torch.randint(first.vocabulary, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _agree(wanted: Tensor, found: Tensor) -> bool:
    if wanted.shape != found.shape:
        return False
    scale = max(1.0, float(wanted.abs().max())) if math.prod(wanted.shape) else 1.0
    return bool(torch.allclose(wanted, found, atol=TOLERANCE * scale, rtol=0, equal_nan=True))
