"""Population convolution and pooling against torch's own, forward and backward."""

import sys
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from weightzoo.zoos.networks import convolution, convolution_c
from weightzoo.zoos.networks.convolution import conv2d, max_pool2d


@pytest.fixture(
    autouse=True, params=["compiled", "row windows", "all models at once", "torch", "grouped"]
)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs with all code: C loops, products one by one or at once, torch's, grouped."""
    if request.param == "grouped":
        monkeypatch.setattr(sys.modules[__name__], "conv2d", partial(conv2d, path="grouped"))
        return
    if request.param == "compiled":
        if convolution_c.library() is None:
            pytest.skip("no C compiler")
        return
    monkeypatch.setattr(convolution_c, "library", lambda: None)
    if request.param == "torch":
        monkeypatch.setattr(convolution, "LARGEST_COMPILED", 0)
    if request.param == "all models at once":
        monkeypatch.setattr(convolution, "_groups", lambda models, x: [slice(0, models)])


# (in channels, out channels, kernel, height, width, batch, stride, padding, pool)
SHAPES = [
    (1, 8, 5, 28, 28, 32, 1, 0, 2),
    (8, 6, 5, 12, 12, 10, 1, 0, 2),
    (6, 4, 2, 4, 4, 10, 1, 0, 1),
    (3, 17, 3, 11, 13, 7, 3, 2, 2),
    (1, 16, 3, 28, 28, 33, 2, 0, 1),
    (16, 16, 3, 13, 13, 1, 2, 0, 1),
    (5, 9, 1, 6, 7, 19, 2, 0, 1),
    (3, 2, 4, 5, 5, 2, 1, 3, 2),
    (4, 4, 3, 8, 8, 4, 1, 1, 3),
    (16, 16, 3, 7, 9, 130, 2, 0, 1),  # whole columns of images, read in place
    (3, 5, 3, 10, 9, 137, 3, 0, 2),
    (2, 3, 1, 7, 7, 128, 3, 0, 1),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_conv2d_in_float32_equals_torch(shape: tuple[int, ...]) -> None:
    channels, out, kernel, height, width, batch, stride, padding, pool = shape
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, height, channels, width, batch), (2, out, channels, kernel, kernel), (2, out))
    leaves = [torch.randn(size, generator=generator).requires_grad_() for size in sizes]
    x, weight, bias = leaves
    ours = conv2d(x, weight, bias, stride, padding, pool)
    theirs = torch.stack([_torch_conv(x[m], weight[m], bias[m], stride, padding) for m in range(2)])
    theirs = _torch_pool(theirs, pool)
    probe = torch.randn(ours.shape, generator=generator)
    got = (ours, *torch.autograd.grad((ours * probe).sum(), leaves))
    want = (theirs, *torch.autograd.grad((theirs * probe).sum(), leaves))
    for mine, reference in zip(got, want, strict=True):
        scale = float(reference.detach().abs().max())
        torch.testing.assert_close(mine / scale, reference / scale, atol=3e-6, rtol=0)


