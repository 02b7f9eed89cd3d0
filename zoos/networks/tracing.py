"""Traces a torch module into an `Architecture`, and proves that the two compute the same.

The module's graph is recorded by `torch.fx`. A chain of layers that an architecture knows becomes
those layers. What has been traced is then rebuilt, given the module's own weights, and compared
with it on random inputs: an architecture is returned only if the outputs agree.

Shapes are (channels, height, width) or (features,), without the batch.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..errors import UnsuitableError, ZooFormatError
from . import modules
from .architectures import Architecture
from .layers import (
    ACTIVATIONS,
    Activation,
    Attention,
    BatchNorm,
    CausalAttention,
    Conv,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool,
    Layer,
    LayerNorm,
    Linear,
    MaxPool,
    Offset,
    PositionEmbedding,
    Residual,
    Shape,
    Sine,
    TokenPool,
    Tokens,
)

LARGEST_SIDE = 512  # of the images that are tried where no input shape is given
TOLERANCE = 1e-4  # relative to the largest output, of float32
_BATCH = 2  # inputs that outputs are compared on
_OWN = (
    modules.Sine,
    modules.Offset,
    modules.GlobalAvgPool,
    modules.Residual,
    modules.Tokens,
    modules.TokenEmbedding,
    modules.PositionEmbedding,
    modules.Attention,
    modules.TokenPool,
)
_ACTIVATION_MODULES: dict[type[nn.Module], str] = {
    type(make()): name for name, make in ACTIVATIONS.items()
}
_ACTIVATION_CALLS: dict[Any, str] = {
    call: name
    for name, calls in {
        "relu": (F.relu, torch.relu, "relu"),
        "tanh": (torch.tanh, F.tanh, "tanh"),
        "sigmoid": (torch.sigmoid, F.sigmoid, "sigmoid"),
        "gelu": (F.gelu,),
        "silu": (F.silu,),
        "leaky_relu": (F.leaky_relu,),
    }.items()
    for call in calls
}


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
    steps = list(_steps(module, ""))
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


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One traced layer: the layer, the name of its module, and the values it has of its own."""

    layer: Layer
    owner: str = ""
    activation: str | None = None
    dropout: float | None = None
    features: int | None = None  # that it takes, of a linear layer
    channels: int | None = None  # that it takes, of a convolution
    inner: "tuple[tuple[_Step, ...], ...]" = ()


class _Tracer(fx.Tracer):
    """Records calls of torch's layers and of ours, not what happens inside them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _OWN) or super().is_leaf_module(m, module_qualified_name)


def _steps(module: nn.Module, prefix: str) -> Iterator[_Step]:
    """The layers of a module, input to output."""
    if isinstance(module, _OWN) or _is_torch_layer(module):
        module = nn.Sequential(module) if not prefix else module
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # fx refuses control flow by many kinds of errors
        raise UnsuitableError(f"torch.fx cannot trace the module: {error}") from error
    before: fx.Node | None = None
    seen: set[str] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            if before is not None:
                raise UnsuitableError("the module takes more than one input")
            before = node
        elif node.op == "output":
            if node.args[0] is not before:
                raise UnsuitableError("the module does not return the output of its last layer")
        elif _is_shape(node):
            continue  # x.size(0) of a flattening, read there
        else:
            if not node.args or node.args[0] is not before:
                raise UnsuitableError(
                    f"{node.target!r} does not take the output of the layer before it alone: the "
                    "module is no chain of layers"
                )
            before = node
            yield from _step(module, node, prefix, seen)


def _is_torch_layer(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn") and not isinstance(
        module, nn.Sequential | nn.ModuleList | nn.ModuleDict
    )


def _step(module: nn.Module, node: fx.Node, prefix: str, seen: set[str]) -> Iterator[_Step]:
    if node.op == "call_module":
        owner = f"{prefix}{node.target}"
        child = module.get_submodule(str(node.target))
        has_tensors = any(True for _ in child.state_dict())
        if owner in seen and has_tensors:
            raise UnsuitableError(f"layer {owner!r} is used twice")
        seen.add(owner)
        yield from _module_step(child, owner)
    elif node.op in ("call_function", "call_method"):
        yield from _call_step(node)
    else:
        raise UnsuitableError(f"{node.target!r} is a tensor of the module outside of any layer")


def _module_step(child: nn.Module, owner: str) -> Iterator[_Step]:
    """The step of one layer; none of an identity."""
    if isinstance(child, nn.Identity):
        return
    if type(child) in _ACTIVATION_MODULES:
        yield _activation_step(_ACTIVATION_MODULES[type(child)], child, owner)
        return
    maker = _MAKERS.get(type(child))
    if maker is None:
        raise UnsuitableError(f"layer {owner!r} is a {type(child).__name__}, which no zoo rebuilds")
    yield maker(child, owner)


def _activation_step(name: str, child: nn.Module, owner: str) -> _Step:
    usual = ACTIVATIONS[name]()
    if child.extra_repr().replace("inplace=True", "") != usual.extra_repr():
        raise UnsuitableError(f"layer {owner!r} is {child}, a zoo rebuilds {usual} only")
    return _Step(layer=Activation(), owner=owner, activation=name)


def _call_step(node: fx.Node) -> Iterator[_Step]:
    """The step of a function or method that is called in `forward`."""
    target, rest = node.target, (*node.args[1:], *node.kwargs.items())
    plain = [item for item in rest if item not in (("inplace", False), ("inplace", True))]
    if target in _ACTIVATION_CALLS and not plain:
        yield _Step(layer=Activation(), activation=_ACTIVATION_CALLS[target])
    elif _is_flatten(node):
        yield _Step(layer=Flatten())
    elif target in (F.max_pool2d, torch.max_pool2d) or getattr(target, "__name__", "") in (
        "max_pool2d",
        "boolean_dispatch",
    ):
        yield _Step(layer=_max_pool(_bound_pool(node)))
    elif target is F.adaptive_avg_pool2d and node.args[1:] in ((1,), ((1, 1),)):
        yield _Step(layer=GlobalAvgPool())
    elif target is F.dropout:
        rate = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
        yield _Step(layer=Dropout(), dropout=float(rate))  # type: ignore[arg-type]
    else:
        shown = getattr(target, "__name__", target)
        raise UnsuitableError(f"forward calls {shown!r}, which no zoo rebuilds")


def _bound_pool(node: fx.Node) -> nn.Module:
    """The pooling layer that a call of `max_pool2d` stands for."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    if given.get("stride") is None:
        given.pop("stride", None)
    return nn.MaxPool2d(**given)  # type: ignore[arg-type]


