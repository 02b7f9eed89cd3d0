"""Samplers: draw new points from the distribution of given latent vectors or weights.

Source: arXiv 2209.14733, with kernel density estimation (S_KDE), uniform draws (S_U), neighbours
(S_Neigh) and a generative adversarial network (S_GAN); and SANE (sequential autoencoder for neural
embeddings), arXiv 2406.09997, with subsampling (SUB) and bootstrapping (BOOT). Differs from them:
the bandwidth of `KernelDensity` is by default relative to each dimension's deviation, so that
0.002 has the same meaning for latent vectors and for weights; `Neighbours` interpolates between a
point and one of its neighbours instead of inverting a UMAP, which would need another package; the
settings of the GAN are ours, since none were published.

Shape letters: N points, Z values of a point.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..random_states import own_random_numbers

BANDWIDTH = 0.002
BANDWIDTH_UNITS = ("relative", "absolute")
NEIGHBOURS = 5
GAN_WIDTH, GAN_NOISE, GAN_STEPS, GAN_BATCH, GAN_LR = 128, 16, 1000, 64, 1e-3


class Sampler(Protocol):
    """Interface of samplers: draws points from the distribution of the points fitted to."""

    def fit(self, points: Tensor) -> "Sampler":
        """Fit to points (N, Z).

        Raises:
            ValueError: if there are no points, or a value is not finite.
        """

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, (count, Z).

        Args:
            count: number of points.
            generator: random generator of the draws.
        """


class KernelDensity:
    """S_KDE: draws each dimension independently, a random point's value plus gaussian noise.

    Attributes:
        bandwidth: deviation of the noise.
        bandwidth_unit: "relative", in units of each dimension's own deviation, or "absolute", in
            the units of the points.
    """

    def __init__(self, bandwidth: float = BANDWIDTH, bandwidth_unit: str = "relative") -> None:
        """Set the bandwidth.

        Args:
            bandwidth: deviation of the noise, at least 0.
            bandwidth_unit: one of `BANDWIDTH_UNITS`.

        Raises:
            ValueError: if the bandwidth is negative or not finite, or the unit is unknown.
        """
        if not 0 <= bandwidth < math.inf:
            raise ValueError(f"bandwidth must be at least 0 and finite, got {bandwidth!r}")
        if bandwidth_unit not in BANDWIDTH_UNITS:
            raise ValueError(
                f"bandwidth unit must be one of {BANDWIDTH_UNITS}, got {bandwidth_unit!r}"
            )
        self.bandwidth, self.bandwidth_unit = bandwidth, bandwidth_unit

    def fit(self, points: Tensor) -> "KernelDensity":
        """See `Sampler`."""
        self._points = checked_points(points)
        relative = self.bandwidth_unit == "relative"
        unit = points.std(0, correction=0) if relative else torch.ones_like(points[0])
        self._noise = self.bandwidth * unit
        return self

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, (count, Z).

        Args:
            count: number of points.
            generator: random generator of the draws.
        """
        shape = (count, self._points.shape[1])
        chosen = self._points.gather(
            0, torch.randint(len(self._points), shape, generator=generator)
        )
        return chosen + self._noise * torch.randn(shape, generator=generator)


class PublishedKernelDensity(KernelDensity):
    """S_KDE as in the public code of arXiv 2209.14733 and of SANE: a point plus one noise value.

    In both papers each dimension is drawn independently, as in `KernelDensity`. Their code draws
    each dimension with the same random state, so that all dimensions take the same point and the
    same noise. The published accuracies of S_KDE come from these draws. The bandwidth is absolute:
    0.002 in the code of arXiv 2209.14733, 0.2 in that of SANE.
    """

    def __init__(self, bandwidth: float = BANDWIDTH, bandwidth_unit: str = "absolute") -> None:
        """Set the bandwidth; errors are those of `KernelDensity`.

        Args:
            bandwidth: deviation of the noise, at least 0.
            bandwidth_unit: one of `BANDWIDTH_UNITS`.
        """
        super().__init__(bandwidth, bandwidth_unit)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, (count, Z).

        Args:
            count: number of points.
            generator: random generator of the draws.
        """
        chosen = torch.randint(len(self._points), (count,), generator=generator)
        return self._points[chosen] + self._noise * torch.randn(count, 1, generator=generator)


