"""Activations of runs of models against torch's modules, forward and backward."""

import pytest
import torch

from weightzoo.zoos.networks.activations import activate, runs_of
from weightzoo.zoos.networks.layer_kind import ACTIVATIONS


@pytest.mark.parametrize("transposed", [False, True])
def test_activate_equals_torch_for_all_functions_at_once(transposed: bool) -> None:
    names = [name for name in ACTIVATIONS for _ in range(2)]
    x = torch.randn(len(names), 7, 5, generator=torch.Generator().manual_seed(0))
    x = (x.transpose(1, 2) if transposed else x).requires_grad_()
    ours = activate(x, runs_of(names))
    theirs = torch.stack([ACTIVATIONS[name]()(row) for name, row in zip(names, x, strict=True)])
    torch.testing.assert_close(ours, theirs)
    probe = torch.randn(ours.shape)
    grads = [torch.autograd.grad((y * probe).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*grads)


def test_runs_of_names_each_run_once() -> None:
    assert runs_of(["relu", "relu", "tanh"]) == [("relu", slice(0, 2)), ("tanh", slice(2, 3))]
