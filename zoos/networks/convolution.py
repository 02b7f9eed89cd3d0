"""Convolution and pooling of many models at once, laid out as rows of channels.

Images are (M, H, C, W, B): rows outermost, the batch last. A stride-1 convolution then copies only
its k horizontal shifts, not its k * k patches: the k rows under an output row are adjacent in
memory, so that overlapping windows of rows are the matrices of one `bmm`, without a copy. The
input gradient is the same operation with flipped kernels, over windows of rows of the gradient;
its k horizontal shifts are summed at the end.

On a CPU the models are processed one after another, each through convolution, pooling and bias:
one model's values fit the cache and those of eight do not (measured: 3 to 4 times slower when they
spill). On a CPU the implementation was chosen by measurement:

- compiled loops (`convolution_c`), for kernels of up to 400 taps (C * k * k) on a CPU: 1.2 to 7
  times as fast as torch's convolution, most for small batches and few channels;
- torch's convolution, model by model, for larger ones, as in ResNets;
- matrix products over row windows where there is no compiler, and in float64.

On a GPU all models form one grouped convolution of torch (`grouped_convolution.py`). Products over
row windows run there as well, with all models as one batch, for comparison.

Shape letters: M models (1 if they share the input), C and O channels in and out, H and W height
and width, k kernel, B images.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import convolution_c
from .convolution_c import LARGEST_COMPILED
from .grouped_convolution import grouped_conv2d

PATHS = ("grouped", "windows")
# Below the smallest normal float32, so that rounding cannot hide a difference of zero.
_JUST_BELOW_ZERO = -2e-38
_local = threading.local()


@dataclass(frozen=True)
class _Geometry:
    """Sizes of one convolution with its pooling."""

    kernel: int
    stride: int
    padding: int
    pool: int

    def out(self, side: int) -> int:
        """Side of the convolution's output, before pooling."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    pool: int = 1,
    path: str | None = None,
) -> Tensor:
    """Convolve each model's images with its own kernels, then pool by maximum.

    Args:
        x: (M, H, C, W, B), or (1, H, C, W, B) if all models see the same images.
        weight: (M, O, C, k, k).
        bias: (M, O); None adds none.
        stride: step of the kernel.
        padding: zeros on each side.
        pool: side of the squares whose maximum is taken; 1 pools nothing. The bias is added after
            pooling, to fewer values; the maximum stays the same, rounding included.
        path: one of `PATHS`: "grouped" for the grouped convolution, "windows" for what is described
            for a CPU; None takes "grouped" on a GPU alone.

    Returns:
        (M, H', O, W', B).

    Raises:
        ValueError: if shapes or types do not fit together; the compiled code does not check them.
    """
    geometry = _Geometry(weight.shape[-1], stride, padding, pool)
    _check(x, weight, bias, geometry)
    if path == "grouped" or path is None and x.is_cuda:
        return grouped_conv2d(x, weight, bias, stride, padding, pool)
    if not x.is_cuda and weight[0, 0].numel() > LARGEST_COMPILED:
        return _by_torch(x, weight, bias, geometry)
    return _Conv2d.apply(x, weight, bias, geometry)


