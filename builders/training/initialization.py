"""Initial weights as in the published zoos, and the random streams of a model."""

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layer_table import TensorSpec
from ...zoos.networks.layers import Layer, Residual, Sine
from ...zoos.recipe import HyperParameters, Model

Draw = Callable[..., object]
EMBEDDING_STD = 0.02
INIT_FUNCTIONS: dict[str, Draw] = {
    "uniform": nn.init.uniform_,
    "orthogonal": nn.init.orthogonal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}


def stream(seed: int, use: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator of one model for one use.

    Uses are independent of each other, so that e.g. dropout never shifts the data order. A GPU
    draws other numbers from a seed than a CPU.

    Args:
        seed: seed of the model.
        use: name of the use: "init", "order", "dropout", "augmentation" or "noise".
        device: device that the numbers are drawn on.
    """
    digest = hashlib.sha256(f"{seed}/{use}".encode()).digest()
    generator = torch.Generator(device)
    generator.manual_seed(int.from_bytes(digest[:7], "little"))
    return generator


def noise_provenance(device: torch.device | str) -> dict[str, str]:
    """Entry of the provenance that says which generators drew noise; none for those of a CPU."""
    return {} if torch.device(device).type == "cpu" else {"noise": torch.device(device).type}


def initial_weights(architecture: Architecture, models: Sequence[Model]) -> Tensor:
    """Draw the initial weights of models.

    Weights are drawn by `init`, biases are the constant `bias_init`. With every init, norm layers
    start from weight 1, bias 0 and the statistics mean 0, variance 1, and embeddings from
    N(0, 0.02). "siren" also draws biases, from the distribution of their layer's weights.

    Args:
        architecture: architecture of the models.
        models: M models.

    Returns:
        (M, D), float32, on the CPU.
    """
    table = architecture.layer_table()
    flat = torch.empty(len(models), table.width)
    omega = _omega(architecture.layers) or Sine().omega
    fan_in = {tensor.layer: math.prod(tensor.shape[1:]) for tensor in table if tensor.shape[1:]}
    for row, model in zip(flat, models, strict=True):
        generator = stream(model.seed, "init")
        for tensor, view in zip(table, table.split(row).values(), strict=True):
            if model.hyper_parameters.init == "siren" and tensor.kind not in ("norm", "embedding"):
                bound = siren_bound(fan_in[tensor.layer], tensor.depth == 0, omega)
                view.uniform_(-bound, bound, generator=generator)
            else:
                _draw(tensor, view, model.hyper_parameters, generator)
    return flat


def siren_bound(inputs: int, first: bool, omega: float) -> float:
    """Bound of the uniform distribution of SIREN's initial weights.

    Source: Sitzmann et al. 2020, arXiv:2006.09661, section 3.2.

    Args:
        inputs: number of inputs of the layer.
        first: whether it is the first layer.
        omega: frequency of the sine layers.
    """
    return 1 / inputs if first else math.sqrt(6 / inputs) / omega


def _draw(
    tensor: TensorSpec, view: Tensor, values: HyperParameters, generator: torch.Generator
) -> None:
    if tensor.kind == "norm":
        ones = tensor.name.endswith((".weight", ".running_var"))
        view.fill_(1.0 if ones else 0.0)
    elif tensor.kind == "embedding":
        view.normal_(0, EMBEDDING_STD, generator=generator)
    elif tensor.role == "bias":
        view.fill_(values.bias_init)
    elif values.init == "normal":
        view.normal_(0, values.init_std, generator=generator)
    elif values.init == "truncated_normal":
        end = 2 * values.init_std
        nn.init.trunc_normal_(view, 0, values.init_std, -end, end, generator=generator)
    else:
        INIT_FUNCTIONS[values.init](view, generator=generator)


def _omega(layers: Sequence[Layer]) -> float | None:
    """Frequency of the first sine layer."""
    for layer in layers:
        if isinstance(layer, Sine):
            return layer.omega
        if isinstance(layer, Residual) and (inner := _omega(layer.body + layer.shortcut)):
            return inner
    return None
