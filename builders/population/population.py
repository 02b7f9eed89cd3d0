"""A population: the parameters of many models of one architecture, run as one program.

All models' weights lie in one tensor (M, D), so that a checkpoint is a copy of its rows. The
forward pass is that of `zoos/networks/batched.py`, with dropout and the batch's own statistics in
batch norms; activations and dropout rates may differ by model.

Shape letters: M models, D length of the flat vector, C channels, H height, W width, F features,
B images or points. A leading 1 instead of M means that all models share the values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...zoos.networks import layers
from ...zoos.networks.activations import runs_of
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.batched import BatchedPass
from ...zoos.networks.batched_layers import batch_norm

Generators = Sequence[torch.Generator]


class Population:
    """M models of one architecture.

    Attributes:
        flat: weights of all models, (M, D), float32; change it in place only.
        runs: name and models of every run of equal activation functions.
        gradient: gradient of the weights, (M, D), float32, filled by `backward`; zero at buffers.
        evaluation_batch: images per forward pass without gradient; None until it is chosen.
    """

    def __init__(
        self,
        architecture: Architecture,
        flat: Tensor,
        activations: Sequence[str],
        dropout: Sequence[float] | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """Stack models.

        Args:
            architecture: architecture of all models.
            flat: initial weights, (M, D), on the training device; used in place, not copied.
            activations: M names; models with equal names should be neighbours.
            dropout: M rates in [0, 1); None stands for zeros.
            precision: float type of both passes in training; weights and gradients stay float32.
        """
        self.precision = precision
        self.flat = flat
        self.gradient = torch.zeros_like(flat)
        self.evaluation_batch: int | None = None
        self._layers = architecture.layers
        self._input_shape = architecture.input_shape
        self.runs = runs_of(activations)
        self._keep = torch.ones(len(flat), device=flat.device)
        if dropout:
            self._keep = (1 - torch.tensor(dropout, dtype=torch.float32)).to(flat.device)
        table = architecture.layer_table()
        buffers = {tensor.name for tensor in table if tensor.role == "buffer"}
        # Split twice, so that updating buffers in a forward pass counts as no change of weights.
        own, self._tensors = table.split(flat.data), table.split(flat.data)
        self._tensors |= {name: own[name] for name in buffers}
        self._parameters = [
            view.requires_grad_() for name, view in self._tensors.items() if name not in buffers
        ]
        gradients = table.split(self.gradient)
        self._gradients = [view for name, view in gradients.items() if name not in buffers]

    def __len__(self) -> int:
        """M."""
        return len(self.flat)

    def output_values(self) -> int:
        """Number of output values of all layers of one model, for one input."""
        return layers.output_values(self._layers, self._input_shape)

    def outputs(
        self, x: Tensor, *, training: bool = False, dropout: Generators | None = None
    ) -> Tensor:
        """Run all models.

        Args:
            x: images (M or 1, H, C, W, B), or points (M or 1, F, B).
            training: whether batch norm uses the batch's statistics and updates the running ones.
            dropout: one generator per model for its dropout masks; None switches dropout off.

        Returns:
            (M, outputs, B): logits, or values at points.
        """
        forward = ForwardPass(self, training, dropout)
        return forward.run(self._layers, "", x.to(forward.precision)).float()

    def backward(self, loss: Tensor) -> None:
        """Write the gradient of `loss`, a sum over models, into `gradient`."""
        grads = torch.autograd.grad(loss, self._parameters)
        for view, grad in zip(self._gradients, grads, strict=True):
            view.copy_(grad)

    def tensor(self, name: str) -> Tensor:
        """(M, *shape): a tensor of all models by its name in the layer table."""
        return self._tensors[name]

    def masks(self, x: Tensor, generators: Generators) -> Tensor:
        """Draw dropout masks model by model, so that cohorts do not change them.

        Args:
            x: values to be masked, (M, ...).
            generators: one generator per model, all on one device, where the masks are drawn.

        Returns:
            Masks of the shape of `x`; kept values are scaled up.
        """
        masks = torch.empty(x.shape, device=generators[0].device)
        for mask, generator in zip(masks, generators, strict=True):
            mask.uniform_(generator=generator)
        keep = self._keep.to(masks.device).view(-1, *(1,) * (x.dim() - 1))
        return masks.add_(keep).floor_().div_(keep).to(x.device, x.dtype)


class ForwardPass(BatchedPass):
    """One forward pass of a population; layers inside a residual run like all others."""

    def __init__(self, population: Population, training: bool, dropout: Generators | None) -> None:
        """Set up a forward pass.

        Args:
            population: M models.
            training: whether batch norm uses the batch's statistics and updates the running ones.
            dropout: one generator per model for its dropout masks; None switches dropout off.
        """
        super().__init__(population.tensor, population.runs)
        self.models, self.training, self.dropout = population, training, dropout
        self.precision = population.precision if training else torch.float32

    def drop(self, x: Tensor) -> Tensor:
        """Values (M, ...) with each model's own dropout."""
        return x if self.dropout is None else x * self.models.masks(x, self.dropout)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """Run a batch norm, in float32 inside, which updates its state in training.

        Args:
            name: name of the layer, with its prefix.
            x: images, (M, H, C, W, B).
        """
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        state = [self.models.tensor(f"{name}.{buffer}") for buffer in buffers]
        weight, bias = (self.models.tensor(f"{name}.{role}") for role in ("weight", "bias"))
        return batch_norm(x, weight, bias, state, self.training)

    def tensor(self, name: str) -> Tensor:
        """Weights in the precision of the pass; their gradients are float32."""
        return super().tensor(name).to(self.precision)
