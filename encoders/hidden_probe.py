"""HiddenProbe: runs every network on learned probes and reads the responses of its hidden units.

The responses of one unit to all probes describe it, in the same numbers whatever the layer, the
width or the architecture; a set transformer reads the set of all units. So one encoder takes
networks of several architectures, and of any number of outputs.

Source: idea and name are those of HiddenProbe, known to us from tables of results alone. Probes are
those of ProbeGen (Kahana et al. 2024, arXiv:2410.10811), the set transformer is that of Lee et al.
2019, arXiv:1810.00825. The choices are ours: responses are averaged over the positions of an image
or tokens; units get codes for the depth of their layer, from the input and from the output; the
network's own outputs are units whose number is coded too, because outputs of a classifier are
classes, in a fixed order. Inducing points (arXiv:1810.00825, section 3.1) keep attention linear in
the number of units.

Reordering hidden units leaves the result unchanged.

Shape letters: B models, P probes, U units of a layer, N units of a network, O outputs of a
network, H width, I inducing points.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.networks.batched import NetworkBatch
from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import encoding, normalized_perceptron
from .parts.probes import Probes
from .parts.set_functions import MAB, PMA

FROM_INPUT, FROM_OUTPUT, NUMBER = range(3)  # indices of the encodings, each with its own start


class InducedAttention(nn.Module):
    """Units attend to inducing points that attend to the units (ISAB), with pre-norms."""

    def __init__(self, width: int, heads: int, inducing: int) -> None:
        """Make the inducing points and the two blocks.

        Args:
            width: H, width of units and inducing points.
            heads: number of heads; divides the width.
            inducing: I, number of inducing points.
        """
        super().__init__()
        self.points = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, inducing, width)))
        self.gather = MAB(width, width, width, heads, "pre")
        self.spread = MAB(width, width, width, heads, "pre")

    def forward(self, units: Tensor) -> Tensor:
        """Map (B, N, H) to (B, N, H)."""
        return self.spread(units, self.gather(self.points, units, None), None)


class HiddenProbe(nn.Module):
    """Encoder of networks of any architecture that the batched pass runs."""

    reads = "networks"

    def __init__(
        self,
        probes: int = 64,
        probe_kind: str = "learned",
        latent: int = 32,
        width: int = 64,
        heads: int = 4,
        blocks: int = 2,
        inducing: int = 16,
        outputs: int = 1,
    ) -> None:
        """Make an encoder.

        Args:
            probes: P, number of probes.
            probe_kind: "learned", or "random" for probes that stay as drawn, a control.
            latent: length of a probe's latent vector.
            width: H, width of a unit.
            heads: number of attention heads; divides the width.
            blocks: number of blocks of attention.
            inducing: I, number of inducing points of a block.
            outputs: number of predicted values.

        Raises:
            ValueError: if the kind is unknown, heads do not divide the width, or a size is below 1.
        """
        super().__init__()
        if min(width, heads, blocks, inducing) < 1:
            raise ValueError(
                "width, heads, blocks and inducing must be at least 1, got "
                f"{width!r}, {heads!r}, {blocks!r} and {inducing!r}"
            )
        self.config: dict[str, Any] = {
            "probes": probes,
            "probe_kind": probe_kind,
            "latent": latent,
            "width": width,
            "heads": heads,
            "blocks": blocks,
            "inducing": inducing,
            "outputs": outputs,
        }
        self.width = width
        self.input = Probes(probes, latent, probe_kind)
        self.unit = nn.Sequential(nn.Linear(2 * probes, 2 * width), nn.ReLU())
        self.unit.append(nn.Linear(2 * width, width))
        self.blocks = nn.ModuleList(InducedAttention(width, heads, inducing) for _ in range(blocks))
        self.pools = nn.ModuleList(PMA(width, heads, "pre") for _ in range(2))
        self.head = normalized_perceptron([2 * width, 2 * width, outputs])

    def embed(self, networks: NetworkBatch, layer_table: LayerTable) -> Tensor:
        """Encode networks of one architecture.

        Args:
            networks: networks to run.
            layer_table: layer table of their architecture.

        Returns:
            Embeddings, (B, 2 H): one half pools hidden units, the other outputs.

        Raises:
            UnsuitableError: if the networks read token numbers.
        """
        found, hidden = networks.responses(self.input.fitting(networks))
        sets = [*hidden, found]
        units = torch.cat([self._units(values, n, len(sets)) for n, values in enumerate(sets)], 1)
        for block in self.blocks:
            units = block(units)
        parts = units.split([units.shape[1] - found.shape[-1], found.shape[-1]], dim=1)
        if not hidden:  # a network without hidden layer
            parts = (parts[1], parts[1])
        pooled = [pool(part, None) for pool, part in zip(self.pools, parts, strict=True)]
        return torch.cat(pooled, 1)

    def forward(self, networks: NetworkBatch, layer_table: LayerTable) -> Tensor:
        """Predict from networks; in training mode at least two models are needed.

        Args:
            networks: networks to run.
            layer_table: layer table of their architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(networks, layer_table))

    def _units(self, values: Tensor, depth: int, depths: int) -> Tensor:
        """Units (B, U, H) of a layer from their responses (B, P, U)."""
        share = values.softmax(-1) if depth == depths - 1 else torch.zeros_like(values)
        units = self.unit(torch.cat([torch.asinh(values), share], dim=1).mT)
        code = self._code(depth, FROM_INPUT) + self._code(depths - 1 - depth, FROM_OUTPUT)
        if depth == depths - 1:
            numbers = torch.arange(values.shape[-1])
            code = code + encoding(numbers, self.width, NUMBER)
        return units + code.to(units)

    def _code(self, number: int, start: int) -> Tensor:
        return encoding(torch.tensor([number]), self.width, start)
