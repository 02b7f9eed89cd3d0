"""Random numbers of a training: drawn from its own seed, and the caller's are left as they were.

`torch.manual_seed` is avoided, because it reseeds every GPU of the process as well.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

CPU_STATE, CUDA_STATE = "random", "cuda_random"  # names in a checkpoint


@contextmanager
def own_random_numbers(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Draw from a seed inside the block; afterwards the global generators are as before.

    Args:
        seed: seed of the global generators of the CPU and of the device.
        device: training device.
    """
    with torch.random.fork_rng(devices=_cuda_devices(device)):
        seed_random_numbers(seed, device)
        yield


def seed_random_numbers(seed: int, device: str | torch.device = "cpu") -> None:
    """Seed the global generators of the CPU and of a device, and of no other device.

    Args:
        seed: seed of both generators.
        device: training device.
    """
    torch.default_generator.manual_seed(seed)
    for gpu in _cuda_devices(device):
        with torch.cuda.device(gpu):
            torch.cuda.manual_seed(seed)


def random_state(device: str | torch.device = "cpu") -> dict[str, Any]:
    """States of the global generators that a training draws from, for its checkpoint.

    Args:
        device: training device.
    """
    cuda = [torch.cuda.get_rng_state(gpu) for gpu in _cuda_devices(device)]
    return {CPU_STATE: torch.random.get_rng_state(), CUDA_STATE: cuda}


def restore_random_state(state: Mapping[str, Any], device: str | torch.device = "cpu") -> None:
    """Restore the states in a checkpoint.

    Args:
        state: checkpoint with the entries of `random_state`; those of older versions have no state
            of a GPU.
        device: training device.
    """
    torch.random.set_rng_state(state[CPU_STATE])
    for gpu, one in zip(_cuda_devices(device), state.get(CUDA_STATE, ()), strict=False):
        torch.cuda.set_rng_state(one, gpu)


def _cuda_devices(device: str | torch.device) -> list[torch.device]:
    """The device, if it is a GPU."""
    known = torch.device(device)
    return [known] if known.type == "cuda" else []
