"""Training settings of encoders, range checks of all settings, and the learning rate schedule."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..scoring.targets import LOSSES
from .invariance import GROUPS
from .weight_scaling import SCALINGS

PENALISED_OUTPUTS = ("prediction", "embedding")
SELECTIONS = ("auto", "tau_b", "mse", "accuracy")
WARMUP = 0.1  # share of all steps in which the learning rate rises


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `weightzoo train`.

    Attributes:
        zoos: one zoo, or several zoos of any architectures.
        out: folder for the checkpoint and the trained encoder.
        target: name of the column to predict, by an autoencoder with a probe.
        rows: checkpoints to use, "all" or only the "last" one of each model.
        seed: seed of the training.
        resume: whether to continue from a checkpoint in `out`.
        config: arguments of the encoder.
        settings: fields of the training settings that differ from the defaults.
        behaviour: share of the behavioural loss of an autoencoder, from 0 to 1; None takes the
            default of its kind.
    """

    zoos: Sequence[str | Path]
    out: Path
    target: str = "test_accuracy"
    rows: str = "all"
    seed: int = 0
    resume: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    behaviour: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Training settings, the same for all encoders.

    Attributes:
        epochs: largest number of passes over the train rows.
        batch_size: rows per step, all of one architecture.
        lr: peak learning rate of AdamW; it rises linearly, then falls as a cosine to 0.
        weight_decay: weight decay of AdamW.
        clip: largest norm of the gradient.
        patience: number of epochs without a better val score after which training stops.
        loss: one of `targets.LOSSES`.
        select: score on the val split that chooses the epoch, one of `SELECTIONS`: "auto" takes
            tau_b (Kendall's rank correlation) for numbers and accuracy for categories. With
            several zoos it is the mean of their scores.
        scaling: one of `weight_scaling.SCALINGS`: "tensor" for one architecture, "fan_in" for
            several architectures or for prediction on others.
        averaging: decay of the exponential moving average of the weights. The averaged weights
            predict, since the last weights are too noisy.
        invariance: weight nu of the logit-invariance penalty; 0 trains without the penalty.
        invariance_on: output that the penalty is computed on, one of `PENALISED_OUTPUTS`.
        augment: whether to reorder the hidden units of every model at random, anew in every step;
            this keeps the function of a network, and makes more of few models. It does nothing
            for zoos without a known architecture, as the record of the training says.
        permutations: reordering of the penalty and of `augment`, one of `invariance.GROUPS`;
            "uncoupled" is the negative control, with permutations that change the function.
        mixed_precision: whether to compute in bfloat16 on a CUDA device. Off by default: on 128
            randomly initialised CNN-s, bfloat16 moved the outputs of untrained SNEs by .58 of
            their deviation between models (median, 3 seeds, measured on a CPU).
        compile: whether to compile the encoder with `torch.compile`.
        threads: number of torch threads on the CPU in training and prediction. On two busy cores,
            steps of a small encoder with two threads took five times as long as with one.
        device: training device; equal seeds give equal results on a CPU.
        progress: whether to show progress on stderr.

    Example:
        >>> from weightzoo.tasks import TrainingSettings
        >>> TrainingSettings(epochs=3, lr=1e-3).epochs
        3
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
    augment: bool = False
    permutations: str = "hidden"
    mixed_precision: bool = False
    compile: bool = False
    threads: int = 1
    device: str = "cpu"
    progress: bool = True

    def __post_init__(self) -> None:
        """Check choices and ranges.

        Raises:
            ValueError: if a choice is unknown or a number is out of range.
        """
        allowed = {
            "loss": LOSSES,
            "select": SELECTIONS,
            "scaling": SCALINGS,
            "invariance_on": PENALISED_OUTPUTS,
            "permutations": GROUPS,
        }
        check_choices(self, allowed)
        # batch norm needs two rows
        check_least(self, {"epochs": 1, "patience": 1, "threads": 1, "batch_size": 2})
        check_positive(self, "lr", "clip")
        for key in ("invariance", "weight_decay"):
            if not 0 <= (value := getattr(self, key)) < math.inf:
                raise ValueError(f"{key} must be at least 0 and finite, got {value!r}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging must lie in [0, 1), got {self.averaging!r}")


def check_choices(settings: Any, allowed: Mapping[str, Sequence[str]]) -> None:
    """Reject settings that are none of their choices.

    Args:
        settings: settings with an attribute of every name.
        allowed: choices by name.

    Raises:
        ValueError: if a setting is none of its choices.
    """
    for name, choices in allowed.items():
        if (value := getattr(settings, name)) not in choices:
            raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def check_least(settings: Any, least: Mapping[str, int]) -> None:
    """Reject numbers below a bound.

    Args:
        settings: object with the numbers as attributes.
        least: smallest allowed value by attribute name.

    Raises:
        ValueError: if a number is below its bound.
    """
    for name, smallest in least.items():
        if (value := getattr(settings, name)) < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value!r}")


def check_positive(settings: Any, *names: str) -> None:
    """Reject attributes that are not positive and finite.

    Args:
        settings: object with the numbers as attributes.
        names: names of the attributes.

    Raises:
        ValueError: if a number is not positive or not finite.
    """
    for name in names:
        if not 0 < (value := getattr(settings, name)) < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value!r}")


def adamw(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that updates all parameters in one call, which small encoders spend a tenth less on.

    Args:
        parameters: parameters to train.
        lr: peak learning rate.
        weight_decay: weight decay.
    """
    parameters = list(parameters)
    fused = all(parameter.is_floating_point() for parameter in parameters)
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=fused)


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate by step: a linear rise, then half a cosine down to 0."""
    rise = max(1, round(WARMUP * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor
