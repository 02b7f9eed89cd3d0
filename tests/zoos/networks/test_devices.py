"""Names of devices are checked before any work."""

import pytest
import torch

from weightzoo.zoos.networks.devices import device_name, upload


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
    for pinned in (limited, lambda self: self):
        monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
        upload(torch.ones(2), "cuda")
    assert copied == [{}, {"non_blocking": True}]
