"""Curvature of losses: largest Hessian eigenvalue, trace, and sharpness under perturbation.

Everything takes a function from the flat weights of M models to their M losses. The loss of a
model depends on its own weights alone, so one Hessian-vector product of the sum of the losses is
that of every model. Start vectors and probes are the same for all models, so that a model is
measured as if it were alone.

Scale: rescaling a pair of layers of a ReLU network keeps its function and moves eigenvalue, trace
and m-sharpness (Dinh et al. 2017, arXiv:1703.04933). Adaptive sharpness stays the same.

Shape letters: M models, D length of the flat vector.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Losses = Callable[[Tensor], Tensor]
"""Function from flat weights (M, D) to losses (M,), twice differentiable by autograd."""
STEPS, PROBES, RADIUS = 12, 8, 0.05
BROKEN = 1e-6  # of the largest norm so far: a Lanczos vector below it is rounding


class HessianProducts:
    """Hessian-vector products of M losses, from one graph of their gradient.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian". Cost: about three
    gradients for the graph, and about two per product. Where a ReLU or a pooled maximum has a
    kink, the Hessian is that of the smooth piece.

    Attributes:
        losses: losses, (M,).
        gradient: gradients, (M, D).

    Example:
        >>> import torch
        >>> from weightzoo.tasks.dynamics.sharpness import HessianProducts
        >>> bowl = lambda w: (torch.tensor([1.0, 3.0]) * w.square()).sum(1) / 2
        >>> HessianProducts(bowl, torch.ones(1, 2))(torch.tensor([[1.0, 1.0]])).tolist()
        [[1.0, 3.0]]
    """

    def __init__(self, losses: Losses, weights: Tensor) -> None:
        """Compute losses and gradients, and keep their graph.

        Args:
            losses: function from weights to losses.
            weights: flat weights, (M, D).
        """
        self._weights = weights.detach().clone().requires_grad_()
        values = losses(self._weights)
        (self._gradient,) = torch.autograd.grad(
            values.sum(), self._weights, create_graph=True, materialize_grads=True
        )
        self.losses, self.gradient = values.detach(), self._gradient.detach()

    def __call__(self, vectors: Tensor) -> Tensor:
        """Multiply each model's vector (M, D) by its Hessian."""
        if not self._gradient.requires_grad:  # a linear loss
            return torch.zeros_like(self._weights.detach())
        (product,) = torch.autograd.grad(
            self._gradient, self._weights, vectors, retain_graph=True, materialize_grads=True
        )
        return product


