"""The benchmark `ranking`, and the referee on any matrix file."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...tasks.ranking.extraction import extract_features, zoo_groups
from ...tasks.ranking.features import FeatureFile
from ...tasks.ranking.fine_tuning_matrix import Protocol, finetune_matrix
from ...tasks.ranking.matrix import Matrix, read_matrix, read_scores, write_matrix
from ...tasks.ranking.targets import DOMAINS, make_target
from ...tasks.transferability.scores import SCORES, join_parts, score_parts
from ...zoos.strict_json import json_text
from ..benchmark import BenchmarkOptions, BenchmarkOutcome, environment
from ..zoos import ZooPlan, plan, provide_zoos
from .ood_table import features_path, ood_table, table_text
from .referee import judge
from .referee_report import report_text

FORMAT = "weightzoo-ranking-1"
RESULT_NAME, REPORT_NAME = "result.json", "report.md"
SMALL_PROTOCOL = Protocol(epochs=15, rates=(1e-3, 1e-2), seeds=2)
FULL_PROTOCOL = Protocol(epochs=30, rates=(5e-4, 2e-3, 8e-3), seeds=3)
SMALL_SCORES = ("logme", "reg-h-score", "leep", "ncc", "knn", "sfda")
SOURCES = ("digits", "glyphs-digits", "glyphs-latin", "glyphs-greek", "glyphs-cyrillic", "glyphs")
FURTHER_SOURCES = ("glyphs-textured", "glyphs-latin-serif")
SMALL_SETS = ("digits", "glyphs-digits", "glyphs-latin", "glyphs-greek", "glyphs-cyrillic")
FULL_SETS = (*SMALL_SETS, "glyphs", "glyphs-textured", "glyphs-latin-mono")
ARCHITECTURES = {
    "mlp": "digits-mlp",
    "cnn": "digits-cnn-seed",
    "sne-cnn": "digits-sne-cnn",
}
TRAINING = {  # factors of all pre-trainings, so that architecture and source alone differ
    "activation": "relu",
    "init": "kaiming_uniform",
    "optimizer": "adam",
    "lr": 3e-3,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "train_fraction": 1.0,
    "batch_size": 32,
}


def benchmark_matrix(
    matrix: Path, scores: Path | None, out: Path, command: str
) -> BenchmarkOutcome:
    """The referee on a matrix file of whoever's.

    Args:
        matrix: HDF5 or CSV.
        scores: CSV with the columns target, model and one per score; None takes what is in the
            matrix.
        out: folder for result and report.
        command: what was typed.

    Raises:
        ZooError: if a file cannot be read.
        UnsuitableError: if there is too little to judge by.
    """
    read = read_matrix(matrix)
    read = read if scores is None else read_scores(scores, read)
    return _outcome(read, out, command, f"Rankers on {matrix.name}", [], time.perf_counter())


def ranking_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Zoos, targets, fine-tuning, scores and the referee, from an empty folder.

    Raises:
        ValueError: if the user gives zoos of their own, which the plan has no place for.
        ZooError: if a zoo cannot be built.
    """
    return _benchmark("ranking", options)


def ood_ranking_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """The same for unseen domains: fine-tuned on all domains but one, tested on that one.

    Raises:
        ValueError: if the user gives zoos of their own, which the plan has no place for.
        ZooError: if a zoo cannot be built.
    """
    return _benchmark("ood-ranking", options)


def _benchmark(name: str, options: BenchmarkOptions) -> BenchmarkOutcome:
    if options.zoos:
        raise ValueError(
            f"benchmark {name!r} builds its own zoos: for others, run `weightzoo "
            "finetune-matrix` and `weightzoo benchmark ranking --matrix FILE`"
        )
    started = time.perf_counter()
    plans, targets, protocol = ranking_plan(options.small, domains=name == "ood-ranking")
    options.out.mkdir(parents=True, exist_ok=True)
    folder = options.out / "zoos"
    folder.mkdir(exist_ok=True)
    zoos = list(provide_zoos(plans, folder, options.workers, options.progress).values())
    untrained = [f"{one}@0" for one in zoos[: len(_architectures(options.small))]]
    models: list[Path | str] = [*zoos, *untrained]
    built = time.perf_counter() - started
    path = options.out / "matrix.h5"
    if path.exists():
        matrix = read_matrix(path)
    else:
        matrix = finetune_matrix(
            models, targets, path, protocol, workers=options.workers, progress=options.progress
        )
    scored = time.perf_counter()
    names = _scores(name, options.small)
    matrix = score_matrix(matrix, models, options.out / "features", names, options.progress)
    write_matrix(path, matrix, {"command": options.command})
    seconds = time.perf_counter() - scored
    cost = float(np.nansum(matrix.seconds))
    notes = [
        f"Zoos built or found in {built:.0f} s. Fine-tuning all cells took {cost:.0f} s of one "
        f"thread, as populations; features and {len(names)} scores took {seconds:.0f} s: "
        f"{cost / max(seconds, 1e-9):.1f} times less."
    ]
    tables = {}
    if name == "ood-ranking":
        groups = [group for zoo in models for group in zoo_groups(zoo)]
        rows = ood_table(matrix, groups, options.out / "features")
        notes.append("## Accuracy on the unseen domain\n\n" + table_text(rows))
        tables = {"accuracies": {row.way: list(row.accuracies) for row in rows}}
    title = f"Benchmark {name}"
    return _outcome(matrix, options.out, options.command, title, notes, started, tables)


