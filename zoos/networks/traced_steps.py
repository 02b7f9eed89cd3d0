"""Layers of a torch module, recorded by `torch.fx`: the steps of `tracing.py`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from ..errors import UnsuitableError
from . import modules
from .layer_kind import ACTIVATIONS
from .layers import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    LayerNorm,
    Linear,
    MaxPool,
    Offset,
    Residual,
    Sine,
)
from .token_layers import (
    Attention,
    CausalAttention,
    Embedding,
    PositionEmbedding,
    TokenPool,
    Tokens,
)

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
class TracedStep:
    """One traced layer.

    Attributes:
        layer: the layer.
        owner: name of its module.
        activation: activation function, of an activation layer.
        dropout: rate, of a dropout layer.
        features: number of features that it takes, of a linear layer.
        channels: number of channels that it takes, of a convolution.
        inner: steps of the branches of a residual layer.
    """

    layer: Layer
    owner: str = ""
    activation: str | None = None
    dropout: float | None = None
    features: int | None = None
    channels: int | None = None
    inner: "tuple[tuple[TracedStep, ...], ...]" = ()


class _Tracer(fx.Tracer):
    """Records calls of torch's layers and of ours, not what happens inside them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _OWN) or super().is_leaf_module(m, module_qualified_name)


def traced_steps(module: nn.Module, prefix: str) -> Iterator[TracedStep]:
    """The layers of a module, input to output.

    Args:
        module: a torch module.
        prefix: first part of the names of its modules, "" outside of residual layers.

    Raises:
        UnsuitableError: if `torch.fx` cannot trace the module, or a layer is unknown.
    """
    if isinstance(module, _OWN) or is_torch_layer(module):
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


def is_torch_layer(module: nn.Module) -> bool:
    """Whether a module is a single layer of torch's, and no container."""
    return type(module).__module__.startswith("torch.nn") and not isinstance(
        module, nn.Sequential | nn.ModuleList | nn.ModuleDict
    )


def _step(module: nn.Module, node: fx.Node, prefix: str, seen: set[str]) -> Iterator[TracedStep]:
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


def _module_step(child: nn.Module, owner: str) -> Iterator[TracedStep]:
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


def _activation_step(name: str, child: nn.Module, owner: str) -> TracedStep:
    usual = ACTIVATIONS[name]()
    if child.extra_repr().replace("inplace=True", "") != usual.extra_repr():
        raise UnsuitableError(f"layer {owner!r} is {child}, a zoo rebuilds {usual} only")
    return TracedStep(layer=Activation(), owner=owner, activation=name)


def _call_step(node: fx.Node) -> Iterator[TracedStep]:
    """The step of a function or method that is called in `forward`."""
    target, rest = node.target, (*node.args[1:], *node.kwargs.items())
    plain = [item for item in rest if item not in (("inplace", False), ("inplace", True))]
    if target in _ACTIVATION_CALLS and not plain:
        yield TracedStep(layer=Activation(), activation=_ACTIVATION_CALLS[target])
    elif _is_flatten(node):
        yield TracedStep(layer=Flatten())
    elif target in (F.max_pool2d, torch.max_pool2d) or getattr(target, "__name__", "") in (
        "max_pool2d",
        "boolean_dispatch",
    ):
        yield TracedStep(layer=_max_pool(_bound_pool(node)))
    elif target is F.adaptive_avg_pool2d and node.args[1:] in ((1,), ((1, 1),)):
        yield TracedStep(layer=GlobalAvgPool())
    elif target is F.dropout:
        rate = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
        yield TracedStep(layer=Dropout(), dropout=float(rate))  # type: ignore[arg-type]
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


def _conv(child: Any, owner: str) -> TracedStep:
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
    return TracedStep(layer=layer, owner=owner, channels=child.in_channels)


def _linear(child: Any, owner: str) -> TracedStep:
    if child.bias is None:
        raise UnsuitableError(f"layer {owner!r} is a linear layer without bias")
    layer = Linear(out=child.out_features)
    return TracedStep(layer=layer, owner=owner, features=child.in_features)


