"""Convolution of many models as one grouped convolution of torch, for a GPU.

Models are groups of channels: images are (B, M * C, H, W) and kernels (M * O, C, k, k). Where all
models share their images, it is one plain convolution with M * O channels out.

Why this is the choice on a GPU, by reasoning, since it was not measured on one: matrix products
over row windows (`convolution.py`) have four dimensions there. torch copies such operands before it
multiplies them, and so writes k * k copies of the images and a copy of the kernels for every row of
the output. A convolution of the vendor's library gathers its patches in registers. The result is a
view with the batch outermost; activation functions keep that layout, so that the next convolution
takes it without a copy. `benchmarks/speed/gpu_parts.py convolutions` times both.

Products are those of float32. For convolutions alone, torch by default lets a GPU round float32 to
ten bits (TF32), which the recipes of a zoo do not ask for.

Shape letters: M models, C and O channels in and out, H and W height and width, k kernel, B images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def grouped_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, pool: int
) -> Tensor:
    """Convolve each model's images with its own kernels, then pool by maximum.

    Args:
        x: (M, H, C, W, B), or (1, H, C, W, B) if all models see the same images.
        weight: (M, O, C, k, k).
        bias: (M, O); None adds none.
        stride: step of the kernel.
        padding: zeros on each side.
        pool: side of the squares whose maximum is taken; 1 pools nothing.

    Returns:
        (M, H', O, W', B), a view of (B, M * O, H', W').
    """
    added = None if bias is None else bias.flatten()
    kernels = weight.flatten(0, 1)
    how = (stride, padding, len(x))
    out: Tensor = _GroupedConvolution.apply(channels_of_models(x), kernels, added, how)
    out = F.max_pool2d(out, pool) if pool > 1 else out
    return images_of_models(out, len(weight))


def channels_of_models(x: Tensor) -> Tensor:
    """Images (M, H, C, W, B) as (B, M * C, H, W), a view if the batch is outermost in memory."""
    return x.permute(4, 0, 2, 1, 3).flatten(1, 2)


def images_of_models(x: Tensor, models: int) -> Tensor:
    """Channels (B, M * C, H, W) of some models as images (M, H, C, W, B), a view.

    Args:
        x: channels of all models.
        models: M, number of models.
    """
    return x.unflatten(1, (models, -1)).permute(1, 3, 2, 4, 0)


class _GroupedConvolution(torch.autograd.Function):
    """Torch's convolution without TF32, in the backward pass too, which runs later."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, kernels: Tensor, bias: Tensor | None, how: tuple[int, int, int]
    ) -> Tensor:
        ctx.save_for_backward(images, kernels)
        ctx.how = stride, padding, groups = how
        with _float32_products():
            return F.conv2d(images, kernels, bias, stride, padding, groups=groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        images, kernels = ctx.saved_tensors
        stride, padding, groups = ctx.how
        wanted = list(ctx.needs_input_grad[:3])
        sides = (
            [stride] * 2,
            [padding] * 2,
            [1, 1],
            False,
            [0, 0],
        )  # neither dilated nor transposed
        sizes = [len(kernels)] if wanted[2] else None
        with _float32_products():
            found = torch.ops.aten.convolution_backward(
                grads[0], images, kernels, sizes, *sides, groups, wanted
            )
        return (*found, None)


@contextmanager
def _float32_products() -> Iterator[None]:
    """Convolutions of a GPU without TF32 inside the block."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
