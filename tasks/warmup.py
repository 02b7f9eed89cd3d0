"""The learning rate of encoders and autoencoders over the steps of a training."""

import math
from collections.abc import Callable

WARMUP = 0.1  # share of all steps in which the learning rate rises


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate by step: a linear rise, then half a cosine down to 0."""
    rise = max(1, round(WARMUP * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor
