"""Trace of the Fisher information of networks.

Scale: rescaling a pair of layers of a ReLU network keeps its function and moves the trace.

Shape letters: M models, N images, C outputs, D length of the flat vector.
"""

from collections.abc import Callable

import torch
from torch import Tensor

PROBES = 16


def fisher_trace(
    outputs: Callable[[Tensor], Tensor],
    weights: Tensor,
    classes: bool = True,
    probes: int = PROBES,
    seed: int = 0,
) -> Tensor:
    """Trace of the Fisher information of the weights, mean over images.

    For classes it is the mean over images of sum_c p_c |grad log p_c|^2, with the classes drawn
    from the network itself, not from the labels. With p p^T + S S^T = diag(p) it equals the mean
    of |J^T S|^2 for the Jacobian J of the logits, which is estimated by |J^T S z|^2 with random
    signs z over images and classes. For numbers S is the identity (unit variance). It is the trace
    of the Gauss-Newton part of the Hessian, and never negative. Sources: Martens 2020,
    arXiv:1412.1193; Jastrzebski et al. 2021, arXiv:2012.14193, who find that an early explosion of
    it goes with bad generalisation. Cost: one forward pass, and one backward pass per probe.

    Args:
        outputs: function from flat weights (M, D) to logits or numbers, (M, N, C).
        weights: flat weights, (M, D).
        classes: whether outputs are logits.
        probes: number of probes; the relative error is at most sqrt(2 / probes).
        seed: seed of the signs, which are the same for all models.

    Returns:
        (M,), float64.
    """
    point = weights.detach().clone().requires_grad_()
    values = outputs(point)
    shares = values.detach().softmax(-1)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for probe in range(probes):
        signs = torch.randint(0, 2, values.shape[1:], generator=generator) * 2 - 1
        weighted = signs.to(values).expand(values.shape)
        if classes:
            drawn = shares.sqrt() * weighted
            weighted = drawn - shares * drawn.sum(-1, keepdim=True)
        (gradient,) = torch.autograd.grad(
            values, point, weighted, retain_graph=probe < probes - 1, materialize_grads=True
        )
        found.append(gradient.double().square().sum(1))
    return torch.stack(found).mean(0) / values.shape[1]