class Gaussian:
    """The normal distribution with the points' mean and covariance."""

    def fit(self, points: Tensor) -> "Gaussian":
        """See `Sampler`."""
        self._mean = checked_points(points).mean(0)
        self._centred = (points - self._mean) / max(1, len(points) - 1) ** 0.5
        return self

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, (count, Z).

        Args:
            count: number of points.
            generator: random generator of the draws.
        """
        return self._mean + torch.randn(count, len(self._centred), generator=generator) @ (
            self._centred
        )


class Uniform:
    """S_U: draws each dimension uniformly between its smallest and its largest value."""

    def fit(self, points: Tensor) -> "Uniform":
        """See `Sampler`."""
        self._low, self._high = checked_points(points).amin(0), points.amax(0)
        return self

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, (count, Z).

        Args:
            count: number of points.
            generator: random generator of the draws.
        """
        share = torch.rand(count, len(self._low), generator=generator)
        return torch.lerp(self._low.expand(count, -1), self._high.expand(count, -1), share)


class Neighbours:
    """In place of S_Neigh: interpolates between a random point and one of its neighbours.

    Attributes:
        neighbours: number of nearest points to choose from.
    """

    def __init__(self, neighbours: int = NEIGHBOURS) -> None:
        """Set the number of nearest points to choose from.

        Raises:
            ValueError: if it is below 1.
        """
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, got {neighbours!r}")
        self.neighbours = neighbours

    def fit(self, points: Tensor) -> "Neighbours":
        """See `Sampler`."""
        from sklearn.neighbors import NearestNeighbors

        self._points = checked_points(points)
        near = min(self.neighbours + 1, len(points))  # the first is the point itself
        index = NearestNeighbors(n_neighbors=near).fit(points.numpy())
        self._near = torch.from_numpy(index.kneighbors(points.numpy(), return_distance=False))
        return self

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, (count, Z).

        Args:
            count: number of points.
            generator: random generator of the draws.
        """
        start = torch.randint(len(self._points), (count,), generator=generator)
        neighbour = torch.randint(self._near.shape[1], (count,), generator=generator)
        share = torch.rand(count, 1, generator=generator)
        return torch.lerp(self._points[start], self._points[self._near[start, neighbour]], share)


class GenerativeAdversarial:
    """S_GAN: a small generative adversarial network."""

    def __init__(self, steps: int = GAN_STEPS, seed: int = 0) -> None:
        """Set the length and the seed of the training.

        Args:
            steps: number of training steps.
            seed: seed of the initial weights and of the training.
        """
        self.steps, self.seed = steps, seed

    def fit(self, points: Tensor) -> "GenerativeAdversarial":
        """See `Sampler`."""
        self._mean, deviation = checked_points(points).mean(0), points.std(0, correction=0)
        self._deviation = deviation.clamp(min=torch.finfo(points.dtype).tiny)
        with own_random_numbers(self.seed):
            self._maker = _perceptron(GAN_NOISE, points.shape[1])
            _train_adversarially(self._maker, (points - self._mean) / self._deviation, self.steps)
        return self

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, (count, Z).

        Args:
            count: number of points.
            generator: random generator of the draws.
        """
        with torch.no_grad():
            made = self._maker(torch.randn(count, GAN_NOISE, generator=generator))
        return self._mean + self._deviation * made


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "kde": KernelDensity,
    "kde-published": PublishedKernelDensity,
    "neighbours": Neighbours,
    "gan": GenerativeAdversarial,
    "uniform": Uniform,
    "gaussian": Gaussian,
}
WITH_BANDWIDTH = ("kde", "kde-published")


