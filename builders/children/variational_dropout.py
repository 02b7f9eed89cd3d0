"""Sparse variational dropout of a population (Molchanov et al. 2017, arXiv:1701.05369).

Every weight of a convolution or linear layer is a Gaussian with mean theta and variance sigma2.
Both are trained on the evidence lower bound; a weight whose log alpha = log(sigma2 / theta^2)
reaches 3 is mostly noise and is pruned. Noise is drawn for the outputs of a layer; two passes of
the layer give their mean and variance (local reparametrisation, section 4.2). Constants and
clamps are those of the published twins of the Model Zoos (arXiv:2209.14764).

Shape letters: M models, D length of the flat vector.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.networks import layers
from ...zoos.networks.batched_layers import linear
from ...zoos.networks.convolution import conv2d, max_pool2d
from ...zoos.networks.layer_table import LayerTable
from ...zoos.networks.layers import Layer
from ...zoos.recipe import Model, Recipe
from ..population.population import ForwardPass, Population
from ..training.cohort import Cohort, steps_per_epoch
from ..training.initialization import stream
from ..training.objectives import DataSet, training_size
from ..training.optimizers import PopulationOptimizer
from .pruning import prunable_columns, prunable_tensors

THRESHOLD = 3.0  # smallest log alpha of a pruned weight
LARGEST_LOG_ALPHA = {"conv": 8.0, "linear": 10.0}  # by layer kind; the smallest is its negative
FIRST_LOG_VARIANCE = -10.0
K1, K2, K3 = 0.63576, 1.8732, 1.48695  # constants of the approximate divergence, equation 14
EPSILON = 1e-8


class VariationalDropout(Cohort):
    """Trains means and variances; saved weights are the means, zero where pruned."""

    def __init__(
        self,
        recipe: Recipe,
        models: Sequence[Model],
        data: DataSet,
        device: torch.device | str,
        initial: Tensor,
    ) -> None:
        """Set up a cohort at its initial state.

        Args:
            recipe: recipe with architecture and epochs.
            models: M models of one cohort.
            data: image set or signal set that they are trained on.
            device: training device.
            initial: initial means, (M, D).
        """
        super().__init__(recipe, models, data, device, initial)
        self._layers, table = recipe.architecture.layers, recipe.architecture.layer_table()
        self._noise = [stream(model.seed, "noise", device) for model in models]
        self._columns = prunable_columns(table).to(device)
        self._limits = {one.name: LARGEST_LOG_ALPHA[one.kind] for one in prunable_tensors(table)}
        self._set_up_variances(recipe, models, table)
        self._images = steps_per_epoch(models[0], training_size(data))[1]

    def _set_up_variances(self, recipe: Recipe, models: Sequence[Model], table: LayerTable) -> None:
        """Log variances, and the gradients of means and variances, as views of flat vectors."""
        flat = torch.full_like(self.population.flat, FIRST_LOG_VARIANCE)
        gradient = torch.zeros_like(flat)  # stays zero at weights that may not be pruned
        values = [replace(model.hyper_parameters, weight_decay=0.0) for model in models]
        self._variance_optimizer = PopulationOptimizer(flat, gradient, values, table, self.steps)
        views, gradients = table.split(flat.data), table.split(gradient)
        self._log_variances = {name: views[name].requires_grad_() for name in self._limits}
        means = table.split(self.population.gradient)
        trained = [one.name for one in table if one.role != "buffer"]
        self._views = [self.population.tensor(name) for name in trained]
        self._views += self._log_variances.values()
        self._gradients = [means[name] for name in trained]
        self._gradients += [gradients[name] for name in self._limits]

    def epoch(self) -> Iterator[Tensor]:
        """Train one epoch on the mean loss plus the divergence over the training images."""
        for positions in self.order.batches(self.batch_size):
            x, targets = self.objective.batch(positions)
            forward = _NoisyPass(self.population, self.dropout, self._log_variances, self._noise)
            losses = self.objective.losses(forward.run(self._layers, "", x), targets)
            losses = losses + self.divergence() / self._images
            self._backward(losses.sum())
            self.optimizer.step()
            self._variance_optimizer.step()
            yield losses.detach()

    def divergence(self) -> Tensor:
        """Divergence of the weights' distribution from the prior, equation 14: (M,)."""
        parts = [
            K1 * (1 - torch.sigmoid(K2 + K3 * log_alpha)) + 0.5 * F.softplus(-log_alpha)
            for log_alpha in self.log_alphas().values()
        ]
        return torch.stack([part.flatten(1).sum(1) for part in parts]).sum(0)

    def log_alphas(self) -> dict[str, Tensor]:
        """Clamped log alpha of every prunable tensor, (M, *shape)."""
        found = {}
        for name, limit in self._limits.items():
            log_square = torch.log(self.population.tensor(name).square() + EPSILON)
            found[name] = (self._log_variances[name] - log_square).clamp(-limit, limit)
        return found

    @contextmanager
    def as_saved(self) -> Iterator[dict[str, Tensor]]:
        """Hold the means with pruned ones set to zero; training continues with all of them."""
        with torch.no_grad():
            pruned = [one.flatten(1) >= THRESHOLD for one in self.log_alphas().values()]
        mask = torch.zeros_like(self.population.flat, dtype=torch.bool)
        mask[:, self._columns] = torch.cat(pruned, 1)
        means = self.population.flat.clone()
        self.population.flat.masked_fill_(mask, 0.0)
        try:
            yield {"sparsity": mask[:, self._columns].float().mean(1)}
        finally:
            self.population.flat.copy_(means)

    def _backward(self, loss: Tensor) -> None:
        """Write the gradients of means and variances where the two optimizers read them."""
        grads = torch.autograd.grad(loss, self._views)
        for view, grad in zip(self._gradients, grads, strict=True):
            view.copy_(grad)


class _NoisyPass(ForwardPass):
    """A forward pass whose convolution and linear layers have noisy outputs."""

    def __init__(
        self,
        population: Population,
        dropout: Sequence[torch.Generator] | None,
        log_variances: dict[str, Tensor],
        noise: Sequence[torch.Generator],
    ) -> None:
        super().__init__(population, True, dropout)
        self.precision = torch.float32  # variances of e^-10 beside means
        self._log_variances, self._noise = log_variances, noise

    def layer(self, layer: Layer, name: str, pool: int, x: Tensor) -> Tensor:
        """Run a layer; outputs of convolution and linear layers get noise, before the pool."""
        log_variance = self._log_variances.get(f"{name}.weight")
        if log_variance is None:
            return super().layer(layer, name, pool, x)
        mean = super().layer(layer, name, 1, x)
        deviation = (self._variance(layer, log_variance.exp(), x.square()) + EPSILON).sqrt()
        return max_pool2d(mean + deviation * self._draw(mean), pool)

    def _variance(self, layer: Layer, variance: Tensor, square: Tensor) -> Tensor:
        if isinstance(layer, layers.Conv):
            return conv2d(square, variance, None, layer.stride, layer.padding)
        return linear(square, variance, variance.new_zeros(variance.shape[:2]))

    def _draw(self, like: Tensor) -> Tensor:
        """Standard normal noise, drawn model by model, so that cohorts do not change it."""
        noise = torch.empty(like.shape, device=self._noise[0].device)
        for own, generator in zip(noise, self._noise, strict=True):
            own.normal_(generator=generator)
        return noise.to(like.device)
