"""ProbeStatistics: ProbeGen, with statistics of the outputs and of the weights.

Probes and outputs are read as in ProbeGen (Kahana et al. 2024, arXiv:2410.10811). The rest is ours.
What a few train networks answer on many probes can be remembered; how sure and how different the
answers are, and how large the weights are, is told by few numbers that do not depend on the
architecture, and the latter do not depend on the order of the classes either. Without
`reads_classes` the encoder reads those alone, for networks whose classes differ.

What preserves the function of a network leaves all but the weight statistics unchanged, and
reordered hidden units leave those unchanged too.

Shape letters: B models, D length of the flat vector, P probes, O outputs of a network, V outputs at
most, H width.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from ..zoos.networks.batched import NetworkBatch
from ..zoos.networks.layer_table import LayerTable
from .parts.blocks import perceptron
from .parts.probes import Probes
from .probe_gen import check_sizes, output_features
from .statistics import GROUPS, STATISTICS, pooled_statistics

CONFIDENCE = 7  # numbers of `confidence`
SMALLEST, LARGEST = 1e-6, 1e6


class ProbeStatistics(nn.Module):
    """Encoder of networks of any architecture with at most `values` outputs."""

    reads = "networks"

    def __init__(
        self,
        probes: int = 64,
        probe_kind: str = "learned",
        latent: int = 32,
        values: int = 10,
        reads_classes: bool = True,
        reads_weights: bool = True,
        width: int = 256,
        layers: int = 2,
        dropout: float = 0.3,
        outputs: int = 1,
    ) -> None:
        """Make an encoder.

        Args:
            probes: P, number of probes.
            probe_kind: "learned", or "random" for probes that stay as drawn, a control.
            latent: length of a probe's latent vector.
            values: V, most outputs of a network.
            reads_classes: whether to read every output on every probe too. Turn it off if the
                classes of the networks differ.
            reads_weights: whether to read weight statistics too.
            width: H, width of the perceptron.
            layers: number of its hidden layers.
            dropout: dropout rate of the features and of the hidden layers.
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
            "reads_classes": reads_classes,
            "reads_weights": reads_weights,
            "width": width,
            "layers": layers,
            "dropout": dropout,
            "outputs": outputs,
        }
        self.values, self.reads_classes, self.reads_weights = values, reads_classes, reads_weights
        self.input = Probes(probes, latent, probe_kind)
        read = CONFIDENCE
        read += 2 * probes * values if reads_classes else 0
        read += GROUPS * len(STATISTICS) if reads_weights else 0
        hidden = [
            nn.Sequential(nn.Linear(into, out), nn.ReLU(), nn.Dropout(dropout))
            for into, out in itertools.pairwise([read, *[width] * layers])
        ]
        self.trunk = nn.Sequential(nn.BatchNorm1d(read), nn.Dropout(dropout), *hidden)
        self.head = perceptron([width, outputs])

    def embed(self, networks: NetworkBatch, layer_table: LayerTable) -> Tensor:
        """Encode networks of one architecture.

        Args:
            networks: networks to run.
            layer_table: layer table of their architecture.

        Returns:
            Embeddings, (B, H).

        Raises:
            UnsuitableError: if a network has more outputs than `values`, where outputs are read, or
                reads token numbers.
        """
        found = networks.outputs(self.input.fitting(networks))
        features = [confidence(found)]
        if self.reads_classes:
            features.append(output_features(found, self.values).flatten(1))
        if self.reads_weights:
            statistics = pooled_statistics(networks.weights, layer_table)
            features.append(statistics.clamp(-LARGEST, LARGEST).asinh().to(found.dtype))
        return self.trunk(torch.cat(features, dim=1))

    def forward(self, networks: NetworkBatch, layer_table: LayerTable) -> Tensor:
        """Predict from networks; in training mode at least two models are needed.

        Args:
            networks: networks to run.
            layer_table: layer table of their architecture.

        Returns:
            Predictions, (B, outputs), without a final activation.
        """
        return self.head(self.embed(networks, layer_table))


def confidence(found: Tensor) -> Tensor:
    """Seven statistics of the outputs of networks.

    They are the mean and the deviation over probes of the entropy and of the largest probability,
    the entropy of the mean probabilities, and the logarithms of the variance of a network's outputs
    over classes and over probes.

    Args:
        found: outputs of networks, (B, P, O).

    Returns:
        (B, 7).
    """
    shares = found.softmax(-1)
    entropy, largest = _entropy(shares), shares.amax(-1)
    columns = [
        entropy.mean(1),
        _deviation(entropy),
        largest.mean(1),
        _deviation(largest),
        _entropy(shares.mean(1)),
        _log(found.var(-1, correction=0).mean(1)),
        _log(found.var(1, correction=0).mean(1)),
    ]
    return torch.stack(columns, dim=1)


def _entropy(shares: Tensor) -> Tensor:
    """Entropy over the last dimension."""
    return -(shares * shares.clamp_min(SMALLEST).log()).sum(-1)


def _deviation(values: Tensor) -> Tensor:
    """Deviation over probes, (B,) of (B, P); the gradient of equal values is finite."""
    return (values.var(1, correction=0) + SMALLEST).sqrt()


def _log(values: Tensor) -> Tensor:
    return values.clamp(SMALLEST, LARGEST).log()
