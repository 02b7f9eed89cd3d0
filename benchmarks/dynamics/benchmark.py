"""The benchmark `dynamics`: what the first checkpoints of a run tell about its end.

Three questions. From the checkpoints in the first third of a run: its final accuracy and gap, and
its later weights (nowcasting). At the end: which measures of `weightzoo analyse` follow the
generalisation gap within hyper-parameter strata. Splits are by model; settings are chosen on val;
the test split is read once.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...builders.training.objectives import DataSet
from ...loaders.load import ZooDataset, load_zoo
from ...tasks.dynamics.analysis import analyse_zoo
from ...tasks.dynamics.gap import RankScore, make_strata, rank_scores
from ...tasks.dynamics.report import DATA_NAME as ANALYSIS_NAME
from ...tasks.dynamics.settings import AnalysisSettings
from ...tasks.inspection.rebuilt_models import training_data
from ...zoos.errors import RecipeError, ZooFormatError
from ...zoos.folder_identity import read_json
from ...zoos.index import INDEX_NAME
from ...zoos.progress import progress_bar
from ...zoos.strict_json import json_text
from ..benchmark import BenchmarkOptions, BenchmarkOutcome, environment
from ..zoos import ZooPlan, plan, provide_zoos
from .forecasts import LATER, Forecast, forecast
from .nowcasts import NowcastResult, nowcast
from .report import DATA_NAME, FORMAT, REPORT_NAME, write_dynamics
from .runs import FINAL_GAP, TARGETS, Horizon, Runs, cut_runs

TRAINED = 0.9  # least train accuracy of a model that counts as trained
IMAGES = 32  # whose losses are measured; twice as many take twice the time
STEPS = 27  # of the bar: 11 predictors of two targets, 5 methods


def dynamics_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Build or take the zoo, analyse it, and answer the three questions.

    Raises:
        ValueError: if several zoos are given, or a path is no zoo folder.
        UnsuitableError: if the zoo has too few early checkpoints.
        ZooError: if the zoo cannot be built or read.
    """
    started = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = _zoo(options)
    horizon = Horizon.of(load_zoo(folder))
    settings = AnalysisSettings(epochs=(horizon.known[-1], horizon.last), image_count=IMAGES)
    zoo = load_zoo(_analysed(folder, settings, options))
    runs, horizon = cut_runs(zoo)
    forecasts, nowcasts = _predictions(runs, horizon, _images(zoo), options)
    data = {
        "format": FORMAT,
        "command": options.command,
        "small": options.small,
        "seeds": list(options.seeds),
        "zoo": folder.name,
        "horizon": asdict(horizon),
        "models": {split: len(part) for split, part in runs.items()},
        "left_out": {split: part.left_out for split, part in runs.items()},
        "settings": settings.to_json(),
        "environment": environment(),
        "seconds": time.perf_counter() - started,
        "forecasts": [asdict(one) for one in forecasts],
        "nowcasts": [asdict(one) for one in nowcasts],
        "gap": gap_tables(zoo, horizon),
    }
    text = write_dynamics(options.out, data)
    path = {"path": str(options.out / DATA_NAME)}
    return BenchmarkOutcome(path, text, options.out / REPORT_NAME)


def zoo_plan(small: bool) -> ZooPlan:
    """The zoo of the benchmark: CNN-s on digits with more early checkpoints than the recipe.

    Args:
        small: whether to plan 150 models in place of 1,000.
    """
    checkpoints = (0, 1, 2, 3, 4, 8, 12)
    models = 150 if small else 1000
    return plan("digits-cnn", "digits-cnn", models, 51, seeds=1000, checkpoints=checkpoints)