def ranking_plan(small: bool, domains: bool = False) -> tuple[list[ZooPlan], list[str], Protocol]:
    """Zoos, targets and protocol of the benchmark.

    Args:
        small: the variant for two cores and about ten minutes.
        domains: whether targets are tasks of unseen domains.
    """
    sources = SOURCES[:5] if small else (*SOURCES, *FURTHER_SOURCES)
    plans = [
        _plan(architecture, recipe, source, 1 if small else 2, seed)
        for seed, (source, (architecture, recipe)) in enumerate(
            (source, pair) for source in sources for pair in _architectures(small).items()
        )
    ]
    if domains:
        sets = SMALL_SETS[:2] if small else FULL_SETS
        targets = [f"{name}/{unseen}" for name in sets for unseen in DOMAINS]
        return plans, targets, SMALL_PROTOCOL if small else FULL_PROTOCOL
    if small:
        changes = ("", "+invert")
        targets = [f"{name}{change}" for name in SMALL_SETS for change in changes]
        return plans, targets, SMALL_PROTOCOL
    more = ("", "+invert", "+noise", "+rotate+first")
    return plans, [f"{name}{change}" for name in FULL_SETS for change in more], FULL_PROTOCOL


def score_matrix(
    matrix: Matrix,
    zoos: Sequence[Path | str],
    folder: Path,
    names: Sequence[str],
    progress: bool = True,
) -> Matrix:
    """Add scores of every model on every target, from features that are kept beside.

    Args:
        matrix: models and targets to score.
        zoos: the zoos that the models are of, as the matrix was made with.
        folder: for one feature file per target.
        names: keys of `SCORES`.
        progress: whether to show progress on stderr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shots = int(matrix.protocol["shots"])
    groups = [group for zoo in zoos for group in zoo_groups(zoo)]
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for target in matrix.targets:
        path = features_path(folder, target)
        made = make_target(target, shots)
        extract_features(
            groups, made.images, "train", path, domains=made.domains, progress=progress
        )
        with FeatureFile(path) as file:
            tasks = {model: file.read(model) for model in matrix.models}
        for name in names:
            parts = np.stack([score_parts(name, task) for task in tasks.values()])
            columns[name].append(join_parts(name, parts))
    return matrix.with_scores({name: np.stack(one, axis=1) for name, one in columns.items()})


def _scores(name: str, small: bool) -> tuple[str, ...]:
    """The scores of a benchmark: those that leave a domain out are for unseen domains alone."""
    if name == "ood-ranking":
        zood = [key for key, entry in SCORES.items() if entry.domains]
        return (*SMALL_SCORES, *zood)
    if small:
        return SMALL_SCORES
    return tuple(key for key, entry in SCORES.items() if not entry.domains)


def _architectures(small: bool) -> dict[str, str]:
    kept = list(ARCHITECTURES)[:2] if small else list(ARCHITECTURES)
    return {name: ARCHITECTURES[name] for name in kept}


def _plan(architecture: str, recipe: str, source: str, models: int, seed: int) -> ZooPlan:
    epochs = 12
    return plan(
        f"{architecture}-{source}",
        recipe,
        models,
        seed,
        images=source,
        seeds=models,
        epochs=epochs,
        checkpoints=(0, epochs),
        factors=TRAINING,
        split={"train": 1.0},
    )


def _outcome(
    matrix: Matrix,
    out: Path,
    command: str,
    title: str,
    notes: Sequence[str],
    started: float,
    tables: Mapping[str, Any] | None = None,
) -> BenchmarkOutcome:
    """Judge, write result and report, each whole or not at all."""
    verdict = judge(matrix)
    seconds = time.perf_counter() - started
    text = report_text(title, verdict, [f"`{command}`", *notes])
    data: Mapping[str, Any] = {
        "format": FORMAT,
        "command": command,
        "seconds": seconds,
        "environment": environment(),
        "models": list(matrix.models),
        "protocol": dict(matrix.protocol),
        "verdict": verdict.to_json(),
        **(tables or {}),
    }
    out.mkdir(parents=True, exist_ok=True)
    texts = {RESULT_NAME: json_text(data, indent=1) + "\n", REPORT_NAME: text}
    for name, content in texts.items():
        scratch = out / f"{name}.tmp"
        scratch.write_text(content, encoding="utf-8")
        os.replace(scratch, out / name)
    return BenchmarkOutcome(data, text, out / REPORT_NAME)


BENCHMARKS = {"ranking": ranking_benchmark}
