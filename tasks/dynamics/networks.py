"""Losses and outputs of many networks of one architecture, from their flat weights.

Curvature needs derivatives of derivatives, which the compiled layers of training populations do
not have; there each network runs through torch's own layers, one after another, in one graph.
Losses and predictions alone run through the population, which is faster.

Shape letters: M models, N images or points, O outputs, D length of the flat vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...builders.population.population import Population
from ...zoos.networks.architectures import Architecture

BATCH = 64  # images whose activations fit a core's cache


@dataclass(frozen=True)
class EvaluationSet:
    """Inputs and targets that losses are computed on.

    Attributes:
        inputs: images (N, C, H, W) or points (N, F), the same for all models.
        targets: classes (N,), int64, or numbers (M, N, O) of each model's own signal.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.inputs)

    @property
    def classes(self) -> bool:
        """Whether the targets are classes."""
        return self.targets.dtype == torch.int64

    def losses(self, outputs: Tensor) -> Tensor:
        """Mean cross-entropy, or mean squared error, of outputs (M, N, O): (M,)."""
        if not self.classes:
            return (outputs - self.targets).square().mean((1, 2))
        targets = self.targets.expand(len(outputs), -1)
        return F.cross_entropy(outputs.mT, targets, reduction="none").mean(1)

    def batches(self, size: int) -> "list[EvaluationSet]":
        """The set in parts of at most `size` inputs."""
        rows = range(0, len(self), size)
        return [self._part(slice(start, start + size)) for start in rows]

    def of_models(self, models: slice) -> "EvaluationSet":
        """The set with the targets of some models."""
        return self if self.classes else EvaluationSet(self.inputs, self.targets[models])

    def _part(self, rows: slice) -> "EvaluationSet":
        targets = self.targets[rows] if self.classes else self.targets[:, rows]
        return EvaluationSet(self.inputs[rows], targets)


class Networks:
    """M networks of one architecture; their weights are arguments, so that they can vary.

    Attributes:
        architecture: architecture of all networks.
        activations: activation function of each network, M names.
    """

    def __init__(self, architecture: Architecture, activations: Sequence[str]) -> None:
        """Make one module per activation function.

        Args:
            architecture: architecture of all networks.
            activations: M names.
        """
        self.architecture, self.activations = architecture, tuple(activations)
        self._table = architecture.layer_table()
        self._buffers = {spec.name for spec in self._table if spec.role == "buffer"}
        self._modules = {name: _module(architecture, name) for name in set(activations)}

    def outputs(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Run all networks through torch's layers, which autograd differentiates any often.

        Buffers, such as batch-norm statistics, get no gradient. Dropout is off.

        Args:
            weights: flat weights, (M, D).
            inputs: images (N, C, H, W) or points (N, F).

        Returns:
            (M, N, O).
        """
        tensors = {
            name: value.detach() if name in self._buffers else value
            for name, value in self._table.split(weights).items()
        }
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivatives
            found = [
                torch.func.functional_call(
                    self._modules[activation],
                    {name: value[model] for name, value in tensors.items()},
                    (inputs.to(weights.dtype),),
                )
                for model, activation in enumerate(self.activations)
            ]
        return torch.stack(found)

    def losses(self, data: EvaluationSet) -> Callable[[Tensor], Tensor]:
        """Function from weights (M, D) to losses (M,), twice differentiable."""
        return lambda weights: data.losses(self.outputs(weights, data.inputs))

    def fast_outputs(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Run all networks as one population, without gradients.

        Args:
            weights: flat weights, (M, D), float32.
            inputs: images (N, C, H, W) or points (N, F).

        Returns:
            (M, N, O).
        """
        order = sorted(range(len(weights)), key=lambda model: self.activations[model])
        names = [self.activations[model] for model in order]
        population = Population(self.architecture, weights.detach()[order].clone(), names)
        with torch.no_grad():
            parts = [population.outputs(_laid_out(part)) for part in inputs.split(BATCH)]
        outputs = torch.cat(parts, dim=2).mT
        return outputs[torch.tensor(order).argsort()]

    def fast_losses(self, data: EvaluationSet) -> Callable[[Tensor], Tensor]:
        """Function from weights (M, D) to losses (M,), without gradients."""
        return lambda weights: data.losses(self.fast_outputs(weights, data.inputs))


def _module(architecture: Architecture, activation: str) -> nn.Module:
    """A module whose own weights are never used."""
    return architecture.module(activation).eval().requires_grad_(False)


def _laid_out(inputs: Tensor) -> Tensor:
    """Inputs in the layout of a population: (1, H, C, W, B) or (1, F, B)."""
    if inputs.dim() == 4:
        return inputs.permute(2, 1, 3, 0).contiguous()[None]
    return inputs.T.contiguous()[None]
