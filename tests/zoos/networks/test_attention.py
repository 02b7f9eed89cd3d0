"""Attention over more sets than one CUDA call takes."""

import pytest
import torch
from torch.nn import functional as F

from weightzoo.zoos.networks import attention


@pytest.mark.parametrize("masked", [False, True])
def test_attention_of_many_sets_equals_one_call(
    masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, key, value = torch.randn(3, 7, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(5) < torch.arange(1, 8)[:, None])[:, None, None] if masked else None
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    calls: list[int] = []

    def counted(*tensors: torch.Tensor, **options: torch.Tensor | None) -> torch.Tensor:
        calls.append(len(tensors[0]))
        return F.scaled_dot_product_attention(*tensors, **options)

    monkeypatch.setattr(attention, "MOST_SETS", 3)
    monkeypatch.setattr(attention, "F", type("F", (), {"scaled_dot_product_attention": counted}))
    found = attention.fused_attention(query, key, value, mask)
    assert calls == [3, 3, 1]
    torch.testing.assert_close(found, expected)
