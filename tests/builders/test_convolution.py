"""Population convolution and pooling against torch's own, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from weightzoo.builders.convolution import conv2d, max_pool2d


def _case(models: int = 3, shared: bool = False) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1 if shared else models, 2, 9, 8, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(models, 4, 2, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(models, 4, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (2, 1), (3, 2)])
def test_conv2d_equals_torch_forward_and_backward(stride: int, padding: int) -> None:
    x, weight, bias = _case()
    ours = conv2d(x, weight, bias, stride, padding)
    theirs = torch.stack(
        [
            F.conv2d(x[m].movedim(-1, 0), weight[m], bias[m], stride, padding).movedim(0, -1)
            for m in range(3)
        ]
    )
    torch.testing.assert_close(ours, theirs)
    probe = torch.randn_like(ours)
    got = torch.autograd.grad((ours * probe).sum(), (x, weight, bias))
    want = torch.autograd.grad((theirs * probe).sum(), (x, weight, bias))
    torch.testing.assert_close(got, want)


def test_conv2d_of_shared_images_equals_copies() -> None:
    x, weight, bias = _case(shared=True)
    ours = conv2d(x.detach(), weight, bias)
    copies = conv2d(x.detach().expand(3, -1, -1, -1, -1).contiguous(), weight, bias)
    torch.testing.assert_close(ours, copies)


@pytest.mark.parametrize("size", [2, 3])
def test_max_pool2d_equals_torch_forward_and_backward(size: int) -> None:
    x = torch.randn(2, 3, 7, 9, 4).requires_grad_()
    ours = max_pool2d(x, size)
    theirs = F.max_pool2d(x.movedim(-1, 1).flatten(0, 1), size)
    theirs = theirs.unflatten(0, (2, 4)).movedim(1, -1)
    assert torch.equal(ours, theirs)
    probe = torch.randn_like(ours)
    got = torch.autograd.grad((ours * probe).sum(), x)
    want = torch.autograd.grad((theirs * probe).sum(), x)
    torch.testing.assert_close(got, want)


def test_max_pool2d_gives_tied_gradient_to_the_first_only() -> None:
    x = torch.zeros(1, 1, 4, 4, 2).requires_grad_()
    (grad,) = torch.autograd.grad(max_pool2d(x, 2).sum(), x)
    want = torch.zeros(4, 4)
    want[::2, ::2] = 1
    assert torch.equal(grad[0, 0, :, :, 0], want)
