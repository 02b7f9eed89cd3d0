"""`WeightEditor`: weights of a network in, weights of an edited network out.

Source: the editing experiments of NFN (neural functional networks, Zhou et al. 2023, arXiv
2302.14040): a permutation-equivariant network predicts a change of the weights. Here its layers are
all equivariant linear maps for chains of linear layers, as in DWSNets (deep weight-space networks,
Navon et al. 2023, arXiv 2301.12780). Weights are standardised by layer before, and the change is
scaled by a learned factor that starts small.

Shape letters: B networks, D length of the flat vector, O and I units out and in, K values per pair.
"""

import torch
from torch import Tensor, nn

from ...encoders.parts.equivariant import EquivariantLinear, Slot
from ...encoders.parts.feed_forward import chain_layers
from ...encoders.parts.weight_space import WeightSpace
from ...loaders import LayerStandardization
from ...zoos.errors import UnsuitableError

FIRST_STEP = 0.1  # of a layer's deviation; the factor of the change at the start


class WeightEditor(nn.Module):
    """Equivariant layers from the weights of a network to the weights of another one."""

    def __init__(
        self, standardization: LayerStandardization, width: int = 16, layers: int = 3
    ) -> None:
        """Make the layers.

        Args:
            standardization: mean and deviation of each layer, fitted to train rows.
            width: channels of every entry of a hidden tensor.
            layers: number of equivariant layers, at least 2.

        Raises:
            UnsuitableError: if the networks are no chain of linear layers.
        """
        super().__init__()
        table = standardization.layer_table
        chain = chain_layers(table, "WeightEditor", "no editor")
        self.space = WeightSpace(chain, "hnp")
        covered = sum(
            spec.size for layer in chain for spec in (layer.weight, layer.bias) if spec is not None
        )
        if covered != table.width or len(chain) < 2:
            raise UnsuitableError("WeightEditor takes chains of at least two layers, no buffers")
        self.standardization = standardization
        hidden = [[width * fixed for fixed in self.space.fixed]] * (layers - 1)
        out = [slot.channels for slot in self.space.slots]
        slots, made = self.space.slots, []
        for channels in [*hidden, out]:
            made.append(EquivariantLinear(slots, channels))
            slots = [Slot(slot.axes, own) for slot, own in zip(slots, channels, strict=True)]
        self.layers = nn.ModuleList(made)
        self.step = nn.Parameter(torch.tensor(FIRST_STEP))

    def forward(self, weights: Tensor) -> Tensor:
        """Edit networks.

        Args:
            weights: flat weights, (B, D).

        Returns:
            Flat weights of the edited networks, (B, D). Reordered hidden units of the input give
            equally reordered units of the output.
        """
        scaled = self.standardization.apply(weights)
        tensors = self.space.tensors(scaled)
        for layer in self.layers[:-1]:
            tensors = [torch.relu(tensor) for tensor in layer(tensors)]
        change = self._flat(self.layers[-1](tensors))
        return self.standardization.inverse(scaled + self.step * change)

    def _flat(self, tensors: list[Tensor]) -> Tensor:
        """One tensor (B, *axes, C) per slot as flat vectors (B, D)."""
        parts, given = dict[int, Tensor](), iter(tensors)
        for index, layer in enumerate(self.space.layers, start=1):
            pairs = next(given)
            if index not in self.space.movable:  # (B, I, O K) to (B, O, I, K)
                pairs = pairs.unflatten(-1, (layer.outputs, layer.values)).movedim(-2, 1)
            parts[layer.weight.offset] = pairs.flatten(1)
            if layer.bias is not None:
                parts[layer.bias.offset] = next(given).flatten(1)
        return torch.cat([parts[offset] for offset in sorted(parts)], dim=1)
