"""Augmentations: stated sizes, masks respected, repeatable, inputs left alone."""

import pytest
import torch
from torch import Tensor

from weightzoo.loaders.transforms.augmentations import (
    AdditiveNoise,
    Augmentation,
    Compose,
    Erasing,
    MultiplicativeNoise,
    Permute,
)
from weightzoo.loaders.transforms.permutations import HiddenPermutations
from weightzoo.zoos.recipe import load_recipe
from weightzoo.zoos.tokens.neurons import Neurons

ARCHITECTURE = load_recipe("digits-cnn").architecture
NEURONS = Neurons(ARCHITECTURE.layer_table())
MASK = NEURONS.shared["mask"]
ALL = [AdditiveNoise(0.1), MultiplicativeNoise(0.1), Erasing(1.0), Erasing(1.0, span="tokens")]
IDS = ["additive", "multiplicative", "values", "tokens"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(models: int = 4) -> Tensor:
    """Neurons with -5 in the padding, which nothing may change."""
    values = NEURONS(torch.randn(models, 2464, generator=generator(1)) + 3)["values"].clone()
    return values.masked_fill_(~MASK, -5)


@pytest.mark.parametrize("augmentation", ALL, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_and_input_stay_as_they_are(augmentation: Augmentation, dtype: torch.dtype) -> None:
    values = tokens().to(dtype)
    before = values.clone()
    changed = augmentation(values, generator(), MASK)
    assert torch.equal(values, before) and changed.dtype == dtype
    assert (changed[:, ~MASK] == -5).all()
    assert (changed != before)[:, MASK].any(1).all()


@pytest.mark.parametrize("augmentation", ALL[:3], ids=IDS[:3])
def test_equal_generators_give_equal_batches_also_flat(augmentation: Augmentation) -> None:
    flat = torch.randn(5, 100)
    one, other = (augmentation(flat, generator(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, augmentation(flat, generator(4)))


def test_noise_has_the_stated_deviation() -> None:
    values = torch.full((100, 1000), 4.0)
    added = AdditiveNoise(0.5)(values, generator()) - values
    factor = MultiplicativeNoise(0.5)(values, generator()) / values
    assert added.mean().abs() < 0.01 and (added.std() - 0.5).abs() < 0.01
    assert (factor.mean() - 1).abs() < 0.01 and (factor.std() - 0.5).abs() < 0.01
    assert torch.equal(MultiplicativeNoise(0.5)(torch.zeros(9, 9), generator()), torch.zeros(9, 9))


def test_erased_values_are_one_span_of_a_share_within_the_scale() -> None:
    values = torch.ones(2000, 100)
    erased = Erasing(1.0, (0.1, 0.3))(values, generator()) == 0
    lengths = erased.sum(1)
    assert (int(lengths.min()), int(lengths.max())) == (10, 30)
    assert (erased.int().diff(dim=1) == 1).sum(1).max() <= 1
    assert ((erased.int().diff(dim=1) != 0).sum(1) <= 2).all()
    assert erased[:, 0].any() and erased[:, -1].any()


def test_span_of_values_runs_on_over_padding() -> None:
    erased = Erasing(1.0, (0.2, 0.2))(tokens(), generator(), MASK) == 0
    flat = erased[:, MASK]
    assert flat.sum(1).tolist() == [round(0.2 * 2464)] * 4
    assert ((flat.int().diff(dim=1) != 0).sum(1) <= 2).all()
    assert not erased[:, ~MASK].any()


def test_span_of_tokens_takes_whole_tokens() -> None:
    values = tokens()
    erased = (Erasing(1.0, (0.25, 0.25), 7.0, "tokens")(values, generator(), MASK) == 7.0) & MASK
    whole = erased.any(2)
    assert torch.equal(erased, whole[..., None] & MASK)
    assert whole.sum(1).tolist() == [12] * 4
    assert ((whole.int().diff(dim=1) != 0).sum(1) <= 2).all()


def test_masks_may_differ_by_model_and_hide_whole_tokens() -> None:
    mask = MASK.repeat(3, 1, 1)
    mask[0, :40], mask[1] = False, False
    erased = Erasing(1.0, (1.0, 1.0), 7.0, "tokens")(tokens(3), generator(), mask) == 7.0
    assert torch.equal(erased, mask)


def test_probability_is_the_share_of_models_that_lose_something() -> None:
    erased = Erasing(0.5)(torch.ones(4000, 50), generator()) == 0
    assert abs(float(erased.any(1).float().mean()) - 0.5) < 0.03
    assert not (Erasing(0.0)(torch.ones(50, 50), generator()) == 0).any()


def test_composition_applies_its_steps_in_order() -> None:
    values = tokens()
    both = Compose([MultiplicativeNoise(0.1), Erasing(1.0)])(values, generator(8), MASK)
    shared = generator(8)
    noisy = MultiplicativeNoise(0.1)(values, shared, MASK)
    assert torch.equal(both, Erasing(1.0)(noisy, shared, MASK))


def test_permute_draws_a_permutation_for_each_model() -> None:
    permutations = HiddenPermutations.of(ARCHITECTURE)
    weights = torch.randn(3, 2464)
    drawn = permutations.random_permutations(generator(6), 3)
    permuted = Permute(permutations)(weights, generator(6))
    assert torch.equal(permuted, permutations.apply(weights, drawn))


def test_erasing_rejects_impossible_settings() -> None:
    with pytest.raises(ValueError, match=r"probability and scale .* got 2 and \(0.02, 0.33\)"):
        Erasing(2)
    with pytest.raises(ValueError, match=r"scale in order, got 0.5 and \(0.5, 0.2\)"):
        Erasing(scale=(0.5, 0.2))
    with pytest.raises(ValueError, match="span must be one of .* got 'rows'"):
        Erasing(span="rows")
    with pytest.raises(ValueError, match="use span='values'"):
        Erasing(span="tokens")(torch.ones(2, 9), generator())
