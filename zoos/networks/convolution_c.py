"""The convolution of `convolution.c`, compiled for this machine if it has a C compiler.

The compiler `$CC` or `cc` runs once; the library is kept in the user's cache folder under a hash
of the source, the flags, the compiler and the processor. Without a compiler, or with
WEIGHTZOO_COMPILE=0, `library` returns None and torch's operations are used.
"""

import ctypes
import functools
import hashlib
import math
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from .layer_table import LayerTable, TensorSpec

SOURCE = Path(__file__).with_name("convolution.c")
# Taps of a kernel (C * k * k) up to which compiled loops beat torch's convolution; see LOG.md.
LARGEST_COMPILED = 400
LARGEST_POOL = 16  # side of a square whose places fit in a byte
FLAGS = ("-O3", "-march=native", "-fPIC", "-shared", "-std=gnu11")


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
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if os.environ.get("WEIGHTZOO_COMPILE") == "0" or not shutil.which(compiler[0]):
        return None
    try:
        loaded = ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        warnings.warn(
            f"cannot compile {SOURCE.name}, training will be slower: {error} {said:.1000}",
            stacklevel=2,
        )
        return None
    loaded.weightzoo_scratch.restype = ctypes.c_int64
    return loaded


def _compiled(compiler: list[str]) -> Path:
    """Path of the library, which is compiled if it does not exist yet."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout
    parts = (SOURCE.read_bytes(), " ".join(FLAGS).encode(), version, processor_features().encode())
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
    cache = cache_folder()
    target = cache / f"convolution-{name}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder) / target.name
        command = [*compiler, *FLAGS, "-o", str(made), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
        os.replace(made, target)
    return target


def cache_folder() -> Path:
    """A cache folder that only the user can write to: a foreign library would run as the user.

    Raises:
        PermissionError: if others own the folder or may write to it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weightzoo"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    stat = cache.stat()
    if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
        raise PermissionError(
            f"{cache} belongs to or can be written by others: `chmod go-w` it if it is yours, or "
            "set XDG_CACHE_HOME to a folder of your own"
        )
    return cache


def processor_features() -> str:
    """Processor features used by -march=native: two machines may share one home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() + platform.machine()


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
