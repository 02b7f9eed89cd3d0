import pytest
import torch
from torch import Tensor

from weightzoo.encoders.parts.ragged import Ragged

CPU = torch.device("cpu")
SIZES = torch.tensor([5, 1, 8, 4, 7, 1])
STARTS = SIZES.cumsum(0) - SIZES


def sums(sets: Tensor, mask: Tensor | None, _: object) -> Tensor:
    return (sets if mask is None else sets * mask[..., None]).sum(dim=1)


def test_every_set_is_mapped_once_and_in_order() -> None:
    rows = torch.randn(2, int(SIZES.sum()), 3, generator=torch.Generator().manual_seed(0))
    got = Ragged.of(STARTS, SIZES, CPU).map(rows, sums)
    want = torch.stack([part.sum(dim=1) for part in rows.split(SIZES.tolist(), dim=1)], dim=1)
    torch.testing.assert_close(got, want)


def test_frequent_sizes_are_apart_and_rare_ones_share_a_rectangle() -> None:
    sizes = torch.tensor([25] * 56 + [32] * 31 + [20, 16, 10, 8, 8, 6, 4])
    ragged = Ragged.of(sizes.cumsum(0) - sizes, sizes, CPU)
    shapes = {tuple(one.members.shape): one.mask is None for one in ragged.rectangles}
    assert shapes == {(31, 32): True, (58, 25): False, (5, 10): False}


def test_few_small_sets_share_one_rectangle() -> None:
    [rectangle] = Ragged.of(STARTS, SIZES, CPU).rectangles
    assert rectangle.members.shape == (6, 8) and rectangle.mask is not None
    assert rectangle.mask.sum() == SIZES.sum()


@pytest.mark.parametrize("seed", range(5))
def test_padding_is_less_than_the_elements(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for count in (1, 3, 10, 300):
        sizes = (torch.rand(count, generator=generator) ** 4 * 200).long() + 1
        ragged = Ragged.of(sizes.cumsum(0) - sizes, sizes, CPU)
        assert sizes.sum() <= ragged.padded_size < 2 * sizes.sum()
        got = ragged.map(torch.ones(1, int(sizes.sum()), 1), sums)
        assert torch.equal(got[0, :, 0], sizes.float())
