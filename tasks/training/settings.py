"""Training settings of encoders, the ranges that all settings keep to, and the learning rate."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..scoring.targets import LOSSES
from .invariance import GROUPS
from .weight_scaling import SCALINGS

PENALISED_OUTPUTS = ("prediction", "embedding")
SELECTIONS = ("auto", "tau_b", "mse", "accuracy")
WARMUP = 0.1  # share of all steps in which the learning rate rises


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How an encoder is trained; one trainer and one set of settings for all encoders.

    Attributes:
        epochs: passes over the train rows, at most.
        batch_size: rows per step, all of one architecture.
        lr: peak learning rate of AdamW; it rises linearly, then falls as a cosine to 0.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        patience: epochs without a better score on val after which training stops.
        loss: one of `targets.LOSSES`.
        select: what is best on val, one of `SELECTIONS`: "auto" takes tau_b for numbers and
            accuracy for categories; of several zoos the mean of their scores.
        scaling: one of `weight_scaling.SCALINGS`: "tensor" for one architecture, "fan_in" for
            several or for others than those trained on.
        averaging: share of the averaged weights that every step keeps; they predict, the last
            ones are too noisy.
        invariance: weight nu of the logit-invariance penalty; 0 trains without.
        invariance_on: one of `PENALISED_OUTPUTS`, whose distance is penalised.
        permutations: one of `invariance.GROUPS`; "uncoupled" is the control with wrong ones.
        mixed_precision: compute in bfloat16 where that is faster, on a CUDA device.
        compile: compile the encoder with `torch.compile`.
        threads: of torch on the CPU while it trains and predicts; two on two busy cores made the
            steps of a small encoder five times slower than one.
        device: where to train; equal seeds give equal results on a CPU.
        progress: whether to show progress on stderr.
    """

    epochs: int = 10
    batch_size: int = 16
    lr: float = 6e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    patience: int = 10
    loss: str = "auto"
    select: str = "auto"
    scaling: str = "tensor"
    averaging: float = 0.98
    invariance: float = 0.0
    invariance_on: str = "prediction"
    permutations: str = "hidden"
    mixed_precision: bool = True
    compile: bool = False
    threads: int = 1
    device: str = "cpu"
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse unknown words and numbers out of range."""
        for key, allowed in {
            "loss": LOSSES,
            "select": SELECTIONS,
            "scaling": SCALINGS,
            "invariance_on": PENALISED_OUTPUTS,
            "permutations": GROUPS,
        }.items():
            if (value := getattr(self, key)) not in allowed:
                raise ValueError(f"{key} must be one of {allowed}, got {value!r}")
        # batch norm needs two rows
        check_least(self, {"epochs": 1, "patience": 1, "threads": 1, "batch_size": 2})
        check_positive(self, "lr", "clip")
        for key in ("invariance", "weight_decay"):
            if not 0 <= (value := getattr(self, key)) < math.inf:
                raise ValueError(f"{key} must be a number from 0, got {value!r}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging must lie in [0, 1), got {self.averaging!r}")


def check_least(settings: Any, least: Mapping[str, int]) -> None:
    """Refuse numbers below a bound.

    Args:
        settings: an object with the numbers as attributes.
        least: the smallest allowed value by attribute.

    Raises:
        ValueError: if one is below.
    """
    for name, smallest in least.items():
        if (value := getattr(settings, name)) < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value!r}")


def check_positive(settings: Any, *names: str) -> None:
    """Refuse attributes that are not positive and finite.

    Raises:
        ValueError: if one is not.
    """
    for name in names:
        if not 0 < (value := getattr(settings, name)) < math.inf:
            raise ValueError(f"{name} must be a positive number, got {value!r}")


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate by step: a linear rise, then half a cosine down to 0."""
    rise = max(1, round(WARMUP * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor
