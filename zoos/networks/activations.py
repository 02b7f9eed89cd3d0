"""Activation functions of many models at once, each model with its own function.

Each run of neighbouring models with one function is written directly into the result, forward and
backward: slicing and joining with autograd costs a pass over zeros for every run.

Shape letter: M models.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
LEAK = 0.01  # slope of leaky_relu below zero, torch's default

# name: (into(x, out), backward(grad, saved, out), whether the result is saved and not the input)
_Into = Callable[[Tensor, Tensor], object]
_Back = Callable[[Tensor, Tensor, Tensor], object]
FUNCTIONS: dict[str, tuple[_Into, _Back, bool]] = {
    "relu": (
        lambda x, out: torch.clamp_min(x, 0, out=out),
        lambda grad, y, out: aten.threshold_backward.grad_input(grad, y, 0, grad_input=out),
        True,
    ),
    "tanh": (
        lambda x, out: torch.tanh(x, out=out),
        lambda grad, y, out: aten.tanh_backward.grad_input(grad, y, grad_input=out),
        True,
    ),
    "sigmoid": (
        lambda x, out: torch.sigmoid(x, out=out),
        lambda grad, y, out: aten.sigmoid_backward.grad_input(grad, y, grad_input=out),
        True,
    ),
    "gelu": (
        lambda x, out: aten.gelu.out(x, out=out),
        lambda grad, x, out: aten.gelu_backward.grad_input(grad, x, grad_input=out),
        False,
    ),
    "silu": (
        lambda x, out: aten.silu.out(x, out=out),
        lambda grad, x, out: aten.silu_backward.grad_input(grad, x, grad_input=out),
        False,
    ),
    "leaky_relu": (
        lambda x, out: aten.leaky_relu.out(x, LEAK, out=out),
        lambda grad, x, out: aten.leaky_relu_backward.grad_input(
            grad, x, LEAK, False, grad_input=out
        ),
        False,
    ),
}

Runs = Sequence[tuple[str, slice]]


def runs_of(names: Sequence[str]) -> Runs:
    """(name, slice) of every run of equal names."""
    found, start = [], 0
    for name, group in itertools.groupby(names):
        stop = start + len(list(group))
        found.append((name, slice(start, stop)))
        start = stop
    return found


def activate(x: Tensor, runs: Runs) -> Tensor:
    """Apply each model's activation function.

    Args:
        x: values of the models, (M, ...).
        runs: function name and slice of models of each run, see `runs_of`.

    Returns:
        Activated values, of the shape of `x`.
    """
    result: Tensor = _Activate.apply(x, runs)
    return result


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, runs: Runs) -> Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        for name, models in runs:
            FUNCTIONS[name][0](x[models], out[models])
        ctx.runs = runs
        results = {FUNCTIONS[name][2] for name, _ in runs}
        ctx.save_for_backward(x if False in results else None, out if True in results else None)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, out = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_x = torch.empty_like(grad)
        for name, models in ctx.runs:
            _, backward, of_result = FUNCTIONS[name]
            backward(grad[models], (out if of_result else x)[models], grad_x[models])
        return grad_x, None
