"""Forward pass, loss and backward pass of a cohort as one compiled graph, for one processor core.

torch traces the step once and compiles it to a library (AOTInductor), which stays in the user's
cache folder under a hash of everything that shapes it. Calls of Python and passes over memory
between the operations are saved. For small nets that is most of a step: an INR (implicit neural
representation) of batch 125 takes a third of the time. Compiled steps round differently from
torch's operations. So a whole build takes one code, which `step_code` chooses from the recipe and
its models alone, and which is part of the build's settings and provenance.

Convolutions are computed by `zoos/networks/convolution.c` outside of torch's graphs. Only a
convolution of separate patches, as in a ViT (vision transformer), is traced, as a matrix product.

Shape letters: M models, D length of the flat vector, B images or points, C channels in, O out, k
kernel, H and W rows and columns of patches.
"""

import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.errors import BuildError
from ...zoos.networks import activations, batched, batched_layers, layers
from ...zoos.networks.activations import Runs
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.batched import BatchedPass, layer_table_of
from ...zoos.networks.c_library import cache_folder, processor_features
from ...zoos.networks.layers import Layer, output_values
from ...zoos.recipe import HyperParameters, Recipe

COMPILED, BY_TORCH = "compiled", "torch"
# Measured for INRs, an MLP and a ViT on one core of an AMD EPYC, see docs/measured.md.
SAVED_PER_VALUE = 3e-9  # processor seconds, for each output value of a layer in training
COMPILING = 15.0  # processor seconds, for each graph
GRAPHS = 2  # of a build: whole cohorts and the last one
WORTH = 3  # least gain, as a multiple of what compiling takes

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
}
_SOURCES = (__file__, activations.__file__, batched.__file__, batched_layers.__file__)

Losses = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def step_code(
    recipe: Recipe, values: Sequence[HyperParameters], images: int, device: torch.device | str
) -> str:
    """Choose the code that trains all cohorts of a build: "compiled" or "torch".

    Args:
        recipe: recipe of the build.
        values: hyper-parameters of all its models.
        images: number of train images of the image set, or of points of the signal set.
        device: training device.

    Returns:
        "compiled" if that is worth it and works here, else "torch"; neither the engine nor the
        size of cohorts changes it.
    """
    planned = is_worth_compiling(recipe, values, images, device)
    return COMPILED if planned and can_compile() else BY_TORCH


def is_worth_compiling(
    recipe: Recipe, values: Sequence[HyperParameters], images: int, device: torch.device | str
) -> bool:
    """Whether compiled steps save at least three times the time that compiling takes.

    Args:
        recipe: recipe of the build.
        values: hyper-parameters of all its models.
        images: number of train images of the image set, or of points of the signal set.
        device: training device.
    """
    if torch.device(device).type != "cpu" or not is_traceable(recipe, values):
        return False
    worth = saved_seconds(recipe, values, images) >= WORTH * GRAPHS * COMPILING
    return worth and _has_compiler()


def _has_compiler() -> bool:
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    return os.environ.get("WEIGHTZOO_COMPILE") != "0" and shutil.which(compiler[0]) is not None


def is_traceable(recipe: Recipe, values: Sequence[HyperParameters]) -> bool:
    """Whether all cohorts of a population share one graph apart from their size.

    Args:
        recipe: recipe of the population.
        values: hyper-parameters of its models.
    """
    kinds = {(one.activation, one.batch_size, one.dropout > 0) for one in values}
    plain = len(kinds) == 1 and not values[0].dropout and recipe.precision == "float32"
    return plain and all(map(_is_known, recipe.architecture.layers))


def saved_seconds(recipe: Recipe, values: Sequence[HyperParameters], images: int) -> float:
    """Estimated processor seconds that compiled steps save in a whole build.

    Args:
        recipe: recipe of the build.
        values: hyper-parameters of its models.
        images: number of train images of the image set, or of points of the signal set.
    """
    seen = sum(max(1, round(one.train_fraction * images)) for one in values) * recipe.epochs
    architecture = recipe.architecture
    return SAVED_PER_VALUE * seen * output_values(architecture.layers, architecture.input_shape)


@functools.cache
def can_compile() -> bool:
    """Whether torch compiles a tiny graph here, which is kept in the user's cache folder."""
    try:
        x = torch.ones(2, 8)
        _library(("trial",), lambda a: a.sin() + 1, (x,))(x)
    except Exception as error:  # of the compiler, the linker, the cache folder or torch itself
        warnings.warn(
            f"cannot compile training steps, training will be slower: {error!r:.1000}", stacklevel=2
        )
        return False
    return True


