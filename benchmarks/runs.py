"""Runs of a benchmark. A run fits one predictor once and tests it on one or more zoos.

A finished run is a JSON file. A benchmark that restarts with the same code repeats no such run.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from ..loaders import ZooDataset
from ..loaders.load import load_zoo
from ..tasks.baselines.regressors import Predictor
from ..tasks.prediction.property_prediction import usable_rows
from ..tasks.processes import listening, worker_pool
from ..tasks.scoring.evaluator import Evaluator, evaluation_inputs
from ..tasks.scoring.targets import CLASSES, is_category
from ..tasks.training.encoder_making import describe_encoder
from ..tasks.training.encoder_reader import EncoderReader
from ..tasks.training.encoder_regressor import EncoderRegressor
from ..tasks.training.invariance import RandomPermutations, invariance_errors
from ..zoos.errors import DivergedError, UnsuitableError
from ..zoos.index import INDEX_NAME
from ..zoos.provenance import commit, package_version
from ..zoos.strict_json import json_text
from .comparisons import kept_predictions

NOT_IN_FILE_NAMES = re.compile(r"[^\w.+-]+")
INVARIANCE_DRAWS, INVARIANCE_ROWS = 5, 64  # the paper's E.3 has 5 permutations


@dataclass(frozen=True, kw_only=True)
class Run:
    """One fit of a predictor, with its train and test zoos.

    Attributes:
        predictor: predictor to fit.
        sources: names of the zoos to train on.
        tested: names of the zoos whose test splits are scored.
        target: column to predict.
        seed: seed of the fit.
        rows: "all" checkpoints, or the "last" one of each model.
        fraction: share of the train models, in (0, 1]; all predictors get the same models.
        measure_invariance: whether to also measure how much the outputs of an encoder change when
            hidden units are reordered.
    """

    predictor: Predictor
    sources: tuple[str, ...]
    tested: tuple[str, ...]
    target: str
    seed: int
    rows: str = "all"
    fraction: float = 1.0
    measure_invariance: bool = False

    @property
    def label(self) -> str:
        """Text for a progress bar and a file name."""
        part = f" {self.fraction:g}" if self.fraction < 1 else ""
        return f"{self.predictor.name} {'+'.join(self.sources)} {self.target}{part} {self.seed}"

    def identity(self, zoos: Mapping[str, Path]) -> dict[str, Any]:
        """Values that must be equal for a finished run to be reused in place of this one."""
        names = sorted({*self.sources, *self.tested})
        return {
            "predictor": describe_predictor(self.predictor),
            "sources": list(self.sources),
            "tested": list(self.tested),
            "target": self.target,
            "seed": self.seed,
            "rows": self.rows,
            "fraction": self.fraction,
            "turned": self.measure_invariance,  # the key in earlier result files
            "zoos": {name: _fingerprint(zoos[name]) for name in names},
        }


def repeated_runs(
    predictors: Iterable[Predictor],
    sources: Sequence[str],
    tested: Sequence[str],
    seeds: Sequence[int],
    target: str = "test_accuracy",
    **options: Any,
) -> list[Run]:
    """Runs of every predictor with every seed it needs.

    Args:
        predictors: predictors to fit.
        sources: names of the zoos to train on.
        tested: names of the zoos whose test splits are scored.
        seeds: seeds of the fits; a predictor without random draws takes the first alone.
        target: column to predict.
        **options: further fields of `Run`.
    """
    return [
        Run(
            predictor=predictor,
            sources=tuple(sources),
            tested=tuple(tested),
            target=target,
            seed=seed,
            **options,
        )
        for predictor in predictors
        for seed in (seeds if predictor.seeded else seeds[:1])
    ]


def execute(
    runs: Sequence[Run],
    zoos: Mapping[str, Path],
    folder: Path,
    workers: int = 1,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Execute all runs that this version and commit have not finished in the folder yet.

    Args:
        runs: planned runs.
        zoos: zoo folders by name.
        folder: folder of the run files, created if missing.
        workers: number of simultaneous runs, each in its own process with one thread.
        progress: whether to show progress on stderr.

    Returns:
        The results in the order of the runs. A result holds the run, its `code` (version and
        commit, without uncommitted changes) and the `seconds` of the fit. For each tested zoo it
        holds `scores` and `predictions`, or the reason in `refused` if the predictor does not
        accept the zoo, or the reason in `diverged` if the fit or its predictions are not finite.

    Raises:
        Exception: if a predictor fails in any other way, because that is a bug and no result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    code = {"weightzoo": package_version(), "commit": commit()}
    do = partial(_once, zoos=dict(zoos), folder=folder, code=code)
    with (
        tqdm(total=len(runs), unit="run", disable=not progress) as bar,
        listening(bar.set_postfix_str),
    ):
        if workers == 1:
            return [_shown(do(run), bar) for run in runs]
        with worker_pool(workers) as pool:
            return [_shown(result, bar) for result in pool.map(do, runs)]


def describe_predictor(predictor: Predictor) -> dict[str, Any]:
    """Name and settings of a predictor, as plain data."""
    about: dict[str, Any] = {"name": predictor.name, "class": type(predictor).__name__}
    if isinstance(predictor, EncoderRegressor):
        settings = asdict(predictor.settings)
        about |= describe_encoder(predictor.encoder) | {
            "settings": {k: v for k, v in settings.items() if k not in ("progress", "threads")},
        }
    return json.loads(json_text(about, default=str))


def _part_of_models(dataset: ZooDataset, fraction: float) -> ZooDataset:
    """The rows of a share of the models, at least ten; every call chooses the same models."""
    models = np.unique(dataset.columns["model_id"])
    count = min(len(models), max(10, round(fraction * len(models))))
    chosen = np.random.default_rng(0).permutation(models)[:count]
    return dataset.filter(lambda columns: np.isin(columns["model_id"], chosen))


def _once(
    run: Run, zoos: Mapping[str, Path], folder: Path, code: Mapping[str, str]
) -> dict[str, Any]:
    """The result of a run, from its file if the same code left it there."""
    identity = run.identity(zoos) | {"code": dict(code)}
    digest = hashlib.sha256(json_text(identity, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"{NOT_IN_FILE_NAMES.sub('-', run.label)}-{digest}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8")) | {"reused": True}
    result = identity | _fit_and_score(run, zoos)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json_text(result, indent=1), encoding="utf-8")
    os.replace(scratch, path)
    return result | {"reused": False}


def _fit_and_score(run: Run, zoos: Mapping[str, Path]) -> dict[str, Any]:
    splits = {name: load_zoo(zoos[name]) for name in {*run.sources, *run.tested}}
    kept = {
        (name, split): usable_rows(rows, run.target, run.rows)
        for name, zoo in splits.items()
        for split, rows in zoo.items()
    }
    train = [_part_of_models(kept[name, "train"], run.fraction) for name in run.sources]
    val = [kept[name, "val"] for name in run.sources]
    result: dict[str, Any] = {
        "seconds": None,
        "train_models": sum(len(np.unique(rows.columns["model_id"])) for rows in train),
        "train_rows": sum(map(len, train)),
        "scores": {},
        "predictions": {},
        "refused": {},
        "diverged": {},
    }
    started = time.perf_counter()
    try:
        if len(train) > 1:
            run.predictor.fit(train, val, run.target, run.seed)  # type: ignore[arg-type]
        else:
            run.predictor.fit(train[0], val[0], run.target, run.seed)
    except (UnsuitableError, DivergedError) as error:
        return result | {_failure_kind(error): dict.fromkeys(run.tested, str(error))}
    result["seconds"] = time.perf_counter() - started
    for name in run.tested:
        try:
            result["scores"][name], predictions = _scores(run, kept[name, "test"])
            result["predictions"] |= {name: predictions} if predictions else {}
        except (UnsuitableError, DivergedError) as error:
            result[_failure_kind(error)][name] = str(error)
    return result


def _failure_kind(error: UnsuitableError | DivergedError) -> str:
    return "diverged" if isinstance(error, DivergedError) else "refused"


def _scores(run: Run, test: ZooDataset) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Scores on a test split, and the predictions of a number or class."""
    predicted = run.predictor.predict(test)
    kind = "category" if is_category(run.target, test.columns[run.target]) else "number"
    if kind == "number" and (odd := int((~np.isfinite(predicted)).sum())):
        raise DivergedError(f"{odd} of {len(predicted)} predictions are not finite")
    inputs = evaluation_inputs(test, run.target, predicted)
    scores = Evaluator(run.target, kind).eval(inputs)
    if run.measure_invariance and isinstance(run.predictor, EncoderRegressor):
        scores["invariance"] = _invariance(run.predictor, test)
    is_kept = kind == "number" or run.target in CLASSES
    return scores, kept_predictions(inputs) if is_kept else {}


