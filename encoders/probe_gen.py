"""ProbeGen: runs every network on learned probes and reads its outputs.

Source: Kahana et al. 2024, "Deep Linear Probe Generators for Weight Space Learning",
arXiv:2410.10811. Learned latent vectors go through a deep linear generator (`parts/probes.py`);
the networks' outputs on all probes are joined and read by a perceptron.

Differs: all networks of a batch run in one pass; the perceptron starts with a batch norm and reads
every output twice, as asinh(x), which limits logits of any size, and as a softmax over the
network's outputs.

What preserves the function of a network leaves its outputs, and so the result, unchanged.

Shape letters: B models, P probes, O outputs of a network, V values kept of them, H width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..zoos.errors import UnsuitableError
from ..zoos.networks.batched import NetworkBatch
from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import normalized_perceptron
from .parts.probes import Probes


class ProbeGen(nn.Module):
    """Encoder of networks of any architecture with at most `values` outputs."""

    reads = "networks"

    def __init__(
        self,
        probes: int = 64,
        probe_kind: str = "learned",
        latent: int = 32,
        values: int = 10,
        width: int = 256,
        layers: int = 2,
        dropout: float = 0.0,
        outputs: int = 1,
    ) -> None:
        """Make an encoder.

        Args:
            probes: P, number of probes.
            probe_kind: "learned", or "random" for probes that stay as drawn, a control.
            latent: length of a probe's latent vector.
            values: V, most outputs of a network.
            width: H, width of the perceptron.
            layers: number of its hidden layers.
            dropout: dropout rate before the last layer.
            outputs: number of predicted values.

        Raises:
            ValueError: if the kind is unknown, or a size is below 1.
        """
        super().__init__()
        check_sizes(values, width, layers)
        self.config: dict[str, Any] = {
            "probes": probes,
            "probe_kind": probe_kind,
            "latent": latent,
            "values": values,
            "width": width,
            "layers": layers,
            "dropout": dropout,
            "outputs": outputs,
        }
        self.values = values
        self.input = Probes(probes, latent, probe_kind)
        read = 2 * probes * values
        self.trunk = nn.Sequential(
            normalized_perceptron([read, *[width] * layers]), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(width, outputs)

    def embed(self, networks: NetworkBatch, layer_table: LayerTable) -> Tensor:
        """Encode networks of one architecture.

        Args:
            networks: networks to run.
            layer_table: layer table of their architecture.

        Returns:
            Embeddings, (B, H).

        Raises:
            UnsuitableError: if a network has more outputs than `values`, or reads token numbers.
        """
        found = networks.outputs(self.input.fitting(networks))
        return self.trunk(output_features(found, self.values).flatten(1))

    def forward(self, networks: NetworkBatch, layer_table: LayerTable) -> Tensor:
        """Predict from networks; in training mode at least two models are needed.

        Args:
            networks: networks to run.
            layer_table: layer table of their architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(networks, layer_table))


def output_features(found: Tensor, values: int) -> Tensor:
    """Outputs of networks as features of limited size, zero behind the last output.

    Args:
        found: outputs of networks, (B, P, O).
        values: V, number of outputs to make room for.

    Returns:
        (B, P, 2 V).

    Raises:
        UnsuitableError: if O is larger than V.
    """
    if found.shape[-1] > values:
        raise UnsuitableError(
            f"the networks have {found.shape[-1]} outputs, and the encoder reads at most {values}: "
            f"make it with values={found.shape[-1]}"
        )
    features = torch.stack([torch.asinh(found), found.softmax(-1)], dim=-1)
    return F.pad(features, (0, 0, 0, values - found.shape[-1])).flatten(2)


def check_sizes(values: int, width: int, layers: int) -> None:
    """Check the sizes of what reads the outputs of networks.

    Args:
        values: V, most outputs of a network.
        width: H, width of the perceptron.
        layers: number of its hidden layers.

    Raises:
        ValueError: if a size is below 1.
    """
    if min(values, width, layers) < 1:
        raise ValueError(
            f"values, width and layers must be at least 1, got {values!r}, {width!r} and {layers!r}"
        )
