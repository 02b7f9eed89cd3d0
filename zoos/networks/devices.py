"""Names of compute devices, a CPU or a CUDA GPU, and copies to them.

Nothing else is accepted: on other devices of torch, such as "mps" and "xpu", no part of the
package was tested, and some fail hours into the work.
"""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def device_name(device: str, here: bool = True) -> str:
    """Check the name of a device, before any work, and return it in its short form.

    Args:
        device: "cpu", "cuda" or "cuda:NUMBER"; "cpu:0" is a second name of "cpu".
        here: whether the device must exist on this machine.

    Returns:
        "cpu", "cuda" or "cuda:NUMBER".

    Raises:
        ValueError: if the name is unknown, or this machine has no such device.

    Example:
        >>> from weightzoo.zoos.networks.devices import device_name
        >>> device_name("cpu:0")
        'cpu'
    """
    if device == "cpu":  # without torch, whose import takes a second
        return device
    import torch

    try:
        known = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(_unknown(device)) from error
    if known.type not in ("cpu", "cuda"):
        raise ValueError(_unknown(device))
    try:
        if here:
            torch.empty(1, device=known)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        raise ValueError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}): torch finds "
            f"{torch.cuda.device_count()} CUDA devices; cpu always works"
        ) from error
    return "cpu" if known.type == "cpu" else str(known)


def hardware_name(device: str) -> str:
    """Name of the hardware behind a device, for provenance: "cpu", or the model of the GPU.

    Args:
        device: "cpu", "cuda" or "cuda:NUMBER", as `device_name` returns it.
    """
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(device)


def upload(tensor: "Tensor", device: "torch.device | str") -> "Tensor":
    """Copy a tensor to a device. The program does not wait for what the device has left to do.

    Args:
        tensor: tensor to copy; one that is on the device already is returned.
        device: device of the copy.
    """
    import torch

    target = torch.device(device)
    if tensor.is_cuda or target.type != "cuda":
        return tensor.to(target)
    return pinned_copy(tensor).to(target, non_blocking=True)  # a copy of plain memory is waited for


def pinned_memory(*shape: int) -> "Tensor":
    """Uninitialised float32 in memory that a GPU copies from by itself, or in plain memory.

    The system limits how much may be pinned. Copies from plain memory are slower and are waited
    for.

    Args:
        *shape: shape of the tensor.
    """
    import torch

    try:
        return torch.empty(shape, pin_memory=True)
    except RuntimeError as error:
        _warn_unpinned(error)
        return torch.empty(shape)


def pinned_copy(tensor: "Tensor") -> "Tensor":
    """A copy of a tensor in pinned memory, or the tensor itself where none can be pinned."""
    try:
        return tensor.pin_memory()
    except RuntimeError as error:
        _warn_unpinned(error)
        return tensor


def _warn_unpinned(error: RuntimeError) -> None:
    warnings.warn(
        f"no memory can be pinned ({str(error).splitlines()[0]}), so copies to the GPU are slower: "
        "raise the limit of locked memory, or take smaller batches",
        stacklevel=3,
    )


def _unknown(device: object) -> str:
    return f"device must be cpu, cuda or cuda:NUMBER, got {device!r}"
