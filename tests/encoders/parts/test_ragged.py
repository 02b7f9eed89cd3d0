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


def test_sets_of_similar_size_share_a_rectangle_and_equal_ones_need_no_mask() -> None:
    ragged = Ragged.of(STARTS, SIZES, CPU)
    shapes = {tuple(one.members.shape): one.mask is None for one in ragged.rectangles}
    assert shapes == {(3, 8): False, (1, 4): True, (2, 1): True}
    assert ragged.padded_size == 24 + 4 + 2