def max_pool2d(x: Tensor, size: int) -> Tensor:
    """Maximum over squares of `size`; of equal values the first receives the gradient, as in torch.

    Args:
        x: images, (M, H, C, W, B).
        size: side of the square; remaining rows and columns are dropped.

    Returns:
        (M, H // size, C, W // size, B).
    """
    return x if size == 1 else _MaxPool2d.apply(x, size)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> None:
    models, channels_out, channels = weight.shape[:3]
    kernels = (models, channels_out, channels, geometry.kernel, geometry.kernel)
    biases = (models, channels_out) if bias is None else tuple(bias.shape)
    fits = x.shape[0] in (1, models) and x.shape[2] == channels and biases == kernels[:2]
    types = {x.dtype, weight.dtype} | ({bias.dtype} if bias is not None else set())
    sides = [geometry.out(side) // geometry.pool for side in (x.shape[1], x.shape[3])]
    if not fits or tuple(weight.shape) != kernels or len(types) > 1 or min(sides) < 1:
        raise ValueError(
            f"images {tuple(x.shape)}, kernels {tuple(weight.shape)}, biases {biases} and "
            f"{geometry} do not fit together, or not all are of one type: {types}"
        )


def _by_torch(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
    """Torch's own convolution, model by model: the fastest for many channels."""
    images = x.permute(0, 4, 2, 1, 3).contiguous()
    results = []
    for model, kernels in enumerate(weight):
        added = None if bias is None else bias[model]
        own = images[model if len(images) > 1 else 0]
        out = F.conv2d(own, kernels, added, geometry.stride, geometry.padding)
        results.append(F.max_pool2d(out, geometry.pool) if geometry.pool > 1 else out)
    return torch.stack(results).permute(0, 3, 2, 4, 1).contiguous()


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry
    ) -> Tensor:
        ctx.geometry = geometry
        ctx.shape = _compiled_shape(x, weight, geometry)
        if ctx.shape is not None:
            x, weight = x.contiguous(), weight.contiguous()  # they may be views of flat vectors
            bias = None if bias is None else bias.contiguous()
            out = _empty_output(x, weight, geometry)
            scratch = _compiled_scratch(x, ctx.shape)
            learns = any(ctx.needs_input_grad)
            maxima = convolution_c.forward(ctx.shape, x, weight, bias, out, scratch, learns)
            ctx.save_for_backward(x, weight, maxima)
            return out
        keep = geometry.pool > 1 and any(ctx.needs_input_grad)
        out, full = _convolve(x, weight, bias, geometry, keep)
        ctx.save_for_backward(x, weight, full)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, full = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad = grads[0].contiguous()
        grad_weight = None  # weights are data, not parameters, where networks are probed
        if needs_weight:
            grad_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        grad_x = x.new_empty(len(grad), *x.shape[1:]) if needs_x else None
        grad_bias = None
        if ctx.shape is not None:
            grad_bias = grad.new_empty(weight.shape[:2]) if needs_bias else None
            wanted, scratch = (grad_weight, grad_bias, grad_x), _compiled_scratch(x, ctx.shape)
            convolution_c.backward(ctx.shape, x, weight, grad, full, wanted, scratch)
            return _sum_shared(grad_x, x), grad_weight, grad_bias, None
        for group in _groups(len(grad), x):
            before = grad[group]
            if full is not None:
                before = _scratch(full[group], "gradient", full[group].shape)
                _unpool(full[group], grad[group], before, ctx.geometry.pool)
            own = x if len(x) == 1 else x[group]
            if grad_weight is not None:
                _weight_gradient(own, before, grad_weight[group], ctx.geometry)
            if grad_x is not None:
                _input_gradient(before, weight[group], grad_x[group], ctx.geometry)
        if needs_bias:
            grad_bias = grad.sum((1, 3, 4))
        return _sum_shared(grad_x, x), grad_weight, grad_bias, None


def _compiled_shape(
    x: Tensor, weight: Tensor, geometry: _Geometry
) -> convolution_c.ConvolutionSizes | None:
    """Sizes for the compiled code, or None where torch's operations are used."""
    models, channels_out, channels, kernel, _ = weight.shape
    if x.device.type != "cpu" or x.dtype != torch.float32 or x.numel() == 0:
        return None
    if geometry.pool > convolution_c.LARGEST_POOL or convolution_c.library() is None:
        return None
    _, height, _, width, batch = x.shape
    sizes = (height, channels, width, batch, channels_out, kernel)
    shared = int(len(x) == 1 and models > 1)
    how = (geometry.stride, geometry.padding, geometry.pool)
    return convolution_c.ConvolutionSizes(models, shared, *sizes, *how)


def _compiled_scratch(like: Tensor, shape: convolution_c.ConvolutionSizes) -> list[Tensor]:
    image, before = convolution_c.scratch_sizes(shape)
    return [_scratch(like, "image", (image,)), _scratch(like, "before", (before,))]


def _empty_output(x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
    height, width = (geometry.out(side) // geometry.pool for side in (x.shape[1], x.shape[3]))
    return x.new_empty(*weight.shape[:1], height, weight.shape[1], width, x.shape[-1])


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """The output, and the convolution before pooling if `keep` is true."""
    models, channels = weight.shape[:2]
    height, width = geometry.out(x.shape[1]), geometry.out(x.shape[3])
    shape = (models, height, channels, width, x.shape[-1])
    pool = geometry.pool
    full = x.new_empty(shape) if keep or pool == 1 else None
    out = full
    if pool > 1:
        out = x.new_empty(models, height // pool, channels, width // pool, x.shape[-1])
    assert out is not None
    kernels = _kernel_rows(weight)
    shared = _windows(x, geometry) if len(x) == 1 else None
    for group in _groups(models, x):
        windows = _windows(x[group], geometry) if shared is None else shared
        before = (
            _scratch(x, "output", (len(kernels[group]), *shape[1:]))
            if full is None
            else full[group]
        )
        _multiply(kernels[group], windows, before)
        if pool > 1:
            _pool(before, out[group], pool)
        if bias is not None:
            out[group] += bias[group, None, :, None, None]
    return out, full if keep else None


def _kernel_rows(weight: Tensor) -> Tensor:
    """(M, O, C, k, k) -> (M, O, k * C * k), in the order of a window: row, channel, column."""
    return weight.permute(0, 1, 3, 2, 4).flatten(2)


def _windows(x: Tensor, geometry: _Geometry) -> Tensor:
    """Overlapping windows of k rows of horizontal shifts: (M, H', k * C * k, W' * B).

    They are in scratch memory that the next step overwrites.
    """
    if geometry.padding:
        x = F.pad(x, (0, 0, geometry.padding, geometry.padding, 0, 0) + (geometry.padding,) * 2)
    models, height, channels, width, batch = x.shape
    kernel, stride = geometry.kernel, geometry.stride
    columns = (width - kernel) // stride + 1
    shape = (models, height, channels, kernel, columns, batch)
    m, h, c, w, b = x.stride()
    shifts = x.as_strided(shape, (m, h, c, w, w * stride, b), x.storage_offset())
    if kernel > 1 or stride > 1 or not x.is_contiguous():
        shifts = _scratch(x, "shifts", shape).copy_(shifts)
    return _row_windows(shifts.view(models, height, channels * kernel, -1), kernel, stride)


def _row_windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """(M, H, R, N) contiguous -> (M, H', k * R, N), a view in which rows overlap."""
    models, height, rows, columns = x.shape
    m, h, r, n = x.stride()
    shape = (models, (height - kernel) // stride + 1, kernel * rows, columns)
    return x.as_strided(shape, (m, h * stride, r, n), x.storage_offset())


def _multiply(kernels: Tensor, windows: Tensor, out: Tensor) -> None:
    """Each model's kernels (M, O, K) times its windows (M or 1, H', K, N), into `out`."""
    if len(kernels) > 1:  # GPU: one batch of M * H' products
        product = kernels[:, None] @ windows
        out.copy_(product.view(out.shape))
        return
    expanded = kernels.expand(windows.shape[1], -1, -1)
    torch.bmm(expanded, windows[0], out=out[0].flatten(2))


def _weight_gradient(x: Tensor, grad: Tensor, out: Tensor, geometry: _Geometry) -> None:
    windows = _windows(x, geometry)
    if len(grad) > 1:
        sums = (grad.flatten(3) @ windows.transpose(-1, -2)).sum(1)
    else:
        sums = torch.bmm(grad[0].flatten(2), windows[0].transpose(1, 2)).sum(0)[None]
    models, channels_out, channels, kernel, _ = out.shape
    out.copy_(sums.view(models, channels_out, kernel, channels, kernel).transpose(2, 3))


def _input_gradient(grad: Tensor, weight: Tensor, out: Tensor, geometry: _Geometry) -> None:
    """Sum over the k horizontal shifts of the kernels times windows of rows of the gradient."""
    models, height, channels_out, width, batch = grad.shape
    kernel, stride, padding = geometry.kernel, geometry.stride, geometry.padding
    rows, columns = out.shape[1] + 2 * padding, out.shape[3] + 2 * padding
    spread = _scratch(grad, "spread", (models, rows + kernel - 1, *grad.shape[2:])).zero_()
    spread[:, kernel - 1 : kernel + (height - 1) * stride : stride] = grad
    windows = _row_windows(spread.flatten(3), kernel, 1)  # (M, rows, k * O, W' * B)
    # (M, O, C, k, k) -> (M, C * k, k * O): the kernel's rows flipped, its columns as shifts.
    kernels = weight.flip(3).permute(0, 2, 4, 3, 1).flatten(3).flatten(1, 2)
    shape = (models, rows, kernels.shape[1], width, batch)
    shifts = _scratch(grad, "shifts", shape)
    _multiply(kernels, windows, shifts)
    shifts = shifts.view(models, rows, -1, kernel, width, batch)
    padded = out if padding == 0 else out.new_empty(models, rows, out.shape[2], columns, batch)
    padded.zero_()
    for shift in range(kernel):
        stop = shift + (width - 1) * stride + 1
        padded[:, :, :, shift:stop:stride] += shifts[:, :, :, shift]
    if padding:
        out.copy_(padded[:, padding:-padding, :, padding:-padding])


def _sum_shared(grad_x: Tensor | None, x: Tensor) -> Tensor | None:
    """The gradient of images that all models share is the sum of theirs."""
    if grad_x is None or len(grad_x) == len(x):
        return grad_x
    return grad_x.sum(0, keepdim=True)


def _groups(models: int, x: Tensor) -> Sequence[slice]:
    """All models at once on a GPU, one after another on a CPU."""
    step = models if x.is_cuda else 1
    return [slice(start, start + step) for start in range(0, models, step)]


def _scratch(like: Tensor, use: str, shape: Sequence[int]) -> Tensor:
    """Memory that the next call for the same use overwrites: fresh pages cost more than a copy."""
    if like.is_cuda:
        return like.new_empty(shape)
    size = math.prod(shape)
    buffers = _local.__dict__.setdefault("buffers", {})
    buffer = buffers.get(use)
    if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype:
        buffer = buffers[use] = like.new_empty(size)
    return buffer[:size].view(*shape)


class _MaxPool2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.size = size
        models, height, channels, width, batch = x.shape
        out = x.new_empty(models, height // size, channels, width // size, batch)
        for group in _groups(len(x), x):
            _pool(x[group], out[group], size)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        for group in _groups(len(x), x):
            _unpool(x[group], grads[0][group], grad_x[group], ctx.size)
        return grad_x, None


def _pool(x: Tensor, out: Tensor, size: int) -> None:
    """Maximum along each row, then over rows."""
    _maximum(_cells(_widest(x, size), 1, size), out)


def _widest(x: Tensor, size: int) -> Tensor:
    """Maximum along each row, in scratch memory."""
    cells = _cells(x, 3, size)
    return _maximum(cells, _scratch(x, "wide", cells[0].shape))


def _unpool(x: Tensor, grad: Tensor, grad_x: Tensor, size: int) -> None:
    """Give each square's gradient to the first of its largest values: first row, then column."""
    if any(side % size for side in (x.shape[1], x.shape[3])):
        grad_x.zero_()
    wide = _widest(x, size)
    grad_wide = _scratch(x, "grad_wide", wide.shape)
    if wide.shape[1] % size:
        grad_wide.zero_()
    _route(_cells(wide, 1, size), grad, _cells(grad_wide, 1, size))
    _route(_cells(x, 3, size), grad_wide, _cells(grad_x, 3, size))


def _maximum(cells: list[Tensor], out: Tensor) -> Tensor:
    torch.maximum(cells[0], cells[1], out=out)
    for cell in cells[2:]:
        torch.maximum(out, cell, out=out)
    return out


def _route(cells: list[Tensor], grad: Tensor, grad_cells: list[Tensor]) -> None:
    """Give the gradient of a maximum to the first of the largest cells."""
    maxima = [cells[0]]
    for cell in cells[1:-1]:
        maxima.append(torch.maximum(maxima[-1], cell))
    for index in range(len(cells) - 1, 0, -1):
        lead = maxima[index - 1] - cells[index]
        earlier = torch.ops.aten.threshold_backward(grad, lead, _JUST_BELOW_ZERO)
        torch.sub(grad, earlier, out=grad_cells[index])
        grad = earlier
    grad_cells[0].copy_(grad)


def _cells(x: Tensor, dimension: int, size: int) -> list[Tensor]:
    """The `size` neighbours along a dimension, as views; a rest is dropped."""
    whole = x.shape[dimension] // size * size
    index: list[slice] = [slice(None)] * x.dim()
    cells = []
    for start in range(size):
        index[dimension] = slice(start, whole, size)
        cells.append(x[tuple(index)])
    return cells
