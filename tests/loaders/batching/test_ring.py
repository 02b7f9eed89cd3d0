"""Memory of the ring that a GPU copies from."""

from typing import Any

import pytest
import torch

from weightzoo.loaders.batching.ring import pinned_copy, pinned_memory


def test_memory_that_cannot_be_pinned_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.empty

    def limited(*shape: Any, pin_memory: bool = False) -> torch.Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory\nmore")
        return plain(*shape)

    monkeypatch.setattr(torch, "empty", limited)
    with pytest.warns(UserWarning, match="can be pinned .CUDA error: out of memory., so copies"):
        memory = pinned_memory(2, 3)
    assert memory.shape == (2, 3) and memory.dtype == torch.float32


def test_tensor_that_cannot_be_pinned_is_copied_from_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def limited(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("limit of locked memory")

    monkeypatch.setattr(torch.Tensor, "pin_memory", limited)
    given = torch.arange(3)
    with pytest.warns(UserWarning, match="raise the limit of locked memory"):
        assert pinned_copy(given) is given