def gap_tables(zoo: Mapping[str, ZooDataset], horizon: Horizon) -> dict[str, Any]:
    """Rank correlations of measures with the final gap, over the models of all splits.

    Nothing is fitted or chosen, so that all splits count. Three tables: measures at the last
    checkpoint, the same for models that reach 90 % train accuracy, and measures at the last known
    checkpoint.

    Args:
        zoo: splits of the analysed zoo.
        horizon: known epochs and last epoch.
    """
    runs = [Runs.of(part, horizon) for part in zoo.values()]
    last = [run.split.select(run.last_rows) for run in runs]
    early = [run.known for run in runs]
    gap = _joined(early, FINAL_GAP)
    trained = _joined(last, "train_accuracy") >= TRAINED
    every = np.ones(len(gap), bool)
    return {
        "last": _gap_table(last, gap, every),
        "last, trained": _gap_table(last, gap, trained),
        "early": _gap_table(early, gap, every, LATER),
    }


def _gap_table(
    parts: list[ZooDataset], gap: np.ndarray, chosen: np.ndarray, hidden: Sequence[str] = ()
) -> dict[str, Any]:
    header, held = parts[0].header, list(parts[0].columns)
    given = {name: _joined(parts, name)[chosen] for name in header.hyper_parameters if name in held}
    strata = make_strata(given, gap[chosen])
    names = [name for name in held if _is_score(name) and name not in hidden]
    measures = {name: _joined(parts, name).astype(np.float64)[chosen] for name in names}
    scores: list[RankScore] = rank_scores(measures, gap[chosen], strata)
    return {
        "models": int(chosen.sum()),
        "strata": {"names": list(strata.names), "count": strata.count},
        "scores": [asdict(one) for one in scores],
    }


def _is_score(name: str) -> bool:
    """Whether a column is ranked: the measures without those of single layers, and the loss."""
    from ...tasks.dynamics.measures import FAMILIES

    names = [one.name for family in FAMILIES.values() for one in family.measures]
    unranked = ("barrier_partner", "path_speed")  # at one epoch speed ranks as the step norm does
    return name in (*names, "train_loss") and name not in unranked


def _joined(parts: list[ZooDataset], name: str) -> np.ndarray:
    return np.concatenate([part.columns[name] for part in parts])


def _predictions(
    runs: Mapping[str, Runs], horizon: Horizon, data: DataSet | None, options: BenchmarkOptions
) -> tuple[list[Forecast], list[NowcastResult]]:
    forecasts = list[Forecast]()
    with progress_bar(STEPS, "dynamics", "fit", options.progress) as bar:

        def done(name: str) -> None:
            bar.set_postfix_str(name)
            bar.update()

        for target in TARGETS:
            forecasts += forecast(runs, horizon, target, options.seeds, done)
        nowcasts = nowcast(runs, horizon, data, done)
    return forecasts, nowcasts


def _analysed(folder: Path, settings: AnalysisSettings, options: BenchmarkOptions) -> Path:
    """The zoo with measures, of a finished analysis with these settings or of a new one."""
    out = options.out / "analysed"
    wanted, done = json.loads(json_text(settings.to_json())), read_json(out / ANALYSIS_NAME)
    if isinstance(done, dict) and done.get("settings") == wanted and (out / done["zoo"]).is_dir():
        return out / str(done["zoo"])
    found = analyse_zoo(
        folder, out, settings=settings, workers=options.workers, progress=options.progress
    )
    return found.zoo


def _zoo(options: BenchmarkOptions) -> Path:
    """The user's zoo folder, or the planned zoo, built unless it is there."""
    if len(options.zoos) > 1:
        raise ValueError(f"benchmark 'dynamics' takes one zoo, got {list(options.zoos)}")
    for folder in options.zoos.values():
        if not (folder / INDEX_NAME).is_file():
            raise ValueError(f"--zoo must be a zoo folder, got {str(folder)!r}")
        return folder
    zoos = options.out / "zoos"
    zoos.mkdir(exist_ok=True)
    made = provide_zoos([zoo_plan(options.small)], zoos, options.workers, options.progress)
    return next(iter(made.values()))


def _images(zoo: Mapping[str, ZooDataset]) -> DataSet | None:
    try:
        return training_data(next(iter(zoo.values())).header)
    except (RecipeError, ZooFormatError):
        return None


BENCHMARKS = {"dynamics": dynamics_benchmark}
"""Benchmarks of this module by name."""
