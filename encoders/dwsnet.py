"""DWSNet: networks of affine layers equivariant to reordered hidden units, for MLPs and INRs.

Source: Navon et al. 2023, "Equivariant Architectures for Learning in Deep Weight Spaces",
arXiv:2301.12780: DWS layers (`equivariant.py`) with ReLU, an invariant layer, a perceptron. Every
input and output unit of the network keeps channels of its own through all layers, as in the paper.
Differs: averages where the paper also offers sums and maxima, and one linear map for each pair of
tensors where it allows a perceptron. `nfn.py` has the same symmetry with fewer channels, and takes
convolutions.

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

MOST_CHANNELS = 4096  # of a slot; its layers hold the square as parameters


class DWSNet(nn.Module):
    """DWS layers, an invariant layer and a perceptron."""

    def __init__(
        self, layer_table: LayerTable, width: int = 16, layers: int = 4, outputs: int = 1
    ) -> None:
        """Make the network.

        Args:
            layer_table: of the architecture, a chain of linear layers.
            width: channels of every entry of every tensor; H of the encoding is 4 times as many.
            layers: number of DWS layers.
            outputs: numbers to predict.

        Raises:
            UnsuitableError: if the architecture is no such chain, or too wide at its ends.
        """
        super().__init__()
        chain = chain_layers(layer_table, "DWSNet", f"NFN (convolutions), {SEVERAL}")
        if convolution := next((one for one in chain if one.values > 1), None):
            raise UnsuitableError(
                f"DWSNet takes MLPs alone, and {convolution.weight.name!r} has "
                f"{convolution.values} values per pair of units: NFN, {SEVERAL} take it"
            )
        space = WeightSpace(chain, "hnp")
        channels = [width * fixed for fixed in space.fixed]
        if max(channels) > MOST_CHANNELS:
            raise UnsuitableError(
                f"DWSNet keeps width {width} for each of {max(space.fixed)} input or output "
                f"units, more than {MOST_CHANNELS} channels: NFN, {SEVERAL} take it"
            )
        self.config: dict[str, Any] = {"width": width, "layers": layers, "outputs": outputs}
        self.layer_table, self.space = layer_table, space
        self.network = EquivariantNetwork(space.slots, [channels] * layers)
        self.encoder = nn.Sequential(nn.Linear(self.network.width, 4 * width), nn.ReLU())
        self.head = normalized_perceptron([4 * width, 4 * width, outputs])

    def embed(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Encode flat weight vectors (B, D) as (B, H), unchanged by reordered hidden units.

        Raises:
            ValueError: if the weights are of another architecture.
        """
        check_same_table(layer_table, self.layer_table, "DWSNet", SEVERAL)
        check_weights(weights, layer_table)
        return self.encoder(self.network(self.space.tensors(weights)))

    def forward(self, weights: Tensor, layer_table: LayerTable) -> Tensor:
        """Predict from flat weight vectors (B, D): (B, outputs), without a final activation.

        The head's batch norm needs at least two models while in training mode.
        """
        return self.head(self.embed(weights, layer_table))
