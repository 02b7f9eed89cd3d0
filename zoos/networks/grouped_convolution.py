"""Convolution of many models as one grouped convolution of torch, for a GPU.

Models are groups of channels: images are (B, M * C, H, W) and kernels (M * O, C, k, k). Where all
models share their images, it is one plain convolution with M * O channels out.

Why this is the choice on a GPU, by reasoning, since it was not measured on one: matrix products
over row windows (`convolution.py`) have four dimensions there. torch copies such operands before it
multiplies them, and so writes k * k copies of the images and a copy of the kernels for every row of
the output. A convolution of the vendor's library gathers its patches in registers. The result is a
view with the batch outermost; activation functions keep that layout, so that the next convolution
takes it without a copy. `benchmarks/speed/gpu_parts.py convolutions` times both.

Shape letters: M models, C and O channels in and out, H and W height and width, k kernel, B images.
"""

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
    out = F.conv2d(channels_of_models(x), kernels, added, stride, padding, groups=len(x))
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
