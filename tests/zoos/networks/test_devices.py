"""Names of devices are checked before any work."""

import pytest

from weightzoo.zoos.networks.devices import device_name


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
