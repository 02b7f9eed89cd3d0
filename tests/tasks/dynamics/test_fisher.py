"""Fisher traces of linear models, which have a closed form."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.dynamics.fisher import fisher_trace


def linear(inputs: Tensor, classes: int) -> Callable[[Tensor], Tensor]:
    """Outputs (M, N, C) of linear models with weights (M, C * F)."""
    return lambda weights: inputs @ weights.unflatten(1, (classes, -1)).mT


def test_trace_of_a_linear_regression_of_one_number_is_the_mean_square_of_its_inputs() -> None:
    inputs = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    weights = torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = fisher_trace(linear(inputs, 1), weights, classes=False, probes=1)
    assert found.tolist() == [25, 25]


def test_trace_of_a_softmax_regression_is_its_closed_form() -> None:
    """Mean over images of |x|^2 (1 - sum of p^2)."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    outputs = linear(inputs, 3)
    shares = outputs(weights).softmax(-1)
    wanted = (inputs.square().sum(1) * (1 - shares.square().sum(-1))).mean(1)
    found = fisher_trace(outputs, weights, probes=4000)
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=0.03)


def test_trace_is_the_mean_square_of_gradients_of_drawn_classes() -> None:
    """The definition: sum over classes of p |grad log p|^2, image by image."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(5, 3, generator=generator, dtype=torch.float64)

    def outputs(weights: Tensor) -> Tensor:
        hidden = (inputs @ weights[:, :6].unflatten(1, (3, 2))).tanh()
        return hidden @ weights[:, 6:].unflatten(1, (2, 3))

    weights = torch.randn(1, 12, generator=generator, dtype=torch.float64).requires_grad_()
    logs = outputs(weights).log_softmax(-1)
    wanted = 0.0
    for image in range(5):
        for number in range(3):
            (gradient,) = torch.autograd.grad(logs[0, image, number], weights, retain_graph=True)
            share = logs[0, image, number].detach().exp()
            wanted += float(share * gradient.square().sum()) / 5
    assert fisher_trace(outputs, weights, probes=4000).item() == pytest.approx(wanted, rel=0.03)


def test_a_sure_network_has_no_fisher_information() -> None:
    inputs = torch.ones(3, 2, dtype=torch.float64)
    weights = torch.tensor([[500.0, 500.0, 0.0, 0.0]], dtype=torch.float64)
    assert fisher_trace(linear(inputs, 2), weights).item() == 0