def make_sampler(
    name: str, bandwidth: float | None = None, bandwidth_unit: str | None = None
) -> Sampler:
    """The sampler of that name.

    Args:
        name: name in `SAMPLERS`.
        bandwidth: bandwidth of a kernel density; None takes `BANDWIDTH`.
        bandwidth_unit: one of `BANDWIDTH_UNITS`; None takes the sampler's default.

    Raises:
        ValueError: if there is no such sampler, or it has no bandwidth; the names are listed.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {list(SAMPLERS)}, got {name!r}")
    given = {"bandwidth": bandwidth, "bandwidth_unit": bandwidth_unit}
    given = {key: value for key, value in given.items() if value is not None}
    if given and name not in WITH_BANDWIDTH:
        raise ValueError(
            f"sampler {name!r} has no bandwidth: leave out {sorted(given)}, or take one of "
            f"{WITH_BANDWIDTH}"
        )
    return SAMPLERS[name](**given)


def bandwidth_of(sampler: Sampler) -> dict[str, Any]:
    """Bandwidth and its unit as plain data; empty for a sampler without bandwidth."""
    if not isinstance(sampler, KernelDensity):
        return {}
    return {"bandwidth": sampler.bandwidth, "bandwidth_unit": sampler.bandwidth_unit}


def best_of(
    draw: Callable[[int], Tensor], score: Callable[[Tensor], Tensor], count: int, draws: int
) -> Tensor:
    """Subsampling (SUB): draw many points and keep those with the best scores.

    Args:
        draw: function from a number of points to points, (draws, Z).
        score: function from points to scores, (draws,); NaN is the worst score.
        count: number of points to keep.
        draws: number of points to draw; in the paper 50 for 10.

    Raises:
        ValueError: if `draws` is below `count`.
    """
    if draws < count:
        raise ValueError(f"draws must be at least count, got {draws!r} and {count!r}")
    points = draw(draws)
    order = score(points).nan_to_num(-torch.inf).argsort(descending=True, stable=True)
    return points[order[:count]]


def bootstrap(
    sampler: Sampler,
    points: Tensor,
    score: Callable[[Tensor], Tensor],
    count: int,
    draws: int,
    generator: torch.Generator,
    rounds: int = 3,
) -> Tensor:
    """Bootstrapping (BOOT): repeat fitting to points and keeping the best of many draws.

    Args:
        sampler: sampler to fit.
        points: points of the first fit, (N, Z).
        score: function from points to scores; NaN is the worst score.
        count: number of points to keep in each round.
        draws: number of points to draw in each round.
        generator: random generator of the draws.
        rounds: number of rounds.

    Returns:
        The best points of the last round, (count, Z).
    """
    for _ in range(rounds):
        fitted = sampler.fit(points)
        points = best_of(lambda n, s=fitted: s.sample(n, generator), score, count, draws)  # type: ignore[misc]
    return points


def checked_points(points: Tensor) -> Tensor:
    """Return the points after checks.

    Raises:
        ValueError: if there are no points, or a value is not finite.
    """
    if points.ndim != 2 or len(points) == 0:
        raise ValueError(
            f"a sampler is fitted to at least 1 point (N, Z), got shape {tuple(points.shape)}: "
            "choose a condition that leaves rows"
        )
    if odd := int((~points.isfinite()).any(1).sum()):
        raise ValueError(f"{odd} of {len(points)} points are not finite: drop these rows")
    return points


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, GAN_WIDTH),
        nn.LeakyReLU(0.2),
        nn.Linear(GAN_WIDTH, GAN_WIDTH),
        nn.LeakyReLU(0.2),
        nn.Linear(GAN_WIDTH, outputs),
    )


def _train_adversarially(maker: nn.Module, points: Tensor, steps: int) -> None:
    """Train generator network and discriminator in turn, with binary cross-entropy."""
    discriminator = _perceptron(points.shape[1], 1)
    optimizers = [
        torch.optim.Adam(module.parameters(), GAN_LR, (0.5, 0.9))
        for module in (maker, discriminator)
    ]
    one, zero = torch.ones(GAN_BATCH, 1), torch.zeros(GAN_BATCH, 1)
    for _ in range(steps):
        made = maker(torch.randn(GAN_BATCH, GAN_NOISE))
        true = points[torch.randint(len(points), (GAN_BATCH,))]
        judged = F.binary_cross_entropy_with_logits(discriminator(true), one)
        judged = judged + F.binary_cross_entropy_with_logits(discriminator(made.detach()), zero)
        _step(optimizers[1], judged)
        _step(optimizers[0], F.binary_cross_entropy_with_logits(discriminator(made), one))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