def compiled_step(
    architecture: Architecture, runs: Runs, losses: Losses, example: tuple[Tensor, ...]
) -> Step:
    """Compile the step of a cohort, or load it from the user's cache folder.

    Args:
        architecture: architecture of the models.
        runs: name and models of every run of equal activation functions, see `runs_of`.
        losses: function of outputs (M, O, B) and targets that gives the losses, (M,).
        example: weights (M, D), gradient (M, D), inputs and targets of a batch.

    Returns:
        Function of such four tensors that fills the gradient and returns the losses.

    Raises:
        BuildError: if the graph cannot be compiled here.
    """
    forward = _TracedPass.steps(architecture, runs, losses)
    shapes = tuple((tuple(tensor.shape), str(tensor.dtype)) for tensor in example)
    stops = [(name, models.stop) for name, models in runs]
    known = (architecture.to_json(), stops, losses.__qualname__, shapes)
    try:
        return _library(known, forward, example)
    except Exception as error:
        raise BuildError(
            f"cannot compile the training step of {architecture.name!r} on this machine: "
            f"{error!r:.1000}; set WEIGHTZOO_COMPILE=0 for the whole build to do without"
        ) from error


class _TracedPass(BatchedPass):
    """A forward pass of operations that torch can trace."""

    @classmethod
    def steps(cls, architecture: Architecture, runs: Runs, losses: Losses) -> Step:
        """The function to trace, see `compiled_step`."""
        table = layer_table_of(architecture)

        def step(flat: Tensor, gradient: Tensor, x: Tensor, targets: Tensor) -> Tensor:
            weights = flat.detach().requires_grad_()
            parts = weights.split([spec.size for spec in table], dim=1)
            named = {
                spec.name: part.reshape(-1, *spec.shape)
                for spec, part in zip(table, parts, strict=True)
            }
            outputs = cls(named.__getitem__, runs).run(architecture.layers, "", x)
            found = losses(outputs, targets)
            gradient.copy_(torch.autograd.grad(found.sum(), weights)[0])
            return found.detach()

        return step

    def layer(self, layer: Layer, name: str, pool: int, x: Tensor) -> Tensor:
        """Run one layer; a convolution of separate patches is a product of matrices."""
        if not isinstance(layer, layers.Conv):
            return super().layer(layer, name, pool, x)
        weight, bias = self._weights(name)
        models, out, side = len(weight), weight.shape[1], layer.kernel
        height, width = x.shape[1] // side, x.shape[3] // side
        x = x[:, : height * side, :, : width * side].expand(models, -1, -1, -1, -1)
        # (M, H, k, C, W, k, B)
        patches = x.unflatten(1, (height, side)).unflatten(4, (width, side))
        columns = patches.permute(0, 3, 2, 5, 1, 4, 6).flatten(1, 3).flatten(2)
        mapped = torch.baddbmm(bias[:, :, None], weight.flatten(2), columns)  # (M, O, H * W * B)
        return mapped.view(models, out, height, width, -1).transpose(1, 2)

    def same_shape(self, layer: Layer, name: str, x: Tensor) -> Tensor:
        """Run a layer that keeps the shape; every run of models has its activation function."""
        if isinstance(layer, layers.Activation):
            return torch.cat([_FUNCTIONS[name](x[models]) for name, models in self._runs])
        return super().same_shape(layer, name, x)


def _is_known(layer: Layer) -> bool:
    """Whether a layer can be part of a graph, and was measured in one."""
    match layer:
        case layers.Conv():
            return layer.bias and layer.kernel == layer.stride and layer.padding == 0
        case layers.Residual():
            return all(map(_is_known, (*layer.body, *layer.shortcut)))
        case layers.MaxPool() | layers.GlobalAvgPool() | layers.BatchNorm():
            return False
        case layers.Embedding() | layers.CausalAttention():  # never measured
            return False
    return True


def _library(
    known: tuple[Any, ...], function: Callable[..., Tensor], example: tuple[Tensor, ...]
) -> Callable[..., Tensor]:
    """Load the library of a function, which is compiled if the cache folder lacks it."""
    target = cache_folder() / f"step-{_digest(known)}.pt2"
    with _quiet(), _locked(target.with_suffix(".lock")):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                made = Path(folder) / target.name
                _compile(function, example, made)
                os.replace(made, target)
        loaded: Callable[..., Tensor] = torch._inductor.aoti_load_package(str(target))
    return loaded


def _compile(function: Callable[..., Tensor], example: tuple[Tensor, ...], made: Path) -> None:
    from torch._inductor import aoti_compile_and_package
    from torch.fx.experimental.proxy_tensor import make_fx

    example = tuple(tensor.detach().clone() for tensor in example)
    graph = make_fx(function)(*example)
    exported = torch.export.export(graph, example)
    options = {"cpp.threads": 1}  # a worker has one, and the number of threads changes sums
    aoti_compile_and_package(exported, package_path=str(made), inductor_configs=options)


def _digest(known: tuple[Any, ...]) -> str:
    """Hash of a graph, the versions of the code that makes it, and the processor."""
    parts = [repr(known), torch.__version__, os.environ.get("CXX", ""), processor_features()]
    code = b"".join(Path(source).read_bytes() for source in _SOURCES)
    return hashlib.sha256("\0".join(parts).encode() + code).hexdigest()[:24]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, so that of all workers one compiles and the others wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out torch's warnings about its own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
