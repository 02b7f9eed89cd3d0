import pytest
import torch

from weightzoo.tasks.autoencoding.learnable_rows import top_rows
from weightzoo.tasks.generation.sampling import (
    SAMPLERS,
    GenerativeAdversarial,
    KernelDensity,
    Neighbours,
    PublishedKernelDensity,
    bandwidth_of,
    best_of,
    bootstrap,
    make_sampler,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def line(points: int = 200) -> torch.Tensor:
    """Points on a line in the plane: strongly correlated, deviations 1 and 10."""
    along = torch.randn(points, 1, generator=generator(1))
    return along * torch.tensor([1.0, 10.0]) + torch.tensor([3.0, -20.0])


def correlation(points: torch.Tensor) -> float:
    return float(torch.corrcoef(points.T)[0, 1])


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_keep_place_and_scale_and_repeat(name: str) -> None:
    sampler = make_sampler(name).fit(line())
    drawn = sampler.sample(500, generator())
    assert drawn.shape == (500, 2)
    assert torch.equal(drawn, sampler.sample(500, generator()))
    assert not torch.equal(drawn, sampler.sample(500, generator(1)))
    deviation = 2.0 if name == "uniform" else 1.0
    # Means of GANs from 24 seeds lie .22 (standard deviation) around 3, the farthest .58 away.
    assert abs(float(drawn[:, 0].mean()) - 3) < (1.0 if name == "gan" else 0.5)
    assert deviation / 2 < float(drawn[:, 0].std()) < 2 * deviation
    assert deviation / 2 < float(drawn[:, 1].std()) / 10 < 2 * deviation


@pytest.mark.parametrize("name", ["kde", "uniform"])
def test_samplers_of_single_dimensions_lose_correlation(name: str) -> None:
    assert abs(correlation(make_sampler(name).fit(line()).sample(500, generator()))) < 0.2


@pytest.mark.parametrize("name", ["gaussian", "neighbours", "kde-published"])
def test_samplers_of_the_whole_keep_correlation(name: str) -> None:
    assert correlation(make_sampler(name).fit(line()).sample(500, generator())) > 0.99


def test_bandwidth_is_in_units_of_the_deviation() -> None:
    points = line()
    drawn = KernelDensity(0.5).fit(points).sample(20_000, generator())
    wanted = points.std(0, correction=0) * (1 + 0.5**2) ** 0.5
    torch.testing.assert_close(drawn.std(0), wanted, rtol=0.03, atol=0)
    exact = KernelDensity(0.0).fit(points).sample(50, generator())
    assert all(value in points[:, 0] for value in exact[:, 0])


def test_absolute_bandwidth_is_in_the_units_of_the_points() -> None:
    points = line() * torch.tensor([1.0, 0.0])  # the second dimension has no deviation
    drawn = KernelDensity(0.5, "absolute").fit(points).sample(20_000, generator())
    wanted = (points.var(0, correction=0) + 0.5**2).sqrt()
    torch.testing.assert_close(drawn.std(0), wanted, rtol=0.03, atol=0)
    relative = KernelDensity(0.5, "relative").fit(points).sample(20, generator())
    assert torch.equal(relative[:, 1], torch.zeros(20))


def from_one_point_and_one_noise(drawn: torch.Tensor, points: torch.Tensor) -> bool:
    """Whether every draw is a point plus one number in all dimensions."""
    shifts = drawn[:, None] - points
    return bool((shifts.std(2).amin(1) < 1e-6).all())


def test_published_kde_draws_as_the_published_loop_over_dimensions() -> None:
    from sklearn.neighbors import KernelDensity as OneDimension

    points, drawn = torch.randn(30, 5, generator=generator(3)), []
    for column in points.T:  # the loop of the public code, which gives every dimension one state
        one = OneDimension(bandwidth=0.2).fit(column[:, None].numpy())
        drawn.append(torch.from_numpy(one.sample(40, random_state=42)))
    assert from_one_point_and_one_noise(torch.cat(drawn, 1).float(), points)
    ours = PublishedKernelDensity(0.2).fit(points).sample(4000, generator())
    assert from_one_point_and_one_noise(ours, points)
    assert not from_one_point_and_one_noise(
        KernelDensity(0.2).fit(points).sample(40, generator()), points
    )
    variance = points.var(0, correction=0) + 0.2**2
    torch.testing.assert_close(ours.var(0), variance, rtol=0.1, atol=0)


def test_bandwidth_is_said_with_its_unit() -> None:
    assert bandwidth_of(make_sampler("kde", 0.2, "absolute")) == {
        "bandwidth": 0.2,
        "bandwidth_unit": "absolute",
    }
    assert bandwidth_of(make_sampler("kde"))["bandwidth_unit"] == "relative"
    assert bandwidth_of(make_sampler("kde-published"))["bandwidth_unit"] == "absolute"
    assert bandwidth_of(make_sampler("uniform")) == {}


def test_neighbours_of_a_single_point_repeat_it() -> None:
    drawn = Neighbours().fit(torch.ones(1, 3)).sample(4, generator())
    assert torch.equal(drawn, torch.ones(4, 3))


def test_gan_leaves_the_global_generator() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    GenerativeAdversarial(steps=2).fit(line())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_refuse_what_they_cannot_fit(name: str) -> None:
    with pytest.raises(ValueError, match=r"at least 1 point \(N, Z\), got shape \(0, 2\)"):
        make_sampler(name).fit(torch.zeros(0, 2))
    with pytest.raises(ValueError, match="1 of 2 points are not finite"):
        make_sampler(name).fit(torch.tensor([[1.0, 2.0], [torch.nan, 1.0]]))


def test_unknown_samplers_and_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="sampler must be one of .*'kde'.*got 'vae'"):
        make_sampler("vae")
    with pytest.raises(ValueError, match="bandwidth must be at least 0"):
        KernelDensity(-1)
    with pytest.raises(ValueError, match="bandwidth unit must be one of .*'absolute'.*got 'mm'"):
        KernelDensity(0.1, "mm")
    with pytest.raises(ValueError, match="'gan' has no bandwidth: leave out .*'kde-published'"):
        make_sampler("gan", 0.1)
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        Neighbours(0)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        top_rows(torch.rand(4), 0)


def test_top_rows_are_the_best_in_order() -> None:
    accuracy = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.6, 0.5, 0.4, 0.0])
    assert top_rows(accuracy, 0.3).tolist() == [1, 3, 5]
    assert top_rows(accuracy, 1).tolist() == list(range(10))


def test_best_of_keeps_the_best_and_counts_nan_as_worst() -> None:
    points = torch.tensor([[1.0], [torch.nan], [3.0], [2.0]])
    kept = best_of(lambda count: points[:count], lambda drawn: drawn[:, 0], 2, 4)
    assert kept.flatten().tolist() == [3.0, 2.0]
    with pytest.raises(ValueError, match="draws must be at least count"):
        best_of(lambda count: points, lambda drawn: drawn[:, 0], 4, 2)


def test_bootstrap_climbs_towards_better_points() -> None:
    points = torch.randn(100, 2, generator=generator(2))

    def score(drawn: torch.Tensor) -> torch.Tensor:
        return -(drawn - 2).norm(dim=1)

    once = best_of(
        lambda count: KernelDensity(0.1).fit(points).sample(count, generator()), score, 10, 50
    )
    climbed = bootstrap(KernelDensity(0.1), points, score, 10, 50, generator(), rounds=4)
    assert score(climbed).mean() > score(once).mean()