@pytest.mark.parametrize("pool", [1, 2])
def test_conv2d_of_no_images_gives_no_gradient(pool: int) -> None:
    """Of an empty last batch the compiled loops would divide by zero."""
    weight = torch.randn(2, 4, 3, 3, 3, requires_grad=True)
    out = conv2d(torch.empty(2, 8, 3, 8, 0), weight, None, pool=pool)
    assert out.shape == (2, 6 // pool, 4, 6 // pool, 0)
    (grad,) = torch.autograd.grad(out.sum(), weight)
    assert not grad.any()


def test_conv2d_pools_squares_whose_places_fill_no_byte() -> None:
    x = torch.arange(17.0 * 17 * 3).view(1, 17, 1, 17, 3).requires_grad_()
    out = conv2d(x, torch.ones(1, 1, 1, 1, 1), pool=17)  # the last place, 288, is largest
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(grad, (x == out).float())


@pytest.mark.parametrize(
    ("images", "kernels", "biases"),
    [
        ((3, 8, 3, 8, 5), (2, 4, 3, 3, 3), (2, 4)),  # models
        ((2, 8, 2, 8, 5), (2, 4, 3, 3, 3), (2, 4)),  # channels
        ((2, 8, 3, 8, 5), (2, 4, 3, 3, 2), (2, 4)),  # no square kernel
        ((2, 8, 3, 8, 5), (2, 4, 3, 9, 9), (2, 4)),  # larger than the image
        ((2, 8, 3, 8, 5), (2, 4, 3, 3, 3), (2, 3)),
    ],
)
def test_conv2d_refuses_shapes_that_do_not_fit(
    images: tuple[int, ...], kernels: tuple[int, ...], biases: tuple[int, ...]
) -> None:
    """Compiled loops would read past the end."""
    with pytest.raises(ValueError, match="do not fit together"):
        conv2d(torch.zeros(images), torch.zeros(kernels), torch.zeros(biases))


def test_conv2d_refuses_mixed_types() -> None:
    x, weight = torch.zeros(1, 8, 1, 8, 5), torch.zeros(1, 4, 1, 3, 3, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="one type"):
        conv2d(x, weight)


def test_conv2d_passes_nan_and_infinity_on() -> None:
    x = torch.randn(1, 6, 1, 6, 20)
    x[0, 2, 0, 2, 3], x[0, 3, 0, 3, 17] = torch.nan, torch.inf
    out = conv2d(x, torch.ones(1, 1, 1, 1, 1), torch.zeros(1, 1), pool=2)
    assert out[0, 1, 0, 1, 3].isnan()
    assert out[0, 1, 0, 1, 17] == torch.inf
    assert out.isfinite().sum() == out.numel() - 2


def _case(models: int = 3, shared: bool = False) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1 if shared else models, 9, 2, 8, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(models, 4, 2, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(models, 4, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def _torch_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """torch's convolution, from and to rows with the batch last."""
    out = F.conv2d(x.permute(3, 1, 0, 2), weight, bias, stride, padding)
    return out.permute(2, 1, 3, 0)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (2, 1), (3, 2)])
def test_conv2d_equals_torch_forward_and_backward(stride: int, padding: int, pool: int) -> None:
    x, weight, bias = _case()
    ours = conv2d(x, weight, bias, stride, padding, pool)
    theirs = torch.stack([_torch_conv(x[m], weight[m], bias[m], stride, padding) for m in range(3)])
    theirs = _torch_pool(theirs, pool)
    torch.testing.assert_close(ours, theirs)
    probe = torch.randn_like(ours)
    got = torch.autograd.grad((ours * probe).sum(), (x, weight, bias))
    want = torch.autograd.grad((theirs * probe).sum(), (x, weight, bias))
    torch.testing.assert_close(got, want)


def test_conv2d_of_one_pixel_kernels_equals_torch() -> None:
    x, weight, bias = _case()
    weight = weight[..., :1, :1]
    theirs = torch.stack([_torch_conv(x[m], weight[m], bias[m], 1, 0) for m in range(3)])
    torch.testing.assert_close(conv2d(x, weight, bias), theirs)


def test_conv2d_without_bias_equals_a_bias_of_zero() -> None:
    x, weight, bias = _case()
    assert torch.equal(conv2d(x, weight), conv2d(x, weight, torch.zeros_like(bias)))


def test_conv2d_takes_views_of_flat_vectors() -> None:
    flat = torch.randn(3, 60)
    weight, bias = flat[:, 2:38].view(3, 2, 2, 3, 3), flat[:, 50:52]
    x = torch.randn(3, 2, 7, 6, 5).transpose(1, 2)
    copies = conv2d(x.contiguous(), weight.contiguous(), bias.contiguous(), pool=2)
    assert torch.equal(conv2d(x, weight, bias, pool=2), copies)


@pytest.mark.parametrize("pool", [1, 2])
def test_conv2d_of_shared_images_equals_copies(pool: int) -> None:
    x, weight, bias = _case(shared=True)
    copies = x.expand(3, -1, -1, -1, -1)
    got, want = (conv2d(images, weight, bias, pool=pool) for images in (x, copies))
    torch.testing.assert_close(got, want)
    probe = torch.randn_like(got)
    grads = [torch.autograd.grad((y * probe).sum(), (x, weight, bias)) for y in (got, want)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("size", [2, 3])
def test_max_pool2d_equals_torch_forward_and_backward(size: int) -> None:
    x = torch.randn(2, 7, 3, 9, 4).requires_grad_()
    ours, theirs = max_pool2d(x, size), _torch_pool(x, size)
    assert torch.equal(ours, theirs)
    probe = torch.randn_like(ours)
    got = torch.autograd.grad((ours * probe).sum(), x)
    want = torch.autograd.grad((theirs * probe).sum(), x)
    torch.testing.assert_close(got, want)


def _torch_pool(x: Tensor, size: int) -> Tensor:
    models, _, _, _, batch = x.shape
    pooled = F.max_pool2d(x.permute(0, 4, 2, 1, 3).flatten(0, 1), size)
    return pooled.unflatten(0, (models, batch)).permute(0, 3, 2, 4, 1)


@pytest.mark.parametrize("values", [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
def test_max_pool2d_gives_tied_gradient_to_the_first_only(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float32).view(1, 2, 1, 2, 1).requires_grad_()
    (got,) = torch.autograd.grad(max_pool2d(x, 2).sum(), x)
    (want,) = torch.autograd.grad(_torch_pool(x, 2).sum(), x)
    assert torch.equal(got, want)
    assert got.sum() == 1


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_conv2d_without_gradient_gives_the_bits_of_training(pool: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 9, 2, 11, 10, generator=generator)  # 10 images fill no whole vectors
    weight = torch.randn(3, 5, 2, 3, 3, generator=generator)
    bias = torch.randn(3, 5, generator=generator)
    trained = conv2d(x, weight.clone().requires_grad_(), bias, pool=pool)
    with torch.no_grad():
        assert torch.equal(conv2d(x, weight, bias, pool=pool), trained)


def test_conv2d_of_one_model_gives_the_bits_it_has_among_others() -> None:
    if isinstance(conv2d, partial):
        pytest.skip("a grouped convolution, as on a GPU, may sum in another order")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 9, 2, 11, 10, generator=generator)
    weight = torch.randn(3, 5, 2, 3, 3, generator=generator, requires_grad=True)
    together = torch.autograd.grad(conv2d(x, weight, pool=2).sum(), weight)[0]
    alone = torch.autograd.grad(conv2d(x[1:2], weight[1:2], pool=2).sum(), weight)[0]
    assert torch.equal(together[1], alone[1])
