"""NFN (neural functional network): permutation-equivariant layers on weights of one architecture.

Source: Zhou et al. 2023, "Permutation Equivariant Neural Functionals", arXiv:2302.14040: NF-layers
(`equivariant.py`) with ReLU, averages over units, and a perceptron of widths 1000 and 1000. The
channels 16, 16, 5 are those of its generalization task. The kernel of a convolution is a channel
dimension.

- `symmetry="hnp"` (hidden-neuron permutation): only hidden units can be reordered. Input and output
  units are distinguished: their axes are channels too.
- `symmetry="np"` (neuron permutation): input and output units can be reordered as well, so the
  inputs or classes of a weight cannot be distinguished. The position embedding of the paper's NP
  variant is left out.

Differs: a slot has the same channels after the first layer, whatever its kernel and, with "hnp",
its inputs or outputs; the paper has this number of channels per kernel value, input and output.

Shape letters: B models, D length of the flat vector, O and I units out and in, K values per pair,
H width of the encoding.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import normalized_perceptron
from .parts.equivariant import EquivariantNetwork
from .parts.feed_forward import chain_layers
from .parts.parameters import SEVERAL, check_same_table, check_weights
from .parts.weight_space import WeightSpace

SYMMETRIES = ("hnp", "np")


class NFN(nn.Module):
    """NF-layers, averages and a perceptron."""

    def __init__(
        self,
        layer_table: LayerTable,
        symmetry: str = "hnp",
        channels: Sequence[int] = (16, 16, 5),
        head: Sequence[int] = (1000, 1000),
        outputs: int = 1,
    ) -> None:
        """Make the network.

        Args:
            layer_table: layer table of a chain of convolutional and linear layers.
            symmetry: units that can be reordered, one of `SYMMETRIES`.
            channels: number of channels of each NF-layer.
            head: widths of the hidden layers of the perceptron.
            outputs: number of predicted values.

        Raises:
            UnsuitableError: if the architecture is no chain of such layers.
            ValueError: if the symmetry is unknown.
        """
        super().__init__()
        if symmetry not in SYMMETRIES:
            raise ValueError(f"symmetry must be one of {SYMMETRIES}, got {symmetry!r}")
        self.config: dict[str, Any] = {
            "symmetry": symmetry,
            "channels": list(channels),
            "head": list(head),
            "outputs": outputs,
        }
        self.layer_table = layer_table
        self.space = WeightSpace(chain_layers(layer_table, "NFN", SEVERAL), symmetry)
        slots = len(self.space.slots)
        self.encoder = EquivariantNetwork(self.space.slots, [[width] * slots for width in channels])
        self.head = normalized_perceptron([self.encoder.width, *head, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode weights of the architecture.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, H), which reordered units do not change.

        Raises:
            ValueError: if the weights belong to another architecture.
        """
        check_same_table(layer_table, self.layer_table, "NFN", SEVERAL)
        check_weights(weights, layer_table)
        return self.encoder(self.space.tensors(weights))

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
