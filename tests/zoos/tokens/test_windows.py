"""Windows: contiguous tokens, one draw for two views, stitched back without the halo."""

import pytest
import torch
from torch import nn

from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.tokens.chunks import Chunks
from weightzoo.zoos.tokens.neurons import Neurons, RowChunks
from weightzoo.zoos.tokens.tokenizers import Tokenizer
from weightzoo.zoos.tokens.windows import Windows

TABLE = LayerTable.from_module(
    nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(7, 5, bias=False))
)
TOKENIZERS = [Chunks(TABLE, 6), Neurons(TABLE), RowChunks(TABLE, 5)]
WEIGHTS = torch.randn(3, TABLE.width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["chunks", "neurons", "row-chunks"])
@pytest.mark.parametrize(("length", "halo"), [(1, 0), (4, 0), (5, 3), (7, 40), (500, 0), (500, 2)])
def test_windows_of_a_model_are_stitched_back_exactly(
    tokenizer: Tokenizer, length: int, halo: int
) -> None:
    windows = Windows(tokenizer, length, halo)
    cut = windows.split(WEIGHTS)
    assert cut["values"].shape == (3, windows.count, length + 2 * halo, tokenizer.shape[1])
    cut["values"][:, :, :halo] = cut["values"][:, :, halo + length :] = 99.0  # what is cut off
    assert torch.equal(windows.stitch(cut["values"]), tokenizer(WEIGHTS)["values"])
    assert torch.equal(windows.inverse(cut["values"]), WEIGHTS)


def test_window_holds_the_tokens_from_its_start_with_their_columns() -> None:
    windows = Windows(TOKENIZERS[1], 6, halo=1)
    tokens = TOKENIZERS[1](WEIGHTS)
    cut = windows(WEIGHTS, torch.tensor([2, 9, 5]))
    for model, start in enumerate([2, 9, 5]):
        span = slice(start - 1, start + 7)
        assert torch.equal(cut["values"][model], tokens["values"][model, span])
        for key in ("mask", "kind", "role", "level", "position"):
            assert torch.equal(cut[key][model], tokens[key][span]), key


def test_halo_beyond_the_ends_is_masked_and_zero() -> None:
    windows = Windows(TOKENIZERS[1], 20, halo=4)  # 22 tokens
    cut = windows(WEIGHTS, torch.tensor([0, 2, 1]))
    outside = torch.zeros(3, 28, dtype=torch.bool)
    outside[0, :4], outside[1, :2], outside[2, :3] = True, True, True
    outside[0, 26:], outside[1, 24:], outside[2, 25:] = True, True, True
    assert not cut["mask"][outside].any() and cut["mask"][~outside].any(1).all()
    assert not cut["values"][outside].any()
    assert 0 <= int(cut["position"][..., 0].min()) <= int(cut["position"][..., 0].max()) <= 21


def test_two_views_share_the_drawn_windows() -> None:
    windows = Windows(TOKENIZERS[2], 4)
    starts = windows.random_starts(3, torch.Generator().manual_seed(1))
    one, other = windows(WEIGHTS, starts), windows(-WEIGHTS, starts)
    assert torch.equal(one["values"], -other["values"])
    assert torch.equal(one["position"], other["position"])


def test_random_starts_reach_every_window_and_repeat_with_the_seed() -> None:
    windows = Windows(TOKENIZERS[1], 20, halo=3)
    draws = [windows.random_starts(200, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)
    assert sorted(set(draws[0].tolist())) == [0, 1, 2]
    longer = Windows(TOKENIZERS[1], 23)
    assert not longer.random_starts(5, torch.Generator()).any()


def test_windows_reject_wrong_sizes_starts_and_values() -> None:
    windows = Windows(TOKENIZERS[1], 4, 1)
    with pytest.raises(ValueError, match="length must be a whole number from 1, got 0"):
        Windows(TOKENIZERS[1], 0)
    with pytest.raises(ValueError, match="halo must be a whole number from 0, got -1"):
        Windows(TOKENIZERS[1], 4, -1)
    with pytest.raises(ValueError, match=r"starts must have shape \(3,\)"):
        windows(WEIGHTS, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"values must have shape \(B, 6, 6, 13\)"):
        windows.stitch(torch.zeros(3, 6, 5, 13))
