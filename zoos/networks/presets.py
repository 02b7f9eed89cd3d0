"""Architectures of the published zoos by name, for recipes and importers.

A recipe writes `architecture = { preset = "cnn-s", channels = 3 }`; what is stored in a zoo file
is the list of layers. Sizes are checked against the published ones in the tests.

Sources: Model Zoos (arXiv:2209.14764) for cnn-s, cnn-l and resnet18; Unterthiner et al. 2020
(arXiv:2002.11448) for small-cnn; Navon et al. 2023 (arXiv:2301.12780) for inr (implicit neural
representation); SNE, the set-based neural network encoder (arXiv:2305.16625), for sne-cnn and vit.
Exact sizes of the last two were never published as text. Widths are chosen so that the vision
transformer has about five times the parameters of sne-cnn, the only size that the paper states.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from ..errors import ZooFormatError
from .architectures import Architecture

_ACTIVATION: dict[str, Any] = {"kind": "activation"}
_DROPOUT: dict[str, Any] = {"kind": "dropout"}
_NORM: dict[str, Any] = {"kind": "batch_norm"}

LayerRows = list[dict[str, Any]]


def preset(name: str, **arguments: Any) -> Architecture:
    """Make a published architecture.

    Args:
        name: a key of `PRESETS`.
        **arguments: its sizes, whole numbers; each has the published one as default.

    Raises:
        ZooFormatError: if the name or an argument is unknown; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ZooFormatError(f"preset must be one of {list(PRESETS)}, got {name!r}")
    known = list(inspect.signature(PRESETS[name]).parameters)
    if odd := sorted(set(arguments) - set(known)):
        raise ZooFormatError(f"preset {name!r} takes {known}, got {odd}")
    for key, value in arguments.items():
        if type(value) is not int or value < 1:
            raise ZooFormatError(f"preset {name!r}: {key} must be a whole number from 1: {value!r}")
    return PRESETS[name](**arguments)


def resolve(spec: Any) -> Architecture:
    """Read an architecture from its layers, or from {preset = NAME, ...}."""
    if isinstance(spec, Mapping) and "preset" in spec:
        return preset(str(spec["preset"]), **{k: v for k, v in spec.items() if k != "preset"})
    return Architecture.from_json(spec)


@cache  # importers ask for it once per model
def cnn_s(channels: int = 1, classes: int = 10) -> Architecture:
    """The small CNN of Model Zoos, 28x28: 2,464 parameters with one channel, 2,864 with three.

    Args:
        channels: number of image channels.
        classes: number of classes.
    """
    last = [_conv(4, 2), _ACTIVATION]
    layers = [*_pooled(8, 5), *_pooled(6, 5), *last, *_head(classes)]
    return _make("cnn-s", [channels, 28, 28], layers)


@cache
def cnn_l(channels: int = 3, classes: int = 10) -> Architecture:
    """The large CNN of Model Zoos, 32x32: 10,853 parameters with three channels.

    Args:
        channels: number of image channels.
        classes: number of classes.
    """
    layers = [*_pooled(16, 3), *_pooled(32, 3), *_pooled(15, 3), *_head(classes)]
    return _make("cnn-l", [channels, 32, 32], layers)


def small_cnn(channels: int = 1, side: int = 32, width: int = 16) -> Architecture:
    """The network of the small CNN zoo: 4,970 parameters with one channel and any side.

    Args:
        channels: number of image channels.
        side: side of the images, in pixels.
        width: channels of the convolutions.
    """
    layers: LayerRows = []
    for _ in range(3):
        layers += [_conv(width, 3, stride=2), _ACTIVATION, _DROPOUT]
    layers += [{"kind": "global_avg_pool"}, _linear(10)]
    return _make("small-cnn", [channels, side, side], layers)


def resnet18(classes: int = 10, side: int = 32, width: int = 64) -> Architecture:
    """ResNet-18 with a 3x3 stem and no stem pooling: 11,173,962 parameters with ten classes.

    Args:
        classes: number of classes.
        side: side of the images, in pixels.
        width: channels of the first stage.
    """
    layers = [_conv(width, 3, padding=1, bias=False), _NORM, _ACTIVATION]
    given = width
    for stage in range(4):
        for block in range(2):
            out, stride = width * 2**stage, 2 if stage and not block else 1
            layers += _basic_block(given, out, stride)
            given = out
    layers += [{"kind": "global_avg_pool"}, _linear(classes)]
    return _make("resnet18", [3, side, side], layers)


def inr(inputs: int = 1, width: int = 32, outputs: int = 1, layers: int = 3) -> Architecture:
    """A SIREN: sine layers with omega 30 and 0.5 added to the output; 1-32-32-1 has 1,153.

    Args:
        inputs: number of coordinates of a point.
        width: width of the hidden layers.
        outputs: number of values at a point.
        layers: number of linear layers.
    """
    rows: LayerRows = []
    for _ in range(layers - 1):
        rows += [_linear(width), {"kind": "sine", "omega": 30.0}]
    rows += [_linear(outputs), {"kind": "offset", "value": 0.5}]
    return _make("inr", [inputs], rows)


