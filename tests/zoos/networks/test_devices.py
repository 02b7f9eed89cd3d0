"""Names of devices are checked before any work."""

from typing import Any

import pytest
import torch

from weightzoo.zoos.networks.devices import device_name, pinned_copy, pinned_memory, upload


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "gpu", "cuda:x", ""])
def test_device_other_than_cpu_and_cuda_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"must be cpu, cuda or cuda:NUMBER, got {name!r}"):
        device_name(name)


def test_second_names_of_a_device_become_its_short_name() -> None:
    assert device_name("cpu:0") == device_name("cpu") == "cpu"
    assert device_name("cuda:1", here=False) == "cuda:1"


def test_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'cuda:99' cannot be used here .* cpu always works"):
        device_name("cuda:99")


def test_upload_without_memory_to_lock_still_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = list[dict[str, bool]]()

    def limited(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("cannot allocate pinned memory")

    def to(self: torch.Tensor, device: torch.device, **how: bool) -> torch.Tensor:
        copied.append(how)
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "pin_memory", limited)
    with pytest.warns(UserWarning, match="cannot allocate pinned memory"):
        upload(torch.ones(2), "cuda")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    upload(torch.ones(2), "cuda")
    assert copied == 2 * [{"non_blocking": True}]


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
