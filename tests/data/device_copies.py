"""Counts copies from the CPU to the device that stands for an accelerator in tests, "meta"."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

COPIES = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}
"""Operators that copy, with the index of their source among the arguments."""


class DeviceCopies(TorchDispatchMode):
    """Counts copies inside the block.

    Attributes:
        count: number of copies from the CPU to "meta".
    """

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count it if it copies."""
        result = func(*args, **(kwargs or {}))
        if func in COPIES:
            source = args[COPIES[func]]
            self.count += source.device.type == "cpu" and result.device.type == "meta"
        return result
