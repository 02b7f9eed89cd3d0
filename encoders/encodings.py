"""Sinusoidal encodings of whole numbers, such as depths and places.

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
"""

import torch
from torch import Tensor

ENCODING_STEP = 1000  # between the starts of two encodings


def encoding(positions: Tensor, width: int, start: int = 0) -> Tensor:
    """Encode whole numbers (P,) as (P, width), float32.

    As in the source, what is encoded outweighs its encoding by the root of the width.

    Args:
        positions: (P,), whole numbers.
        width: of the encoding.
        start: encodings to be summed count from different starts, because sums of equal ones
            would confuse (type 0, level 1) with (type 1, level 0).
    """
    count = (width + 1) // 2
    frequency = 1e-4 ** (torch.arange(count, device=positions.device) / count)
    angle = (positions + start * ENCODING_STEP)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width] / width**0.5
