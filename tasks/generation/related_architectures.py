"""Larger architectures with all tensors of a given one and an additional convolution.

Source: arXiv 2209.14733, which moves generated weights of its network with three convolutions into
networks with four, with and without an identity skip. Its third change, skips around the existing
convolutions, would rename their tensors here and is left out.
"""

from dataclasses import replace

from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layers import Activation, Conv, Residual

KERNEL = 3


def related_architectures(architecture: Architecture) -> list[Architecture]:
    """The architecture with one more convolution, and with this convolution in a residual block.

    The new layers follow the last layer with an image as output (for instance before flatten) and
    keep its shape. Every tensor of the architecture has the same name, shape and position in the
    related architectures.

    Returns:
        Both; an empty list for an architecture without an image inside; only the first if residual
        blocks follow, since another one before them would rename their tensors.
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
