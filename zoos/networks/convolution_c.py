"""The convolution of `convolution.c`, compiled for this machine if it has a C compiler.

Without a compiler, or with WEIGHTZOO_COMPILE=0, `library` returns None and torch's operations are
used; see `c_library`.
"""

import ctypes
import functools
import math
from pathlib import Path

import torch
from torch import Tensor

from .c_library import load_library
from .layer_table import LayerTable, TensorSpec

SOURCE = Path(__file__).with_name("convolution.c")
# Taps of a kernel (C * k * k) up to which compiled loops beat torch's convolution; see LOG.md.
LARGEST_COMPILED = 400
LARGEST_POOL = 16  # side of a square whose places fit in a byte


class ConvolutionSizes(ctypes.Structure):
    """Sizes of one convolution with its pooling, for the C code."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "models shared height channels width batch out kernel stride padding pool".split()
        )
    ]


def convolution_code(layer_table: LayerTable, device: str) -> str:
    """Implementation that trains the convolutions of an architecture on this machine.

    Args:
        layer_table: layer table of the architecture.
        device: training device.

    Returns:
        "compiled" if the compiled code trains any of them, which rounds differently from torch;
        else "torch", as on a GPU, without a C compiler, with WEIGHTZOO_COMPILE=0, and where all
        kernels are too large for it.
    """
    taps = [math.prod(spec.shape[1:]) for spec in layer_table if _is_kernel(spec)]
    small = any(count <= LARGEST_COMPILED for count in taps)
    return "compiled" if device == "cpu" and small and library() else "torch"


def _is_kernel(spec: TensorSpec) -> bool:
    return spec.kind == "conv" and spec.role == "weight"


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None without a compiler."""
    loaded = load_library(SOURCE, "training")
    if loaded is not None:
        loaded.weightzoo_scratch.restype = ctypes.c_int64
    return loaded


def forward(
    shape: ConvolutionSizes,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    scratch: list[Tensor],
    keep_maxima: bool,
) -> Tensor | None:
    """Compute the convolution with its pooling.

    Args:
        shape: sizes of the convolution.
        x: images, (M or 1, H, C, W, B).
        weight: kernels, (M, O, C, k, k).
        bias: biases, (M, O), or None.
        out: result, which is filled.
        scratch: two scratch tensors of `scratch_sizes`.
        keep_maxima: whether `backward` follows, which needs the positions of the maxima.

    Returns:
        Positions of the maxima, uint8, for `backward`; None without pooling, or if not kept.
    """
    keep = keep_maxima and shape.pool > 1
    maxima = torch.empty(out.shape, dtype=torch.uint8) if keep else None
    compiled = library()
    assert compiled is not None
    tensors = (x, weight, bias, out, maxima, *scratch)
    compiled.weightzoo_forward(ctypes.byref(shape), *map(_pointer, tensors))
    return maxima


def backward(
    shape: ConvolutionSizes,
    x: Tensor,
    weight: Tensor,
    grad: Tensor,
    maxima: Tensor | None,
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    scratch: list[Tensor],
) -> None:
    """Compute the gradients of weight, bias and x.

    Args:
        shape: sizes of the convolution.
        x: images, (M or 1, H, C, W, B).
        weight: kernels, (M, O, C, k, k).
        grad: gradient of the result.
        maxima: positions of the maxima from `forward`, or None.
        grads: gradients of weight, bias and x, which are filled; None skips one.
        scratch: two scratch tensors of `scratch_sizes`.
    """
    compiled = library()
    assert compiled is not None
    tensors = (x, weight, grad, maxima, *grads, *scratch)
    compiled.weightzoo_backward(ctypes.byref(shape), *map(_pointer, tensors))


def scratch_sizes(shape: ConvolutionSizes) -> list[int]:
    """Number of floats of the two scratch tensors."""
    compiled = library()
    assert compiled is not None
    return [compiled.weightzoo_scratch(ctypes.byref(shape), ctypes.c_int64(i)) for i in (0, 1)]


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
