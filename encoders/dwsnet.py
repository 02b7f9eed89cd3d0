"""DWSNet (deep weight-space network): affine layers equivariant to reordered hidden units.

DWSNets take multilayer perceptrons (MLPs), among them implicit neural representations (INRs).

Source: Navon et al. 2023, "Equivariant Architectures for Learning in Deep Weight Spaces",
arXiv:2301.12780: DWS layers (`equivariant.py`) with ReLU, an invariant layer and a perceptron.
Every input and output unit of the network has its own channels in all layers, as in the paper.
Differs: averages, where the paper also offers sums and maxima, and one linear map per pair of
tensors, where the paper allows a perceptron. `nfn.py` has the same symmetry with fewer channels and
takes convolutions.

Shape letters: B models, D length of the flat vector, H width of the encoding.
"""

from typing import Any

from torch import Tensor, nn

from ..zoos.errors import UnsuitableError
from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import normalized_perceptron
from .parts.equivariant import EquivariantNetwork
from .parts.feed_forward import chain_layers
from .parts.parameters import SEVERAL, check_same_table, check_weights
from .parts.weight_space import WeightSpace

MOST_CHANNELS = 4096  # per slot; its layers have the square of it as parameters


class DWSNet(nn.Module):
    """DWS layers, an invariant layer and a perceptron."""

    def __init__(
        self, layer_table: LayerTable, width: int = 16, layers: int = 4, outputs: int = 1
    ) -> None:
        """Make the network.

        Args:
            layer_table: layer table of the architecture, a chain of linear layers.
            width: channels of every entry of every tensor; H is four times the width.
            layers: number of DWS layers.
            outputs: number of predicted values.

        Raises:
            UnsuitableError: if the architecture is no chain of linear layers, or has too many
                inputs or outputs.
        """
        super().__init__()
        chain = chain_layers(layer_table, "DWSNet", f"NFN (convolutions), {SEVERAL}")
        if convolution := next((one for one in chain if one.values > 1), None):
            raise UnsuitableError(
                f"DWSNet takes MLPs only, but {convolution.weight.name!r} has "
                f"{convolution.values} values per pair of units: use NFN, {SEVERAL}"
            )
        space = WeightSpace(chain, "hnp")
        channels = [width * fixed for fixed in space.fixed]
        if max(channels) > MOST_CHANNELS:
            raise UnsuitableError(
                f"DWSNet keeps width {width} for each of {max(space.fixed)} input or output units, "
                f"together more than {MOST_CHANNELS}: reduce width, or use NFN, {SEVERAL}"
            )
        self.config: dict[str, Any] = {"width": width, "layers": layers, "outputs": outputs}
        self.layer_table, self.space = layer_table, space
        self.network = EquivariantNetwork(space.slots, [channels] * layers)
        self.encoder = nn.Sequential(nn.Linear(self.network.width, 4 * width), nn.ReLU())
        self.head = normalized_perceptron([4 * width, 4 * width, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode weights of the architecture.

        Args:
            weights: flat weight vectors, (B, D).
            layer_table: layer table of the architecture.

        Returns:
            Embeddings, (B, H), which reordered hidden units do not change.

        Raises:
            ValueError: if the weights belong to another architecture.
        """
        check_same_table(layer_table, self.layer_table, "DWSNet", SEVERAL)
        check_weights(weights, layer_table)
        return self.encoder(self.network(self.space.tensors(weights)))

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