def _is_shape(node: fx.Node) -> bool:
    """Whether a node reads the size of a batch."""
    if node.op == "call_method":
        return node.target == "size"
    name = getattr(node.target, "__name__", "")
    return node.op == "call_function" and (name in ("getattr", "getitem") or node.target is len)


def _is_flatten(node: fx.Node) -> bool:
    if node.target in (torch.flatten, "flatten"):
        start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        return bool(start == 1) and len(node.args) < 3 and "end_dim" not in node.kwargs
    is_view = node.target in ("view", "reshape", torch.reshape)
    sizes = node.args[1:] if len(node.args) == 3 else (node.args[1:] or ((),))[0]
    return is_view and isinstance(sizes, tuple) and len(sizes) == 2 and bool(sizes[1] == -1)


def _square(value: Any, what: str) -> int:
    """One number of a square setting."""
    sides = (value, value) if isinstance(value, int) else tuple(value)
    if len(set(sides)) != 1 or not isinstance(sides[0], int):
        raise UnsuitableError(f"{what} {value!r} is not square")
    return int(sides[0])


def _conv(child: Any, owner: str) -> _Step:
    usual = (child.groups, _square(child.dilation, "dilation"), child.padding_mode)
    if usual != (1, 1, "zeros") or isinstance(child.padding, str):
        raise UnsuitableError(f"layer {owner!r} is {child}, with settings that no zoo rebuilds")
    layer = Conv(
        out=child.out_channels,
        kernel=_square(child.kernel_size, "kernel"),
        stride=_square(child.stride, "stride"),
        padding=_square(child.padding, "padding"),
        bias=child.bias is not None,
    )
    return _Step(layer=layer, owner=owner, channels=child.in_channels)


def _linear(child: Any, owner: str) -> _Step:
    if child.bias is None:
        raise UnsuitableError(f"layer {owner!r} is a linear layer without bias")
    layer = Linear(out=child.out_features)
    return _Step(layer=layer, owner=owner, features=child.in_features)


def _max_pool(child: Any, owner: str = "") -> MaxPool:
    size = _square(child.kernel_size, "kernel")
    stride = size if child.stride is None else _square(child.stride, "stride")
    usual = (stride, _square(child.padding, "padding"), _square(child.dilation, "dilation"))
    if usual != (size, 0, 1) or child.ceil_mode or child.return_indices:
        raise UnsuitableError(f"layer {owner or 'max_pool2d'!r} is {child}, whose squares overlap")
    return MaxPool(size=size)


