"""Optimizers over a population in which every model has its own hyper-parameters.

They follow torch.optim: SGD with momentum, Adam and RMSProp add L2 weight decay to the gradient,
AdamW subtracts it from the weights; Adam's betas are 0.9 and 0.999, RMSProp's alpha is 0.99 and it
has no momentum; eps is 1e-8. So a population and a loop over single models take the same steps.

Shape letters: M models, D length of the flat vector.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ...zoos.networks.layer_table import LayerTable
from ...zoos.recipe import HyperParameters
from .schedules import ScheduledStep, scheduled_step

BETA1, BETA2, ALPHA, EPS = 0.9, 0.999, 0.99, 1e-8


class PopulationOptimizer:
    """Updates a population's weights in place.

    Models with one optimizer and schedule lie side by side. Buffers are left alone.
    """

    def __init__(
        self,
        flat: Tensor,
        gradient: Tensor,
        hyper_parameters: Sequence[HyperParameters],
        table: LayerTable,
        steps: int,
    ) -> None:
        """Set up the state.

        Args:
            flat: (M, D) weights.
            gradient: (M, D), read at every step and used as scratch.
            hyper_parameters: hyper-parameters of the M models.
            table: layer table, which tells the buffers among the D columns.
            steps: number of steps in the whole training, for the schedules.
        """
        self._steps, self._step = steps, 0
        self._groups: list[tuple[str, _GroupOptimizer]] = []
        start = 0
        kinds = itertools.groupby(hyper_parameters, lambda v: (v.optimizer, v.schedule))
        for (name, schedule), group in kinds:
            values = list(group)
            rows = slice(start, start + len(values))
            for columns in trained_columns(table):
                optimizer = _OPTIMIZERS[name](flat[rows, columns], gradient[rows, columns], values)
                self._groups.append((schedule, optimizer))
            start = rows.stop

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the current gradient."""
        for schedule, optimizer in self._groups:
            optimizer.step(self._step, scheduled_step(schedule, self._step, self._steps))
        self._step += 1


def trained_columns(table: LayerTable) -> list[slice]:
    """Runs of columns of the flat vector that hold no buffer."""
    runs = itertools.groupby(table, lambda tensor: tensor.role == "buffer")
    groups = [list(group) for is_buffer, group in runs if not is_buffer]
    return [slice(group[0].offset, group[-1].offset + group[-1].size) for group in groups]


class _GroupOptimizer:
    """Weights, gradient and hyper-parameters (M, 1) of models with the same optimizer."""

    def __init__(self, flat: Tensor, gradient: Tensor, values: Sequence[HyperParameters]) -> None:
        self.flat, self.gradient = flat, gradient
        self.lr = self._column([value.lr for value in values])
        self.weight_decay = self._column([value.weight_decay for value in values])
        self.momentum = self._column([value.momentum for value in values])
        self.decays = any(value.weight_decay > 0 for value in values)

    def _column(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float32, device=self.flat.device)[:, None]

    def step(self, step: int, scheduled: ScheduledStep) -> None:
        """Update the weights in place; `step` counts from 0."""
        raise NotImplementedError

    def decay_gradient(self) -> None:
        if self.decays:
            self.gradient.addcmul_(self.flat, self.weight_decay)


class _Sgd(_GroupOptimizer):
    def __init__(self, flat: Tensor, gradient: Tensor, values: Sequence[HyperParameters]) -> None:
        super().__init__(flat, gradient, values)
        self.velocity = torch.zeros_like(flat)

    def step(self, step: int, scheduled: ScheduledStep) -> None:
        self.decay_gradient()
        momentum = self.momentum if scheduled.momentum is None else scheduled.momentum
        self.velocity.mul_(momentum).add_(self.gradient)
        self.flat.addcmul_(self.velocity, self.lr * scheduled.rate, value=-1)


class _Adam(_GroupOptimizer):
    def __init__(self, flat: Tensor, gradient: Tensor, values: Sequence[HyperParameters]) -> None:
        super().__init__(flat, gradient, values)
        self.mean, self.square = torch.zeros_like(flat), torch.zeros_like(flat)

    def decay(self, rate: float) -> None:
        self.decay_gradient()

    def step(self, step: int, scheduled: ScheduledStep) -> None:
        self.decay(scheduled.rate)
        beta1 = BETA1 if scheduled.momentum is None else scheduled.momentum
        self.mean.lerp_(self.gradient, 1 - beta1)
        self.square.mul_(BETA2).addcmul_(self.gradient, self.gradient, value=1 - BETA2)
        scale = (1 - BETA2 ** (step + 1)) ** 0.5
        denominator = torch.sqrt(self.square, out=self.gradient).div_(scale).add_(EPS)
        rate = self.lr * (scheduled.rate / (1 - beta1 ** (step + 1)))
        self.flat.addcmul_(self.mean / denominator, rate, value=-1)


class _AdamW(_Adam):
    def decay(self, rate: float) -> None:
        if self.decays:
            self.flat.mul_(1 - self.lr * rate * self.weight_decay)


class _RmsProp(_GroupOptimizer):
    def __init__(self, flat: Tensor, gradient: Tensor, values: Sequence[HyperParameters]) -> None:
        super().__init__(flat, gradient, values)
        self.square = torch.zeros_like(flat)

    def step(self, step: int, scheduled: ScheduledStep) -> None:
        self.decay_gradient()
        self.square.mul_(ALPHA).addcmul_(self.gradient, self.gradient, value=1 - ALPHA)
        self.gradient.div_(self.square.sqrt().add_(EPS))
        self.flat.addcmul_(self.gradient, self.lr * scheduled.rate, value=-1)


_OPTIMIZERS: dict[str, type[_GroupOptimizer]] = {
    "sgd": _Sgd,
    "adam": _Adam,
    "adamw": _AdamW,
    "rmsprop": _RmsProp,
}
