"""What a grouped convolution keeps, beside the values that `test_convolution.py` compares."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from weightzoo.zoos.networks import grouped_convolution
from weightzoo.zoos.networks.convolution import conv2d


def test_grouped_convolution_runs_without_tf32_and_leaves_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, plain = list[bool](), F.conv2d

    def watched(*arguments: Any, **options: Any) -> Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return plain(*arguments, **options)

    monkeypatch.setattr(grouped_convolution.F, "conv2d", watched)
    before = torch.backends.cudnn.allow_tf32
    conv2d(torch.ones(1, 4, 1, 4, 2), torch.ones(3, 2, 1, 3, 3), path="grouped")
    assert seen == [False] and torch.backends.cudnn.allow_tf32 == before


def test_next_convolution_takes_the_output_without_a_copy() -> None:
    x, weight = torch.randn(2, 6, 3, 6, 4), torch.randn(2, 5, 3, 3, 3)
    out = torch.relu(conv2d(x, weight, path="grouped", pool=2))
    assert grouped_convolution.channels_of_models(out).data_ptr() == out.data_ptr()


def test_shared_images_are_one_convolution_with_the_gradient_of_all_models() -> None:
    x = torch.randn(1, 6, 3, 6, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 5, 3, 3, 3, dtype=torch.float64)
    shared = conv2d(x, weight, path="grouped")
    own = conv2d(x.expand(2, -1, -1, -1, -1), weight, path="grouped")
    torch.testing.assert_close(shared, own)
    gradients = [torch.autograd.grad(one.sin().sum(), x)[0] for one in (shared, own)]
    torch.testing.assert_close(*gradients)