def _global_pool(child: Any, owner: str) -> _Step:
    if child.output_size not in (1, (1, 1)):
        raise UnsuitableError(f"layer {owner!r} pools to {child.output_size!r}, not to 1")
    return _Step(layer=GlobalAvgPool(), owner=owner)


def _flatten(child: Any, owner: str) -> _Step:
    if (child.start_dim, child.end_dim) != (1, -1):
        raise UnsuitableError(f"layer {owner!r} is {child}, which does not keep the batch alone")
    return _Step(layer=Flatten(), owner=owner)


def _batch_norm(child: Any, owner: str) -> _Step:
    if not (
        child.affine and child.track_running_stats and (child.eps, child.momentum) == (1e-5, 0.1)
    ):
        raise UnsuitableError(f"layer {owner!r} is {child}, with settings that no zoo rebuilds")
    return _Step(layer=BatchNorm(), owner=owner, channels=child.num_features)


def _layer_norm(child: Any, owner: str) -> _Step:
    plain = child.elementwise_affine and child.bias is not None and child.eps == 1e-5
    if not plain or len(child.normalized_shape) != 1:
        raise UnsuitableError(f"layer {owner!r} is {child}, with settings that no zoo rebuilds")
    return _Step(layer=LayerNorm(), owner=owner, features=child.normalized_shape[0])


def _residual(child: Any, owner: str) -> _Step:
    branches = tuple(
        tuple(_steps(branch, f"{owner}.{name}."))
        for name, branch in (("body", child.body), ("shortcut", child.shortcut))
    )
    body, shortcut = (tuple(step.layer for step in branch) for branch in branches)
    return _Step(layer=Residual(body=body, shortcut=shortcut), owner=owner, inner=branches)


def _position(child: Any, owner: str) -> _Step:
    layer = PositionEmbedding(class_token=hasattr(child, "class_token"))
    return _Step(layer=layer, owner=owner)


def _attention(child: Any, owner: str) -> _Step:
    made = CausalAttention if child.causal else Attention
    return _Step(layer=made(heads=child.heads), owner=owner)


def _embedding(child: Any, owner: str) -> _Step:
    layer = Embedding(vocabulary=child.num_embeddings, width=child.embedding_dim)
    return _Step(layer=layer, owner=owner)


_MAKERS: dict[type[nn.Module], Callable[[Any, str], _Step]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.MaxPool2d: lambda child, owner: _Step(layer=_max_pool(child, owner), owner=owner),
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.Flatten: _flatten,
    nn.Dropout: lambda child, owner: _Step(layer=Dropout(), owner=owner, dropout=child.p),
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    modules.Sine: lambda child, owner: _Step(layer=Sine(omega=float(child.omega)), owner=owner),
    modules.Offset: lambda child, owner: _Step(layer=Offset(value=float(child.value)), owner=owner),
    modules.GlobalAvgPool: lambda child, owner: _Step(layer=GlobalAvgPool(), owner=owner),
    modules.Tokens: lambda child, owner: _Step(layer=Tokens(), owner=owner),
    modules.TokenPool: lambda child, owner: _Step(layer=TokenPool(mode=child.mode), owner=owner),
    modules.Attention: _attention,
    modules.TokenEmbedding: _embedding,
    modules.PositionEmbedding: _position,
    modules.Residual: _residual,
}


def _all_steps(steps: Sequence[_Step]) -> Iterator[_Step]:
    for step in steps:
        yield step
        for branch in step.inner:
            yield from _all_steps(branch)


def _only(steps: Sequence[_Step], key: str, what: str) -> Any:
    """The one value that all steps have which have any."""
    values = {value for step in _all_steps(steps) if (value := getattr(step, key)) is not None}
    if len(values) > 1:
        raise UnsuitableError(f"the module has the {what} {sorted(values)}: a zoo rebuilds one")
    return next(iter(values), None)


def _input_shape(
    layers: Sequence[Layer], steps: Sequence[_Step], given: Sequence[int] | None
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


def _fits(layers: Sequence[Layer], steps: Sequence[_Step], first: _Step, side: int) -> bool:
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
    architecture: Architecture, steps: Sequence[_Step], module: nn.Module
) -> dict[str, str]:
    """The module's name of each tensor, by ours."""
    wrapped = f"{steps[0].owner}." if len(steps) == 1 and _is_torch_layer(module) else ""
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
    prefix: str, names: Sequence[str], steps: Sequence[_Step], layers: Sequence[Layer]
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
