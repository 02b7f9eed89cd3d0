"""SGD with momentum and Adam over a population, with hyper-parameters of its own per model.

Both follow torch.optim (L2 weight decay added to the gradient; Adam betas 0.9 and 0.999,
eps 1e-8), so that a population and a loop over single models take the same steps.

Shape letters: M models, D length of the flat vector.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..zoos.recipe import HyperParameters

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class PopulationOptimizer:
    """Updates a population's weights in place; models with one optimizer lie side by side."""

    def __init__(
        self, flat: Tensor, gradient: Tensor, hyper_parameters: Sequence[HyperParameters]
    ) -> None:
        """Set up the state.

        Args:
            flat: (M, D) weights.
            gradient: (M, D), read at every step and used as scratch.
            hyper_parameters: of the M models.
        """
        self._parts: list[_Part] = []
        start = 0
        for name, group in itertools.groupby(hyper_parameters, lambda values: values.optimizer):
            values = list(group)
            rows = slice(start, start + len(values))
            kind = _PARTS[name]
            self._parts.append(kind(flat[rows], gradient[rows], values))
            start = rows.stop

    @torch.no_grad()
    def step(self) -> None:
        """Take one step from the present gradient."""
        for part in self._parts:
            part.step()


class _Part:
    """Weights, gradient and per-model columns (M, 1) of the models of one optimizer."""

    def __init__(self, flat: Tensor, gradient: Tensor, values: Sequence[HyperParameters]) -> None:
        self.flat, self.gradient = flat, gradient
        self.lr = self._column([value.lr for value in values])
        self.weight_decay = self._column([value.weight_decay for value in values])
        self.momentum = self._column([value.momentum for value in values])
        self.decays = any(value.weight_decay > 0 for value in values)
        self.steps = 0

    def _column(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float32, device=self.flat.device)[:, None]

    def step(self) -> None:
        """Update the weights in place."""
        raise NotImplementedError

    def decay(self) -> None:
        self.steps += 1
        if self.decays:
            self.gradient.addcmul_(self.flat, self.weight_decay)


class _Sgd(_Part):
    def __init__(self, flat: Tensor, gradient: Tensor, values: Sequence[HyperParameters]) -> None:
        super().__init__(flat, gradient, values)
        self.velocity = torch.zeros_like(flat)

    def step(self) -> None:
        self.decay()
        self.velocity.mul_(self.momentum).add_(self.gradient)
        self.flat.addcmul_(self.velocity, self.lr, value=-1)


class _Adam(_Part):
    def __init__(self, flat: Tensor, gradient: Tensor, values: Sequence[HyperParameters]) -> None:
        super().__init__(flat, gradient, values)
        self.mean, self.square = torch.zeros_like(flat), torch.zeros_like(flat)

    def step(self) -> None:
        self.decay()
        self.mean.lerp_(self.gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(self.gradient, self.gradient, value=1 - BETA2)
        scale = (1 - BETA2**self.steps) ** 0.5
        denominator = torch.sqrt(self.square, out=self.gradient).div_(scale).add_(EPS)
        rate = self.lr / (1 - BETA1**self.steps)
        self.flat.addcmul_(self.mean / denominator, rate, value=-1)


_PARTS: dict[str, type[_Part]] = {"sgd": _Sgd, "adam": _Adam}
