"""Layers of many models at once, in more than one way."""

import torch
from torch import Tensor

from weightzoo.zoos.networks.batched_layers import batch_norm


def normalised(joint: bool, training: bool) -> list[Tensor]:
    """Output, gradients and state of batch norms of three models, some with large means."""
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(*shape, generator=generator) for shape in ((3, 5, 4, 6, 2), (3, 4), (3, 4))
    ]
    x, weight, bias = (one.requires_grad_() for one in drawn)
    flat = torch.rand(3, 9, generator=generator)  # state lies in rows of flat vectors
    state = [flat[:, :4], flat[:, 4:8], flat[:, 8]]
    shifted = x + 10 * weight.detach()[:, None, :, None, None]
    out = batch_norm(shifted, weight, bias, state, training, joint)
    gradients = torch.autograd.grad(out.sin().sum(), (x, weight, bias))
    return [out.detach(), *gradients, flat]


def test_joint_batch_norm_equals_one_call_per_model() -> None:
    """Up to the order of sums: images come in another order, and float32 holds seven digits."""
    for training in (True, False):
        for one, other in zip(normalised(True, training), normalised(False, training), strict=True):
            scale = float(other.abs().max())
            torch.testing.assert_close(one / scale, other / scale, atol=1e-6, rtol=0)


def test_batch_norm_changes_its_state_in_training_alone() -> None:
    before, after = normalised(True, False)[-1], normalised(True, True)[-1]
    assert torch.equal(before, normalised(False, False)[-1])
    assert (before[:, :8] != after[:, :8]).all() and torch.equal(before[:, 8] + 1, after[:, 8])