def _invariance(regressor: EncoderRegressor, test: ZooDataset) -> dict[str, Any] | None:
    """Invariance errors of valid and invalid permutations; None if none are known."""
    trained = regressor.trained
    rows = test.select(range(min(INVARIANCE_ROWS, len(test))))
    weights = trained.scaler(rows.weights(), test.layer_table)
    reader, errors = EncoderReader(trained.module, trained.scaler), {}

    def outputs_of(weights: Tensor) -> Tensor:
        given = reader.networks(weights, rows) if reader.reads == "networks" else weights
        outputs: Tensor = trained.module(given, test.layer_table)
        return outputs

    for group in ("hidden", "uncoupled"):
        try:
            permutations = RandomPermutations([test], group, seed=0)
        except UnsuitableError:
            return None
        error, relative = invariance_errors(
            outputs_of, weights, test.layer_table, permutations, INVARIANCE_DRAWS
        )
        errors[group] = {"error": error, "relative": relative if np.isfinite(relative) else None}
    return errors


def _shown(result: dict[str, Any], bar: tqdm) -> dict[str, Any]:
    bar.set_postfix_str(result["predictor"]["name"])
    bar.update()
    return result


def _fingerprint(path: Path) -> str:
    """Text that changes when the zoo does."""
    index = path / INDEX_NAME
    if index.is_file():
        return hashlib.sha256(index.read_bytes()).hexdigest()
    state = path.stat()
    return f"{state.st_size} bytes, {state.st_mtime_ns}"
