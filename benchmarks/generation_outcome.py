"""What the generation benchmark is asked and what it gives: settings, jobs, rows.

Shape letters: M models, K epochs.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..tasks.autoencoding.autoencoder_training import AutoencoderSettings
from ..tasks.generation.measures import EPOCHS, MeasuredSet

PUBLISHED_KDE = "S_KDE30 as in the published code"


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """What the benchmark runs.

    Attributes:
        seeds: one run of everything each.
        models: M of each method and seed.
        epochs: of fine-tuning, for the methods of the published table.
        few_epochs: of fine-tuning, for all others.
        structure: of the autoencoders trained on weights alone.
        behaviour: of the autoencoder trained on logits too.
        least_epoch: of the zoo's rows to learn from; None takes the last fifth of training.
        least_rows: on fewer, autoencoders are trained for as many epochs more.
        transfer: another image set with the same shape and classes, or None.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    models: int = 8
    epochs: tuple[int, ...] = EPOCHS
    few_epochs: tuple[int, ...] = (0, 1)
    structure: AutoencoderSettings
    behaviour: AutoencoderSettings
    least_epoch: int | None = None
    least_rows: int = 800
    transfer: str | None = None


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One method with one seed.

    Attributes:
        method: its name in the table.
        seed: of the run.
        images: on which it was fine-tuned and tested.
        architecture: of the models.
        found: what was measured.
    """

    method: str
    seed: int
    images: str
    architecture: str
    found: MeasuredSet


@dataclass(frozen=True)
class Job:
    """A part of the benchmark that one process runs: a name in `JOBS`, and its seed."""

    name: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a job gives.

    Attributes:
        rows: the methods it measured.
        reconstruction: explained variance by layer of train and val rows, by autoencoder.
        seconds: it took.
        latent: for the plot of the first seed: latent vectors, accuracy and epoch, or None.
        learned: rows, models and epochs learned from, and the hyper-parameters of fine-tuning.
    """

    rows: list[MethodRow]
    reconstruction: dict[str, dict[str, dict[str, float]]]
    seconds: float
    latent: dict[str, Any] | None = None
    learned: dict[str, Any] = field(default_factory=dict)


def generation_settings(
    small: bool, seeds: Sequence[int], transfer: str | None
) -> GenerationSettings:
    """What the command runs; the small variant takes some minutes on two cores.

    The last epoch is kept: R2 on val is of weights alone, and does not see what the behavioural
    loss learns.
    """
    shape = {"latent": 64, "width": 64}
    structure = AutoencoderSettings(
        shape=shape, epochs=25 if small else 100, keep="last", progress=False
    )
    behaviour = replace(structure, structure=0.7, queries=32, epochs=16 if small else 60)
    return GenerationSettings(
        seeds=tuple(seeds),
        models=8 if small else 16,
        few_epochs=(0, 1) if small else EPOCHS,
        structure=structure,
        behaviour=behaviour,
        transfer=transfer,
    )


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample deviation of the finite values; NaN where there are too few."""
    finite = [value for value in values if math.isfinite(value)]
    mean = statistics.fmean(finite) if finite else math.nan
    return mean, statistics.stdev(finite) if len(finite) > 1 else math.nan


def rows_json(rows: Sequence[MethodRow]) -> list[dict[str, Any]]:
    """Plain data; NaN becomes None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor | list | tuple):
            return [
                plain(item) for item in (value.tolist() if isinstance(value, Tensor) else value)
            ]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [
        {name: value for name, value in vars(row).items() if name != "found"}
        | {name: plain(value) for name, value in vars(row.found).items()}
        for row in rows
    ]


def rows_from_json(data: Sequence[Mapping[str, Any]]) -> list[MethodRow]:
    """The rows that `rows_json` wrote."""
    measured, rows = {field.name for field in fields(MeasuredSet)}, []
    for item in data:
        found: dict[str, Any] = {key: item[key] for key in measured}
        found |= {name: math.nan for name, value in found.items() if value is None}
        found["accuracy"] = torch.from_numpy(np.array(found["accuracy"], float))  # None is NaN
        made = MeasuredSet(**found | {"epochs": tuple(found["epochs"])})
        rest = {name: value for name, value in item.items() if name not in measured}
        rows.append(MethodRow(**rest, found=made))
    return rows
