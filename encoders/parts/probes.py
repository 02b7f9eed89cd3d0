"""Probes: learned inputs that networks are run on.

Source: ProbeGen, Kahana et al. 2024, arXiv:2410.10811: every probe has a latent vector, and one
deep generator without activation functions between its layers maps the latent vectors to images.
What all probes share lies in the generator, which keeps them smooth without a penalty. Probes are
made from noise and learned from the target alone; no image of a data set enters.

Differs: images have one size inside, `SIDE` by `SIDE` with three channels, and are resized to the
input shape of the networks, so that one set of probes runs networks of several shapes; the final
tanh has a learned gain.

Shape letters: P probes, Z length of a latent vector, C channels, H height, W width, F features.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...zoos.errors import UnsuitableError
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.batched import NetworkBatch
from ...zoos.networks.layers import Embedding, Shape

SIDE, CHANNELS = 32, 3
MOST_COORDINATES = 16  # inputs of more features are images laid flat
KINDS = ("learned", "random")


class Probes(nn.Module):
    """P inputs of any shape; parameters of images and of points are separate."""

    def __init__(self, count: int, latent: int, kind: str) -> None:
        """Draw the latent vectors and make the generators.

        Args:
            count: P, number of probes.
            latent: Z, length of a latent vector.
            kind: one of `KINDS`; "random" probes stay what they were drawn as, a control.

        Raises:
            ValueError: if the kind is unknown, or a size is below 1.
        """
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"probe_kind must be one of {KINDS}, got {kind!r}")
        if min(count, latent) < 1:
            raise ValueError(f"probes and latent must be at least 1, got {count!r} and {latent!r}")
        self.image_latents = nn.Parameter(torch.randn(count, latent, 1, 1))
        self.images = nn.Sequential(
            _grow(latent, 64, 4, 1, 0),
            _grow(64, 32, 4, 2, 1),
            _grow(32, 16, 4, 2, 1),
            _grow(16, CHANNELS, 4, 2, 1),
        )
        self.point_latents = nn.Parameter(torch.randn(count, latent))
        self.points = nn.Sequential(_linear(latent, 64), _linear(64, MOST_COORDINATES))
        self.gain = nn.Parameter(torch.ones(()))
        self.requires_grad_(kind == "learned")

    def forward(self, shape: Shape) -> Tensor:
        """Make the probes for networks of one input shape.

        Args:
            shape: input shape, (C, H, W) or (F,).

        Returns:
            (P, C, H, W) or (P, F).
        """
        if len(shape) == 1 and shape[0] <= MOST_COORDINATES:
            return self.gain * torch.tanh(self.points(self.point_latents))[:, : shape[0]]
        images = self.gain * torch.tanh(self.images(self.image_latents))
        if len(shape) == 1:
            side = math.isqrt(shape[0] - 1) + 1
            return _resized(images, (1, side, side)).flatten(1)[:, : shape[0]]
        return _resized(images, shape)

    def fitting(self, networks: NetworkBatch) -> Tensor:
        """Make the probes for networks, on their device and of their type.

        Raises:
            UnsuitableError: if the networks read token numbers, which have no gradient.
        """
        return self(_probed_shape(networks.architecture)).to(networks.weights)


def _probed_shape(architecture: Architecture) -> Shape:
    """Input shape of networks that can be run on probes.

    Raises:
        UnsuitableError: if their inputs are token numbers, which have no gradient.
    """
    if isinstance(architecture.layers[0], Embedding):
        raise UnsuitableError(
            f"networks of {architecture.name!r} read token numbers, and probes are images or "
            "points: take an encoder of weights, such as SNE"
        )
    return architecture.input_shape


def _resized(images: Tensor, shape: Shape) -> Tensor:
    """Images (P, 3, SIDE, SIDE) as (P, C, H, W); other numbers of channels get a repeated mean."""
    channels, height, width = shape
    if channels != CHANNELS:
        # The mean of three independent channels has a smaller deviation by the root of three.
        images = images.mean(1, keepdim=True).mul(CHANNELS**0.5).expand(-1, channels, -1, -1)
    if (height, width) == (SIDE, SIDE):
        return images
    return F.interpolate(images, (height, width), mode="bilinear")


def _grow(into: int, out: int, kernel: int, stride: int, padding: int) -> nn.ConvTranspose2d:
    """A transposed convolution that keeps the deviation of its input."""
    layer = nn.ConvTranspose2d(into, out, kernel, stride, padding)
    reads = into * (kernel / stride) ** 2 if stride > 1 else into
    nn.init.normal_(layer.weight, std=reads**-0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _linear(into: int, out: int) -> nn.Linear:
    """A linear layer that keeps the deviation of its input."""
    layer = nn.Linear(into, out)
    nn.init.normal_(layer.weight, std=into**-0.5)
    nn.init.zeros_(layer.bias)
    return layer
