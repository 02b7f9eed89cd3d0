"""DeepSets: all weights of a network as one set.

Source: Zaheer et al. 2017, arXiv:1703.06114, as baseline of weight-space papers (SNE,
arXiv:2305.16625, gives no widths). Every value goes through one small perceptron, the mean over
all values through another. With `codes="none"`, the published baseline, every order of the
values is the same to it, and so are two layers that change places. Differs, on demand:
`codes="layer"` tells values what tensor they are from, `codes="element"` also from which output
and input, which makes it see every reordering.

Shape letters: B models, D length of the flat vector, P trained values, H width.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.networks.layer_table import KINDS, ROLES, LayerTable, TensorSpec
from .parts.blocks import encoding, normalized_perceptron, perceptron
from .parts.parameters import parameter_tensors, parameter_values

CODES = ("none", "layer", "element")
CODE_WIDTH = 16  # of each sinusoidal encoding
CACHED_TABLES = 32


class DeepSets(nn.Module):
    """Takes any architecture: nothing in it depends on one."""

    def __init__(self, width: int = 64, codes: str = "none", outputs: int = 1) -> None:
        """Make an encoder.

        Args:
            width: H, of every layer.
            codes: one of `CODES`, what a value's surroundings say beside the value.
            outputs: numbers to predict.
        """
        super().__init__()
        if codes not in CODES:
            raise ValueError(f"codes must be one of {CODES}, got {codes!r}")
        self.config: dict[str, Any] = {"width": width, "codes": codes, "outputs": outputs}
        self.codes = codes
        self.value = nn.Linear(1, width)
        self.code = nn.Linear(_code_width(codes), width, bias=False) if codes != "none" else None
        self.encoder = nn.Sequential(nn.ReLU(), perceptron([width, width, width]))
        self.head = normalized_perceptron([width, width, width, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode flat weight vectors (B, D) of one architecture as (B, H).

        Raises:
            ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.
        """
        hidden = self.value(parameter_values(weights, layer_table)[..., None])
        if self.code is not None:
            hidden = hidden + self.code(
                _value_codes(layer_table, self.codes, weights.device).to(weights.dtype)
            )
        return self.encoder(hidden).mean(dim=1)

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from flat weight vectors (B, D): (B, outputs), without a final activation.

        The head's batch norm needs at least two models while in training mode.
        """
        return self.head(self.embed(weights, layer_table))


@lru_cache(maxsize=CACHED_TABLES)
@torch.inference_mode(False)  # codes made while predicting serve training too
def _value_codes(layer_table: LayerTable, codes: str, device: torch.device) -> Tensor:
    """What surrounds each trained value, (P, codes), float32: see `CODES`."""
    parts = [_tensor_codes(spec, codes) for spec in parameter_tensors(layer_table)]
    return torch.cat(parts).to(device)


def _code_width(codes: str) -> int:
    return len(KINDS) + len(ROLES) + CODE_WIDTH * (3 if codes == "element" else 1)


def _tensor_codes(spec: TensorSpec, codes: str) -> Tensor:
    """(values, codes): kind and role one-hot, depth, and on demand output and input."""
    kind_and_role = torch.zeros(len(KINDS) + len(ROLES))
    kind_and_role[KINDS.index(spec.kind)] = 1
    kind_and_role[len(KINDS) + ROLES.index(spec.role)] = 1
    depth = encoding(torch.tensor([spec.depth]), CODE_WIDTH)[0]
    code = torch.cat([kind_and_role, depth]).expand(spec.size, -1)
    if codes == "layer":
        return code
    index, inputs = torch.arange(spec.size), spec.size // max(1, spec.shape[0] if spec.shape else 1)
    output, into = index // inputs, index % inputs
    return torch.cat([code, encoding(output, CODE_WIDTH), encoding(into, CODE_WIDTH)], dim=1)