def sne_cnn(channels: int = 1, side: int = 28, width: int = 12) -> Architecture:
    """Three convolutions and two linear layers, the generated zoos of SNE's section 4.2.

    Args:
        channels: number of image channels.
        side: side of the images, in pixels.
        width: channels of the convolutions.
    """
    layers = [*_pooled(width, 5), *_pooled(width, 5), _conv(width, 2), _ACTIVATION, _DROPOUT]
    layers += [{"kind": "flatten"}, _linear(32), _ACTIVATION, _linear(10)]
    return _make("sne-cnn", [channels, side, side], layers)


def vit(
    channels: int = 1,
    side: int = 28,
    patch: int = 7,
    width: int = 36,
    blocks: int = 4,
    heads: int = 4,
    classes: int = 10,
) -> Architecture:
    """A small vision transformer: pre-norm blocks, feed-forward width 2 W, a class token.

    Args:
        channels: number of image channels.
        side: side of the images, in pixels.
        patch: side of a patch, in pixels.
        width: width W of a token.
        blocks: number of blocks.
        heads: number of attention heads.
        classes: number of classes.
    """
    layers: LayerRows = [_conv(width, patch, stride=patch), {"kind": "tokens"}]
    layers += [{"kind": "position_embedding", "class_token": True}]
    norm = {"kind": "layer_norm"}
    for _ in range(blocks):
        attention = [norm, {"kind": "attention", "heads": heads}, _DROPOUT]
        feed_forward = [norm, _linear(2 * width), _ACTIVATION, _linear(width), _DROPOUT]
        layers += [{"kind": "residual", "body": body} for body in (attention, feed_forward)]
    layers += [norm, {"kind": "token_pool", "mode": "first"}, _linear(classes)]
    return _make("vit", [channels, side, side], layers)


def transformer(
    tokens: int = 128,
    vocabulary: int = 256,
    width: int = 64,
    blocks: int = 2,
    heads: int = 4,
) -> Architecture:
    """A small decoder-only transformer, our own: pre-norm blocks, feed-forward width 4 W.

    It gives the logits of the next token at every token. Embedding and head are not tied.

    Args:
        tokens: number of tokens of a window.
        vocabulary: number of different tokens; 256 for bytes.
        width: width W of a token.
        blocks: number of blocks.
        heads: number of attention heads.
    """
    layers: LayerRows = [{"kind": "embedding", "vocabulary": vocabulary, "width": width}]
    layers += [{"kind": "position_embedding"}]
    norm = {"kind": "layer_norm"}
    for _ in range(blocks):
        attention = [norm, {"kind": "causal_attention", "heads": heads}, _DROPOUT]
        feed_forward = [norm, _linear(4 * width), _ACTIVATION, _linear(width), _DROPOUT]
        layers += [{"kind": "residual", "body": body} for body in (attention, feed_forward)]
    layers += [norm, _linear(vocabulary)]
    return _make("transformer", [tokens], layers)


PRESETS: dict[str, Callable[..., Architecture]] = {
    "cnn-s": cnn_s,
    "cnn-l": cnn_l,
    "small-cnn": small_cnn,
    "resnet18": resnet18,
    "inr": inr,
    "sne-cnn": sne_cnn,
    "vit": vit,
    "transformer": transformer,
}


def _make(name: str, input_shape: list[int], layers: LayerRows) -> Architecture:
    return Architecture.from_json({"name": name, "input_shape": input_shape, "layers": layers})


def _conv(out: int, kernel: int, **options: Any) -> dict[str, Any]:
    return {"kind": "conv", "out": out, "kernel": kernel} | options


def _linear(out: int) -> dict[str, Any]:
    return {"kind": "linear", "out": out}


def _pooled(out: int, kernel: int) -> LayerRows:
    """A block of Model Zoos: pooling comes before the activation."""
    return [_conv(out, kernel), {"kind": "max_pool"}, _ACTIVATION, _DROPOUT]


def _head(classes: int) -> LayerRows:
    return [{"kind": "flatten"}, _linear(20), _ACTIVATION, _DROPOUT, _linear(classes)]


def _basic_block(given: int, out: int, stride: int) -> LayerRows:
    """Two 3x3 convolutions; a 1x1 convolution on the shortcut where the shape changes."""
    body = [
        _conv(out, 3, stride=stride, padding=1, bias=False),
        _NORM,
        _ACTIVATION,
        _conv(out, 3, padding=1, bias=False),
        _NORM,
    ]
    changed = stride > 1 or given != out
    shortcut = [_conv(out, 1, stride=stride, bias=False), _NORM] if changed else []
    return [{"kind": "residual", "body": body, "shortcut": shortcut}, _ACTIVATION]
