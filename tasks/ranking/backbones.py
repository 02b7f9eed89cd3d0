"""Backbones by name: `torchvision:NAME`, `timm:NAME`, `transformers:REPO_OR_FOLDER`.

Each library is an extra that is imported when a name asks for it. Pre-trained weights are fetched
by the library itself; `?random` after a name takes random ones, without a network. `NAME@SIDE`
scales images to SIDE x SIDE pixels.

`python:MODULE:FUNCTION` is a function without arguments that gives any callable of pixels
(B, 3, H, W), such as a network with weights from a package; it returns features (B, D), or
features and logits.

Shape letters: B images, C channels, H height, W width, D features, Z classes.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...zoos.errors import UnsuitableError
from ...zoos.named_objects import named_object
from .extraction import ModelGroup, Outputs, as_outputs, zoo_groups

RANDOM = "?random"
PYTHON = "python"
SIDE = 224  # pixels, what most backbones were trained with
Net = Callable[[Tensor], Any]


def model_groups(models: Sequence[str]) -> list[ModelGroup]:
    """Groups of zoos and backbones, as commands name them.

    Args:
        models: zoo folders, FOLDER@EPOCH, or names of backbones.

    Raises:
        ZooError: if there is no such zoo, or a library is not installed.
    """
    return [
        group
        for model in models
        for group in ([backbone_group(model)] if is_backbone(model) else zoo_groups(model))
    ]


def is_backbone(name: str) -> bool:
    """Whether a name asks for one of the libraries."""
    return name.partition(":")[0] in LOADERS


def backbone_group(name: str, side: int = SIDE) -> ModelGroup:
    """A backbone as a group of one model.

    Args:
        name: LIBRARY:NAME, then `@SIDE` for another side, then `?random` for random weights.
        side: height and width that images are scaled to; grey images are repeated to 3 channels.

    Raises:
        ValueError: if the library is unknown, or a Python name leads to nothing.
        UnsuitableError: if the library is not installed; the message says how to install it.
    """
    library, _, rest = name.partition(":")
    if library not in LOADERS:
        raise ValueError(f"backbone must start with one of {list(LOADERS)}, got {name!r}")
    pretrained, model = not rest.endswith(RANDOM), rest.removesuffix(RANDOM)
    start, mark, pixels_of_side = model.rpartition("@")
    if mark and pixels_of_side.isdigit():
        model, side = start, int(pixels_of_side)
    if side < 1:
        raise ValueError(f"the side of images must be at least 1 pixel, got {name!r}")
    if library != PYTHON:
        _library(library)
    elif not pretrained:
        raise ValueError(f"{name!r}: the function chooses the weights, so leave out {RANDOM!r}")
    else:
        named_object(model)

    def prepare() -> Callable[[Tensor], list[Outputs]]:
        net = LOADERS[library](model, pretrained)

        def run(pixels: Tensor) -> list[Outputs]:
            with torch.no_grad():
                return [as_outputs(net(as_colour(pixels, side)))]

        return run

    details = {"architecture": model, "library": library, "preprocessing": f"{side}x{side}, RGB"}
    return ModelGroup(details={name: details}, prepare=prepare)


def as_colour(pixels: Tensor, side: int) -> Tensor:
    """Images scaled to (B, 3, side, side); grey ones have three equal channels.

    Args:
        pixels: (B, C, H, W), standardised as the image set has them, C of 1 or 3.
        side: height and width.

    Raises:
        UnsuitableError: if there are other than 1 or 3 channels.
    """
    if pixels.shape[1] not in (1, 3):
        raise UnsuitableError(f"backbones take 1 or 3 channels, got {pixels.shape[1]}")
    scaled = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    return scaled.expand(-1, 3, -1, -1)


def with_features(net: nn.Module) -> Net:
    """A network that gives what its last linear layer reads, and what it gives.

    Raises:
        UnsuitableError: if it has no linear layer.
    """
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise UnsuitableError("a backbone needs a linear layer at its end, and this has none")
    held: list[Tensor] = []
    linear[-1].register_forward_pre_hook(lambda layer, inputs: held.append(inputs[0]))

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        held.clear()
        logits = net(pixels)
        return held[-1].flatten(1), logits.flatten(1)

    return run


def _torchvision(name: str, pretrained: bool) -> Net:
    models = _library("torchvision").models
    return with_features(models.get_model(name, weights="DEFAULT" if pretrained else None).eval())


def _timm(name: str, pretrained: bool) -> Net:
    net = _library("timm").create_model(name, pretrained=pretrained).eval()

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        maps = net.forward_features(pixels)
        return net.forward_head(maps, pre_logits=True), net.forward_head(maps)

    return run


def _transformers(name: str, pretrained: bool) -> Net:
    library = _library("transformers")
    if pretrained:
        net = library.AutoModel.from_pretrained(name).eval()
    else:
        net = library.AutoModel.from_config(library.AutoConfig.from_pretrained(name)).eval()

    def run(pixels: Tensor) -> Tensor:
        output = net(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None)
        hidden: Tensor = output.last_hidden_state
        return pooled.flatten(1) if pooled is not None else hidden.flatten(2).mean(-1)

    return run


def _python(name: str, pretrained: bool) -> Net:
    net = named_object(name)()
    if not callable(net):
        raise UnsuitableError(
            f"{name} must return a callable of pixels (B, 3, H, W), it returned a "
            f"{type(net).__name__}"
        )
    given: Net = net.eval() if isinstance(net, nn.Module) else net
    return given


LOADERS: dict[str, Callable[[str, bool], Net]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "transformers": _transformers,
    PYTHON: _python,
}


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UnsuitableError(
            f"{name} is not installed: run `pip install 'weightzoo[ranking]'` or "
            f"`pip install {name}`"
        ) from error
    except (RuntimeError, OSError) as error:  # compiled for another version of torch, as a rule
        raise UnsuitableError(
            f"{name} is installed but cannot be imported ({error}): install the version that fits "
            f"torch {torch.__version__}"
        ) from error
