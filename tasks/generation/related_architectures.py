"""Larger architectures that hold all tensors of a given one and one convolution more.

Source: arXiv 2209.14733, which moves generated weights of its three-convolution network into one
of four convolutions, with and without an identity skip. Its third change, skips around the
convolutions that are there, would rename their tensors here and is left out.
"""

from dataclasses import replace

from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layers import Activation, Conv, Residual

KERNEL = 3


def related_architectures(architecture: Architecture) -> list[Architecture]:
    """An architecture with a convolution more, and with the same inside a residual.

    The new layers stand where the image ends (before flatten, say) and keep its shape, so every
    tensor of the architecture has the same name, shape and place in its larger relatives.

    Returns:
        None of them for an architecture without an image inside; the first alone where
        residuals follow, since one more before them would rename their tensors.
    """
    shapes, layers = architecture.shapes(), architecture.layers
    inner = [index for index, shape in enumerate(shapes) if len(shape) == 3 and index > 0]
    if not inner:
        return []
    end = inner[-1]
    block = (Conv(out=shapes[end][0], kernel=KERNEL, padding=KERNEL // 2), Activation())
    added = {"conv": block, "skipped conv": (Residual(body=block),)}
    if any(isinstance(layer, Residual) for layer in layers[end:]):
        del added["skipped conv"]
    return [
        replace(
            architecture,
            name=f"{architecture.name} + {name}",
            layers=(*layers[:end], *more, *layers[end:]),
        )
        for name, more in added.items()
    ]
