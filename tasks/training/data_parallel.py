"""Training by several processes of `torch.distributed`, with the steps of one process.

Every process computes its run of a batch. Gradients are averaged over all rows of the batch, batch
norms see all of its rows, and losses that compare rows see those of all processes. The steps are
then those of one process with the larger batch, up to rounding. Processes need not be on GPUs.

Shape letters: B rows of this process, R rows of all processes, C channels.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...loaders.batching.device import rank_and_world


class _Sum(torch.autograd.Function):
    """Sum over the processes; every process's loss depends on it, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        torch.distributed.all_reduce(total)
        return total


def summed(values: Tensor) -> Tensor:
    """Sum a tensor over the processes, with gradients."""
    return _Sum.apply(values)


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch norm (B, C) over the rows of all processes; torch has one for GPUs only."""

    def forward(self, input: Tensor) -> Tensor:
        """See `BatchNorm1d`."""
        if not self.training or rank_and_world()[1] == 1:
            return super().forward(input)
        rows = summed(input.new_tensor(float(len(input))))
        mean = summed(input.sum(0)) / rows
        variance = summed((input - mean).square().sum(0)) / rows
        self._follow(mean.detach(), variance.detach() * rows / (rows - 1))
        scaled = (input - mean) / (variance + self.eps).sqrt()
        return scaled if self.weight is None else scaled * self.weight + self.bias

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics."""
        if self.running_mean is None or self.running_var is None:
            return
        share = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if share is None else share
        self.running_mean.lerp_(mean, share or 0.0)
        self.running_var.lerp_(variance, share or 0.0)


def share_batch_norms(module: nn.Module) -> None:
    """Let the batch norms of a module see the rows of all processes.

    Raises:
        ValueError: if it has a batch norm of images.
    """
    if rank_and_world()[1] == 1:
        return
    for one in module.modules():
        if isinstance(one, nn.BatchNorm1d):
            one.__class__ = SharedBatchNorm
        elif isinstance(one, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"several processes train encoders with BatchNorm1d alone, got {one}: train it in "
                "one process"
            )


def average_gradients(parameters: Iterable[nn.Parameter], losses: Tensor, rows: int) -> Tensor:
    """Average the gradients of mean losses over the rows of all processes.

    Args:
        parameters: parameters after the backward pass, the same in every process.
        losses: mean losses of this process, of any shape, without gradient.
        rows: B, rows that this process has computed its mean losses over.

    Returns:
        The losses, averaged in the same way.
    """
    if rank_and_world()[1] == 1:
        return losses
    parameters = [one for one in parameters if one.requires_grad]
    grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    means = torch.cat(
        [one.flatten() for one in (*grads, losses.to(grads[0]), grads[0].new_ones(1))]
    )
    means *= rows
    torch.distributed.all_reduce(means)
    means = means[:-1] / means[-1]
    *parts, averaged = means.split([one.numel() for one in (*parameters, losses)])
    for one, part in zip(parameters, parts, strict=True):
        one.grad = part.view_as(one)
    return averaged.view_as(losses)


def gather_rows(values: Tensor) -> Tensor:
    """Join the rows of all processes in their order.

    The gradient reaches the rows of this process as if they were the only ones, so that the mean
    of `average_gradients` must be undone by a factor of R / B.

    Args:
        values: rows of this process, (B, ...).

    Returns:
        Rows of all processes, (R, ...).
    """
    rank, world = rank_and_world()
    if world == 1:
        return values
    counts = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(world)]
    torch.distributed.all_gather(counts, counts[0].new_tensor([len(values)]))
    parts = [values.new_zeros(int(count), *values.shape[1:]) for count in counts]
    longest = max(len(part) for part in parts)
    room = [values.new_zeros(longest, *values.shape[1:]) for _ in range(world)]
    own = torch.cat([values.detach(), room[0][: longest - len(values)]])
    torch.distributed.all_gather(room, own)
    parts = [whole[: len(part)] for whole, part in zip(room, parts, strict=True)]
    parts[rank] = values
    return torch.cat(parts)
