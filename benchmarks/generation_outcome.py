"""Settings, jobs and outcomes of the generation benchmark.

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

from ..tasks.autoencoding.settings import AutoencoderSettings
from ..tasks.generation.measures import EPOCHS, MeasuredSet

PUBLISHED_KDE = "S_KDE30 as in the published code"


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """Settings of the generation benchmark.

    Attributes:
        seeds: seeds of the repetitions.
        models: number of models M of each method and seed.
        epochs: epochs of fine-tuning for the methods of the published table, (K,).
        few_epochs: epochs of fine-tuning for all other methods, (K,).
        structure: settings of the autoencoders trained on weights alone.
        behaviour: settings of the autoencoder trained on weights and logits.
        least_epoch: first epoch of the zoo's rows to learn from; None takes the last fifth of
            training.
        least_rows: number of train rows below which autoencoders train for proportionally more
            epochs.
        transfer: name of another image set with the same shape and classes, or None.
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
    """Measurements of one method with one seed.

    Attributes:
        method: name of the method in the table.
        seed: seed of the run.
        images: name of the image set for fine-tuning and testing.
        architecture: name of the models' architecture.
        found: measurements.
    """

    method: str
    seed: int
    images: str
    architecture: str
    found: MeasuredSet


@dataclass(frozen=True)
class Job:
    """Part of the benchmark that one process runs: a name in `JOBS`, and a seed."""

    name: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """Result of a job.

    Attributes:
        rows: measured methods.
        reconstruction: explained variance by autoencoder, split (train, val) and layer.
        seconds: duration of the job.
        latent: latent vectors, accuracy and epoch of the first seed for the plot, or None.
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
    """Settings of the command; the small variant takes some minutes on two cores.

    Autoencoders keep their last epoch, because R2 on val measures weights alone and not the
    behavioural loss.

    Args:
        small: whether to use the small variant.
        seeds: seeds of the repetitions.
        transfer: name of another image set with the same shape and classes, or None.
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
    """Mean and sample standard deviation of the finite values; NaN if there are too few."""
    finite = [value for value in values if math.isfinite(value)]
    mean = statistics.fmean(finite) if finite else math.nan
    return mean, statistics.stdev(finite) if len(finite) > 1 else math.nan


def rows_json(rows: Sequence[MethodRow]) -> list[dict[str, Any]]:
    """Rows as plain data, with None in place of NaN."""

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
    """Rows from the plain data of `rows_json`."""
    measured, rows = {field.name for field in fields(MeasuredSet)}, []
    for item in data:
        found: dict[str, Any] = {key: item[key] for key in measured}
        found |= {name: math.nan for name, value in found.items() if value is None}
        found["accuracy"] = torch.from_numpy(np.array(found["accuracy"], float))  # None is NaN
        made = MeasuredSet(**found | {"epochs": tuple(found["epochs"])})
        rest = {name: value for name, value in item.items() if name not in measured}
        rows.append(MethodRow(**rest, found=made))
    return rows
