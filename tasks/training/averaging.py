"""Exponential moving average of the parameters of a module in training."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class ExponentialAverage(AveragedModel):
    """`AveragedModel` whose counter stays on the CPU; torch's is copied to a GPU in every step.

    Example:
        >>> import torch
        >>> from weightzoo.tasks.training.averaging import ExponentialAverage
        >>> module = torch.nn.Linear(1, 1)
        >>> average = ExponentialAverage(module, decay=0.9)
        >>> average.update_parameters(module)
        >>> int(average.n_averaged)
        1
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Copy the module.

        Args:
            module: module in training; all its parameters are on one device.
            decay: share of the average that stays in a step; the first step copies the module.
        """
        super().__init__(module, multi_avg_fn=get_ema_multi_avg_fn(decay))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the parameters of a module; buffers are copied."""
        own: list[Tensor] = list(self.module.parameters())
        new: list[Tensor] = list(model.parameters())
        if int(self.n_averaged) == 0:
            for kept, one in zip(own, new, strict=True):
                kept.copy_(one)
        elif own:
            assert self.multi_avg_fn is not None
            self.multi_avg_fn(own, new, self.n_averaged)
        for kept, one in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(one)
        self.n_averaged += 1
