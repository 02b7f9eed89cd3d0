"""DeepSets: all weights of a network as one set.

Source: Zaheer et al. 2017, arXiv:1703.06114, as a baseline of weight-space papers. (The paper of
SNE, the set-based neural network encoder, arXiv:2305.16625, gives no widths.) One small perceptron
encodes every value; another one reads the mean over all values. With `codes="none"`, the published
baseline, the order of the values has no effect, nor has swapping two layers. Differs on request:
`codes="layer"` adds the tensor of each value; `codes="element"` also adds its output and input
unit, so that every reordering has an effect.

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
CODE_WIDTH = 16  # width of each sinusoidal encoding
CACHED_TABLES = 32
BLOCK_BYTES = 2**21  # of hidden values on a CPU, whose caches do not hold those of a whole batch


class DeepSets(nn.Module):
    """Encoder of any architecture; no parameter depends on one."""

    def __init__(self, width: int = 64, codes: str = "none", outputs: int = 1) -> None:
        """Make an encoder.

        Args:
            width: H, width of every layer.
            codes: description of each value besides the value itself, one of `CODES`.
            outputs: number of predicted values.

        Raises:
            ValueError: if `codes` is unknown, or a size is below 1.
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
        """Encode weights of one architecture.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, H).

        Raises:
            ValueError: if `weights` and `layer_table` disagree, or the table has no parameter.
        """
        return self.encode(*self.planned(weights, layer_table))

    def planned(
        self, weights: Tensor, layer_table: LayerTable
    ) -> tuple[Tensor, LayerTable, Tensor | None]:
        """Make the codes of the architecture, or take the ones made before.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Arguments of `encode`.
        """
        if self.code is None:
            return weights, layer_table, None
        return weights, layer_table, _value_codes(layer_table, self.codes, weights.device)

    def encode(self, weights: Tensor, layer_table: LayerTable, codes: Tensor | None) -> Tensor:
        """Encode weights whose values have given codes.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.
            codes: codes of the trained values, (P, codes), or None.

        Returns:
            Embeddings, (B, H).
        """
        values = parameter_values(weights, layer_table)
        code = None if self.code is None or codes is None else self.code(codes.to(weights.dtype))
        first, last = (part for part in self.encoder.modules() if isinstance(part, nn.Linear))
        means = [self._mean(block, code, first) for block in values.split(self._block(values))]
        return last(torch.cat(means))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from weights.

        In training mode the batch norm of the head needs at least two models.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(weights, layer_table))

    def _block(self, values: Tensor) -> int:
        """Number of models whose hidden values are computed together."""
        if values.device.type != "cpu":
            return len(values)
        size = values.shape[1] * self.value.out_features * values.element_size()
        return max(1, BLOCK_BYTES // size)

    def _mean(self, values: Tensor, code: Tensor | None, first: nn.Linear) -> Tensor:
        """Mean over the values (B, P) of their hidden values before the last layer, (B, H).

        The last layer is linear: the mean of its results is its result for the mean.
        """
        hidden = self.value(values[..., None])
        if code is not None:
            hidden = hidden + code
        return first(hidden.relu()).relu().mean(dim=1)


@lru_cache(maxsize=CACHED_TABLES)
@torch.inference_mode(False)  # codes made in prediction can be reused in training
def _value_codes(layer_table: LayerTable, codes: str, device: torch.device) -> Tensor:
    """Codes of the trained values, (P, codes), float32; see `CODES`."""
    parts = [_tensor_codes(spec, codes) for spec in parameter_tensors(layer_table)]
    return torch.cat(parts).to(device)


def _code_width(codes: str) -> int:
    return len(KINDS) + len(ROLES) + CODE_WIDTH * (3 if codes == "element" else 1)


def _tensor_codes(spec: TensorSpec, codes: str) -> Tensor:
    """Codes, (values, codes): one-hot kind and role, depth, and for "element" output and input."""
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
