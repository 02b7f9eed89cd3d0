"""Learning rate schedules over all steps of training, as in torch.optim.lr_scheduler.

"onecycle" is OneCycleLR and "cosine" CosineAnnealingLR with torch's defaults, stepped after
every batch. Both scale a model's own learning rate, so that one number serves all models.
Source of the one-cycle policy: Smith & Topin 2017, arXiv:1708.07120.
"""

import math
from dataclasses import dataclass

RISE = 0.3  # share of the steps in which the learning rate rises
START, END = 1 / 25, 1 / 25 / 1e4  # of the largest rate, at the first and the last step
LOW_MOMENTUM, HIGH_MOMENTUM = 0.85, 0.95


@dataclass(frozen=True)
class ScheduledStep:
    """Learning rate factor and momentum of one training step.

    Attributes:
        rate: factor by which the learning rate is multiplied.
        momentum: momentum of SGD, or beta1 of Adam; None keeps the model's own.
    """

    rate: float
    momentum: float | None = None


def scheduled_step(schedule: str, step: int, steps: int) -> ScheduledStep:
    """Learning rate factor and momentum that a schedule sets for one step.

    Args:
        schedule: "constant", "onecycle" or "cosine".
        step: number of the step, from 0.
        steps: number of steps in the whole training.

    Raises:
        ValueError: if the schedule is unknown.
    """
    if schedule == "onecycle":
        return _one_cycle(step, steps)
    if schedule == "cosine":
        return ScheduledStep((1 + math.cos(math.pi * step / steps)) / 2)
    if schedule == "constant":
        return ScheduledStep(1.0)
    raise ValueError(f"schedule must be constant, onecycle or cosine, got {schedule!r}")


def _one_cycle(step: int, steps: int) -> ScheduledStep:
    top, last = RISE * steps - 1, steps - 1
    if step <= top:
        share = step / top
        return ScheduledStep(
            _anneal(START, 1.0, share), _anneal(HIGH_MOMENTUM, LOW_MOMENTUM, share)
        )
    share = (step - top) / (last - top)
    return ScheduledStep(_anneal(1.0, END, share), _anneal(LOW_MOMENTUM, HIGH_MOMENTUM, share))


def _anneal(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
