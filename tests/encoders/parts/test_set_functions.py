import pytest
import torch
from torch import nn

from weightzoo.encoders.parts.set_functions import MAB, PMA, SetToSet


def attend(block: MAB, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """MAB for one set, head by head, as the formula says."""
    assert block.key is not None
    query, key, value = block.query(x), block.key(y), block.value(y)
    width = query.shape[-1] // block.heads
    heads = [slice(start, start + width) for start in range(0, query.shape[-1], width)]
    parts = [
        torch.softmax(query[:, head] @ key[:, head].T / width**0.5, dim=1) @ value[:, head]
        for head in heads
    ]
    hidden = block.attention_norm(query + torch.cat(parts, dim=1))
    return block.norm(hidden + torch.relu(block.feed_forward(hidden)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("set_width", "heads", "shared"), [(5, 2, False), (5, 2, True), (1, 2, False), (8, 1, False)]
)
def test_mab_is_its_formula(set_width: int, heads: int, shared: bool, masked: bool) -> None:
    block = MAB(3, set_width, 8, heads, shared_queries=shared).double()
    assert block.key is not None
    nn.init.normal_(block.key.bias)  # must not matter
    x = torch.randn(4, 3, dtype=torch.float64)
    y = torch.randn(6, set_width, dtype=torch.float64)
    filled = torch.arange(6) < (4 if masked else 6)
    got = block(x[None], y[None], filled[None])[0]
    torch.testing.assert_close(got, attend(block, x, y[filled]))


def test_blocks_of_scalars_and_shared_queries_do_not_project_their_sets() -> None:
    to_set, pool = SetToSet(1, 8, 2), PMA(8, 2)
    kinds = [block.block.unprojected for block in to_set.blocks]  # type: ignore[union-attr]
    assert kinds == [True, False] and pool.block.unprojected


@pytest.mark.parametrize("filled", [6, 4])
def test_a_block_without_heads_takes_the_mean_of_its_set(filled: int) -> None:
    block = MAB(3, 5, 8, heads=0).double()
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    hidden = block.attention_norm(block.query(x) + block.value(y[:filled]).mean(0))
    want = block.norm(hidden + torch.relu(block.feed_forward(hidden)))
    got = block(x[None], y[None], None if filled == 6 else torch.arange(6)[None] < filled)[0]
    torch.testing.assert_close(got, want)


def test_pre_norm_keeps_sizes_that_post_norm_takes_away() -> None:
    """Elements ten times as large stay larger behind a block whose residual has no norm."""
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    for norm, grows in (("pre", True), ("post", False)):
        block = MAB(8, 8, 8, 2, norm).double()
        ratio = block(10 * x, 10 * x, None).norm() / block(x, x, None).norm()
        assert (ratio > 2) == grows


def test_mab_without_mask_is_mab_with_a_full_one() -> None:
    block, x = MAB(8, 8, 8, 2), torch.randn(3, 5, 8)
    full = torch.ones(3, 5, dtype=torch.bool)
    torch.testing.assert_close(block(x, x, None), block(x, x, full))


def test_mab_rejects_unknown_norms_and_widths_that_pre_norm_cannot_join() -> None:
    with pytest.raises(ValueError, match="norm must be one of"):
        MAB(8, 8, 8, 2, "batch")
    with pytest.raises(ValueError, match="one width"):
        MAB(1, 8, 8, 2, "pre")


def test_mab_rejects_heads_that_do_not_divide_width() -> None:
    with pytest.raises(ValueError, match="width 8 and heads 3"):
        MAB(1, 1, 8, 3)


def test_set_functions_do_not_see_padding() -> None:
    to_set, pool = SetToSet(1, 8, 2).double(), PMA(8, 2).double()
    values = torch.randn(2, 5, 1, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([[3], [5]])
    other = values.clone()
    other[0, 3:] = 100.0
    got, want = to_set(other, mask), to_set(values, mask)
    torch.testing.assert_close(got[mask], want[mask])
    torch.testing.assert_close(pool(got, mask), pool(want, mask))
    alone = to_set(values[:1, :3], mask[:1, :3])
    torch.testing.assert_close(alone[0], want[0, :3])


def test_set_to_set_moves_with_its_elements_and_pooling_ignores_their_order() -> None:
    to_set, pool = SetToSet(1, 8, 2).double(), PMA(8, 2).double()
    values, order = torch.randn(1, 5, 1, dtype=torch.float64), torch.tensor([3, 0, 4, 1, 2])
    mask = torch.ones(1, 5, dtype=torch.bool)
    got, want = to_set(values[:, order], mask), to_set(values, mask)
    torch.testing.assert_close(got, want[:, order])
    torch.testing.assert_close(pool(got, mask), pool(want, mask))
    assert not torch.allclose(pool(want + values, mask), pool(want, mask))
