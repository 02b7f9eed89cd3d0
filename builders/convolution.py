"""Convolution and pooling of many models at once, with the batch in the last dimension.

With images as (M, C, H, W, B) the patches of a stride-1 convolution are runs of W * B values, so
that gathering them is a plain copy, and each model's convolution is one matrix product. On a CPU
the models are taken one after another, since one model's patches fit the cache and those of
eight do not (measured: 3 to 4 times slower when they spill); on a GPU all go in one batch.

Shape letters: M models (1 if they share the input), C and O channels in and out, H and W height
and width, k kernel, B images.
"""

import math
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Below the smallest normal float32, so that rounding cannot hide a difference of zero.
_JUST_BELOW_ZERO = -2e-38
_local = threading.local()


def conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolve each model's images with its own kernels.

    Args:
        x: (M, C, H, W, B), or (1, C, H, W, B) if all models see the same images.
        weight: (M, O, C, k, k).
        bias: (M, O).
        stride: step of the kernel.
        padding: zeros on each side.

    Returns:
        (M, O, H', W', B).
    """
    if padding:
        x = F.pad(x, (0, 0, padding, padding, padding, padding))
    return _Conv2d.apply(x, weight, bias, stride)


def max_pool2d(x: Tensor, size: int) -> Tensor:
    """Maximum over squares of `size`; of equal values the first takes the gradient, as in torch.

    Args:
        x: (M, C, H, W, B).
        size: side of the square; rows and columns that fill none are dropped.

    Returns:
        (M, C, H // size, W // size, B).
    """
    height, width = x.shape[2] // size * size, x.shape[3] // size * size
    return _MaxPool2d.apply(x[:, :, :height, :width], size)


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolve(x, weight, bias, stride)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_bias = grad.flatten(2).sum(-1)
        grad_weight = _weight_gradient(x, grad, weight.shape, ctx.stride)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(x.shape, grad, weight, ctx.stride)
        return grad_x, grad_weight, grad_bias, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    models, out_channels, _, kernel, _ = weight.shape
    height, width = (side // stride + 1 for side in (x.shape[2] - kernel, x.shape[3] - kernel))
    out = x.new_empty(models, out_channels, height, width, x.shape[-1])
    flat_weight, flat_out = weight.flatten(2), out.flatten(2)
    for group, patches in _patches_by_group(x, models, kernel, stride):
        torch.bmm(flat_weight[group], patches, out=flat_out[group])
        if bias is not None:
            flat_out[group] += bias[group, :, None]
    return out


def _weight_gradient(x: Tensor, grad: Tensor, shape: torch.Size, stride: int) -> Tensor:
    out = grad.new_empty(shape)
    flat_grad, flat_out = grad.flatten(2), out.flatten(2)
    for group, patches in _patches_by_group(x, len(grad), shape[-1], stride):
        torch.bmm(flat_grad[group], patches.transpose(1, 2), out=flat_out[group])
    return out


def _input_gradient(shape: torch.Size, grad: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve the gradient, spread by the stride and padded, with the flipped kernels."""
    models, out_channels = grad.shape[:2]
    edge = weight.shape[-1] - 1
    padded = grad.new_zeros(models, out_channels, shape[2] + edge, shape[3] + edge, grad.shape[-1])
    rows = slice(edge, edge + (grad.shape[2] - 1) * stride + 1, stride)
    columns = slice(edge, edge + (grad.shape[3] - 1) * stride + 1, stride)
    padded[:, :, rows, columns] = grad
    return _convolve(padded, weight.flip(-1, -2).transpose(1, 2), None, 1)


def _groups(models: int, x: Tensor) -> Iterator[slice]:
    """All models at once on a GPU, one after another on a CPU."""
    step = models if x.is_cuda else 1
    return (slice(start, start + step) for start in range(0, models, step))


def _patches_by_group(
    x: Tensor, models: int, kernel: int, stride: int
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (slice of models, patches (models in it, C * k * k, H' * W' * B)).

    The patches lie in scratch memory that the next step overwrites.
    """
    if x.shape[0] == 1:
        patches = _patches(x, kernel, stride)
        for group in _groups(models, x):
            yield group, patches.expand(group.stop - group.start, -1, -1)
        return
    for group in _groups(models, x):
        yield group, _patches(x[group], kernel, stride)


def _patches(x: Tensor, kernel: int, stride: int) -> Tensor:
    models, channels, height, width, batch = x.shape
    rows, columns = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    m, c, h, w, b = x.stride()
    shape = (models, channels, kernel, kernel, rows, columns, batch)
    windows = x.as_strided(shape, (m, c, h, w, h * stride, w * stride, b))
    patches = _scratch(x, math.prod(shape)).view(shape).copy_(windows)
    return patches.view(models, channels * kernel * kernel, rows * columns * batch)


def _scratch(like: Tensor, size: int) -> Tensor:
    """Memory for patches that the next call overwrites: fresh pages cost more than the copy."""
    if like.is_cuda:
        return like.new_empty(size)
    buffer = getattr(_local, "scratch", None)
    if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype:
        buffer = _local.scratch = like.new_empty(size)
    return buffer[:size]


class _MaxPool2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.size = size
        cells = _cells(x, size)
        out = torch.empty_like(cells[0], memory_format=torch.contiguous_format)
        for group in _groups(len(x), x):
            torch.maximum(cells[0][group], cells[1][group], out=out[group])
            for cell in cells[2:]:
                torch.maximum(out[group], cell[group], out=out[group])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        for group in _groups(len(x), x):
            _route(_cells(x[group], ctx.size), grads[0][group], _cells(grad_x[group], ctx.size))
        return grad_x, None


def _route(cells: list[Tensor], grad: Tensor, grad_cells: list[Tensor]) -> None:
    """Give each square's gradient to the first of its largest values."""
    maxima = [cells[0]]
    for cell in cells[1:-1]:
        maxima.append(torch.maximum(maxima[-1], cell))
    for index in range(len(cells) - 1, 0, -1):
        lead = maxima[index - 1] - cells[index]
        earlier = torch.ops.aten.threshold_backward(grad, lead, _JUST_BELOW_ZERO)
        torch.sub(grad, earlier, out=grad_cells[index])
        grad = earlier
    grad_cells[0].copy_(grad)


def _cells(x: Tensor, size: int) -> list[Tensor]:
    """The size * size values of every square, as views (M, C, H / size, W / size, B)."""
    return [x[:, :, row::size, column::size] for row in range(size) for column in range(size)]