def extreme_eigenvalues(
    product: Callable[[Tensor], Tensor], start: Tensor, steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """Largest and smallest eigenvalue of each model's Hessian by the method of Lanczos.

    The Ritz values of `steps` products approach the ends of the spectrum from inside, faster than
    power iteration does. Vectors are orthogonalised against all earlier ones. Source: Lanczos 1950;
    for networks Ghorbani et al. 2019, arXiv:1901.10159. Cost: `steps` products, and memory for
    `steps` vectors.

    Args:
        product: function that multiplies vectors (M, D) by the Hessians.
        start: start vectors, (M, D), not zero.
        steps: number of products.

    Returns:
        Largest and smallest, (M,) each, float64.
    """
    vectors, diagonal, beside = [start / start.norm(dim=1, keepdim=True)], [], []
    scale = start.new_zeros(len(start))
    for step in range(steps):
        image = product(vectors[-1])
        diagonal.append((image * vectors[-1]).sum(1))
        scale = torch.maximum(scale, image.norm(dim=1))
        if step == steps - 1:
            break
        for _ in range(2):  # the second pass removes what rounding left
            for vector in vectors:
                image = image - (image * vector).sum(1, keepdim=True) * vector
        norms = image.norm(dim=1)
        norms = norms.where(norms > BROKEN * scale, torch.zeros_like(norms))  # space is exhausted
        beside.append(norms)
        vectors.append(image / norms.clamp_min(torch.finfo(norms.dtype).tiny)[:, None])
        vectors[-1] = vectors[-1].where((norms > 0)[:, None], torch.zeros_like(image))
    return _ritz_ends(diagonal, beside)


def _ritz_ends(diagonal: list[Tensor], beside: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Ends of the spectrum of tridiagonal matrices; unused rows repeat the first Rayleigh quotient.

    A quotient lies between the ends, so that unused rows move neither.
    """
    matrix = torch.stack(diagonal, dim=1).double().diag_embed()
    used = torch.ones_like(diagonal[0], dtype=torch.bool)
    for index, norms in enumerate(beside):
        matrix[:, index, index + 1] = matrix[:, index + 1, index] = norms.double()
        used = used & (norms > 0)
        place = matrix[:, index + 1, index + 1]
        matrix[:, index + 1, index + 1] = place.where(used, diagonal[0].double())
        matrix[:, index, index + 1] *= used
        matrix[:, index + 1, index] *= used
    finite = matrix.isfinite().all(dim=(1, 2))
    safe = matrix.where(finite[:, None, None], torch.zeros_like(matrix))
    values = torch.linalg.eigvalsh(safe).masked_fill(~finite[:, None], torch.nan)
    return values[:, -1], values[:, 0]


def hessian_trace(product: Callable[[Tensor], Tensor], probes: Sequence[Tensor]) -> Tensor:
    """Trace of each model's Hessian, the mean of v . H v over random signs v.

    It is exact for a diagonal Hessian; otherwise its variance is twice the sum of the squared
    entries beside the diagonal, divided by the number of probes. Sources: Hutchinson 1989; Yao et
    al. 2020 (PyHessian), arXiv:1912.07145. Cost: one product per probe.

    Args:
        product: function that multiplies vectors (M, D) by the Hessians.
        probes: signs, (M, D) each, see `random_signs`.

    Returns:
        (M,), float64.
    """
    found = [(probe * product(probe)).sum(1).double() for probe in probes]
    return torch.stack(found).mean(0)


def random_signs(count: int, like: Tensor, seed: int) -> list[Tensor]:
    """Random signs for `hessian_trace`, the same for all models.

    Args:
        count: number of probes.
        like: tensor (M, D) whose type and device they get.
        seed: seed of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (count, like.shape[1]), generator=generator) * 2 - 1
    return [row.to(like).expand(like.shape) for row in signs]


def random_start(like: Tensor, seed: int) -> Tensor:
    """Start vectors (M, D) of the Lanczos method, the same for all models.

    Args:
        like: tensor (M, D) whose type and device they get.
        seed: seed of the draw.
    """
    drawn = torch.randn(like.shape[1], generator=torch.Generator().manual_seed(seed))
    return drawn.to(like).expand(like.shape)


def m_sharpness(
    batches: Sequence[Losses], weights: Tensor, radius: float = RADIUS, adaptive: bool = False
) -> Tensor:
    """Mean increase of the loss under the worst perturbation of each batch of m images.

    The perturbation of a batch is e = radius g / |g| to first order, with the gradient g of its
    loss; adaptive, e = radius w^2 g / |w g| by element. Adaptive sharpness does not change when
    the layers of a ReLU network are rescaled. Sources: Foret et al. 2021 (SAM), arXiv:2010.01412;
    Kwon et al. 2021 (ASAM), arXiv:2102.11600; Andriushchenko et al. 2023, arXiv:2302.07011, who
    find little correlation of either with generalisation. Cost: one gradient and one loss more per
    batch.

    Args:
        batches: one function from weights (M, D) to losses (M,) per batch of m images.
        weights: flat weights, (M, D).
        radius: radius of the perturbation; in units of the weights, or relative if adaptive.
        adaptive: whether every element is perturbed in proportion to its size.

    Returns:
        (M,), float64.
    """
    rises = []
    for losses in batches:
        point = weights.detach().clone().requires_grad_()
        before = losses(point)
        (gradient,) = torch.autograd.grad(before.sum(), point)
        scaled = gradient * point.detach() if adaptive else gradient
        size = scaled.norm(dim=1, keepdim=True)
        direction = scaled * point.detach() if adaptive else scaled
        step = radius * direction / size.clamp_min(torch.finfo(size.dtype).tiny)
        with torch.no_grad():
            after = losses(point.detach() + step)
        rises.append((after - before.detach()).double())
    return torch.stack(rises).mean(0)
