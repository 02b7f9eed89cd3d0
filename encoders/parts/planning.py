"""Compilation of encoders that group the values of an architecture before they encode weights.

Such an encoder has two methods: `planned(weights, layer_table)` makes the arguments of `encode`, of
which all but the weights are equal for an architecture and are kept between calls, and
`encode(...)` makes the embeddings. `torch.compile` traces through caches of functions. It would
make the plan again in every call, or fail where a plan cannot be traced, so only `encode` and the
head are compiled.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...zoos.networks.layer_table import LayerTable

PLANNING = ("forward", "embed", "planned")


def compiled(
    encoder: nn.Module, backend: str | Callable[..., Any] = "inductor"
) -> Callable[[Any, LayerTable], Tensor]:
    """Compile the prediction of an encoder, without its planning.

    Args:
        encoder: encoder; one without plans is compiled whole.
        backend: backend of `torch.compile`.

    Returns:
        Function of the weights and the layer table, as the encoder itself.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.encoders import SNE
        >>> from weightzoo.encoders.parts.planning import compiled
        >>> train, encoder = load_zoo(ZOO, split="train"), SNE(width=8, heads=1)
        >>> predict = compiled(encoder.eval(), backend="eager")
        >>> predict(train.weights(), train.layer_table).shape
        torch.Size([6, 1])
    """
    if not has_plans(encoder):
        return torch.compile(encoder, backend=backend)
    planned_encoder: Any = encoder
    predict = torch.compile(_prediction(encoder), backend=backend)

    def outputs(weights: Any, layer_table: LayerTable) -> Tensor:
        found: Tensor = predict(*planned_encoder.planned(weights, layer_table))
        return found

    return outputs


def has_plans(encoder: nn.Module) -> bool:
    """Whether an encoder has plans; a subclass that changes `forward` or `embed` alone has none."""
    classes = (vars(one) for one in type(encoder).__mro__)
    return "planned" in next(names for names in classes if any(one in names for one in PLANNING))


def _prediction(encoder: Any) -> Callable[..., Tensor]:
    def predict(*planned: Any) -> Tensor:
        predicted: Tensor = encoder.head(encoder.encode(*planned))
        return predicted

    return predict
