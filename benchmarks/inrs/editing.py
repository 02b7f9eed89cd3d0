"""The benchmark `inr-editing`: weights of a network that stores an image in, edited weights out.

Editors are trained to dilate the images of implicit neural representations (INRs) and tested on
INRs of other images, beside no edit, one mean edit, and networks trained on the dilated image.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...loaders.load import load_zoo
from ...tasks.editing.dilation import (
    EditingSettings,
    MakeEditor,
    network_errors,
    refitted_errors,
    train_editor,
)
from ...tasks.editing.plain_editors import FlatEditor, MeanEditor
from ...zoos.progress import progress_bar
from ...zoos.strict_json import json_text
from ..benchmark import BenchmarkOptions, BenchmarkOutcome, environment
from ..report import PLOT_NAME, REPORT_NAME, RESULT_NAME
from ..zoos import describe_zoo, provide_zoos
from .definitions import inr_plan
from .editing_report import (
    CEILING,
    EDITOR,
    FLAT,
    FORMAT,
    MEAN,
    NO_EDIT,
    averaged,
    editing_markdown,
    plot_editing,
)

EPOCHS = {"small": 20, "medium": 100, "full": 300}
REFIT_STEPS, REFIT_LR = 60, 1e-3
EDITORS: tuple[tuple[str, MakeEditor | None], ...] = (
    (MEAN, MeanEditor),
    (FLAT, FlatEditor),
    (EDITOR, None),
)


def editing_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Build or take the zoo, train the editors, and compare them on test networks.

    Raises:
        ValueError: if several zoos are given.
        UnsuitableError: if the zoo holds no INRs of images that it records.
        ZooError: if the zoo cannot be built or read.
    """
    started = time.perf_counter()
    name, folder = _zoo(options)
    zoo = load_zoo(folder)
    data: dict[str, Any] = {
        "format": FORMAT,
        "benchmark": "inr-editing",
        "command": options.command,
        "size": options.size,
        "seeds": list(options.seeds),
        "zoo": describe_zoo(folder, "label") | {"name": name, "path": folder.name},
        "models": {split: len(rows) for split, rows in zoo.items()},
        "rows": _rows(zoo, options),
        "environment": environment(),
    }
    data["seconds"] = time.perf_counter() - started
    text = editing_markdown(data)
    (options.out / RESULT_NAME).write_text(json_text(data, indent=1) + "\n", encoding="utf-8")
    (options.out / REPORT_NAME).write_text(text, encoding="utf-8")
    plot_editing(data, options.out / PLOT_NAME)
    return BenchmarkOutcome(data, text, options.out / REPORT_NAME)


def _zoo(options: BenchmarkOptions) -> tuple[str, Path]:
    """Name and folder of the user's zoo, or of the one that the plan names."""
    if len(options.zoos) > 1:
        raise ValueError(f"benchmark 'inr-editing' takes one zoo, got {list(options.zoos)}")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.zoos:
        return next(iter(options.zoos.items()))
    folder = options.out / "zoos"
    folder.mkdir(exist_ok=True)
    plans = [inr_plan(options.size)]
    return next(iter(provide_zoos(plans, folder, options.workers, options.progress).items()))


def _rows(zoo: Any, options: BenchmarkOptions) -> dict[str, Any]:
    """Errors of all editors on the test split."""
    test, settings = zoo["test"], EditingSettings(epochs=EPOCHS[options.size], lr=3e-3)
    rows = {NO_EDIT: _row(network_errors([nn.Identity()], test)[:1])}
    fits = len(EDITORS) * len(options.seeds)
    with progress_bar(fits + 1, "inr-editing", "fit", options.progress) as bar:
        for name, make in EDITORS:
            editors, started = list[nn.Module](), time.perf_counter()
            for seed in options.seeds:
                bar.set_postfix_str(f"{name}, seed {seed}")
                editors.append(train_editor(zoo["train"], settings, seed, make))
                bar.update()
            seconds = (time.perf_counter() - started) / len(editors)
            errors = network_errors(editors, test)
            rows[name] = _row(errors[:-1], seconds)
            if name == EDITOR and len(editors) > 1:
                rows[averaged(len(editors))] = _row(errors[-1:])
        bar.set_postfix_str(CEILING)
        rows[CEILING] = _row(refitted_errors(test, REFIT_STEPS, REFIT_LR)[None])
        bar.update()
    return rows


def _row(errors: Tensor, seconds: float | None = None) -> dict[str, Any]:
    """Errors (S, N) of S fits as plain data: means over fits, and means over networks."""
    values = errors.double().numpy()
    return {
        "errors": [float(np.float32(value)) for value in values.mean(0)],
        "by_seed": values.mean(1).tolist(),
        "seconds": seconds,
    }


BENCHMARKS = {"inr-editing": editing_benchmark}