def _max_pool(child: Any, owner: str = "") -> MaxPool:
    size = _square(child.kernel_size, "kernel")
    stride = size if child.stride is None else _square(child.stride, "stride")
    usual = (stride, _square(child.padding, "padding"), _square(child.dilation, "dilation"))
    if usual != (size, 0, 1) or child.ceil_mode or child.return_indices:
        raise UnsuitableError(f"layer {owner or 'max_pool2d'!r} is {child}, whose squares overlap")
    return MaxPool(size=size)


def _global_pool(child: Any, owner: str) -> TracedStep:
    if child.output_size not in (1, (1, 1)):
        raise UnsuitableError(f"layer {owner!r} pools to {child.output_size!r}, not to 1")
    return TracedStep(layer=GlobalAvgPool(), owner=owner)


def _flatten(child: Any, owner: str) -> TracedStep:
    if (child.start_dim, child.end_dim) != (1, -1):
        raise UnsuitableError(f"layer {owner!r} is {child}, which does not keep the batch alone")
    return TracedStep(layer=Flatten(), owner=owner)


def _batch_norm(child: Any, owner: str) -> TracedStep:
    if not (
        child.affine and child.track_running_stats and (child.eps, child.momentum) == (1e-5, 0.1)
    ):
        raise UnsuitableError(f"layer {owner!r} is {child}, with settings that no zoo rebuilds")
    return TracedStep(layer=BatchNorm(), owner=owner, channels=child.num_features)


def _layer_norm(child: Any, owner: str) -> TracedStep:
    plain = child.elementwise_affine and child.bias is not None and child.eps == 1e-5
    if not plain or len(child.normalized_shape) != 1:
        raise UnsuitableError(f"layer {owner!r} is {child}, with settings that no zoo rebuilds")
    return TracedStep(layer=LayerNorm(), owner=owner, features=child.normalized_shape[0])


def _residual(child: Any, owner: str) -> TracedStep:
    branches = tuple(
        tuple(traced_steps(branch, f"{owner}.{name}."))
        for name, branch in (("body", child.body), ("shortcut", child.shortcut))
    )
    body, shortcut = (tuple(step.layer for step in branch) for branch in branches)
    return TracedStep(layer=Residual(body=body, shortcut=shortcut), owner=owner, inner=branches)


def _position(child: Any, owner: str) -> TracedStep:
    layer = PositionEmbedding(class_token=hasattr(child, "class_token"))
    return TracedStep(layer=layer, owner=owner)


def _attention(child: Any, owner: str) -> TracedStep:
    made = CausalAttention if child.causal else Attention
    return TracedStep(layer=made(heads=child.heads), owner=owner)


def _embedding(child: Any, owner: str) -> TracedStep:
    layer = Embedding(vocabulary=child.num_embeddings, width=child.embedding_dim)
    return TracedStep(layer=layer, owner=owner)


_MAKERS: dict[type[nn.Module], Callable[[Any, str], TracedStep]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.MaxPool2d: lambda child, owner: TracedStep(layer=_max_pool(child, owner), owner=owner),
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.Flatten: _flatten,
    nn.Dropout: lambda child, owner: TracedStep(layer=Dropout(), owner=owner, dropout=child.p),
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    modules.Sine: lambda child, owner: TracedStep(
        layer=Sine(omega=float(child.omega)), owner=owner
    ),
    modules.Offset: lambda child, owner: TracedStep(
        layer=Offset(value=float(child.value)), owner=owner
    ),
    modules.GlobalAvgPool: lambda child, owner: TracedStep(layer=GlobalAvgPool(), owner=owner),
    modules.Tokens: lambda child, owner: TracedStep(layer=Tokens(), owner=owner),
    modules.TokenPool: lambda child, owner: TracedStep(
        layer=TokenPool(mode=child.mode), owner=owner
    ),
    modules.Attention: _attention,
    modules.TokenEmbedding: _embedding,
    modules.PositionEmbedding: _position,
    modules.Residual: _residual,
}
