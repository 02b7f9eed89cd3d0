"""The commands about pre-trained models: `features`, `finetune-matrix`, `rank`, `ensemble`."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .arguments import add_command, add_name, check_file, print_result, whole, zoo_folder


def add_ranking_commands(commands: Any) -> None:
    """Add `features`, `finetune-matrix`, `rank` and `ensemble`."""
    _add_features(commands)
    _add_matrix(commands)
    _add_rank(commands)
    _add_ensemble(commands)


def _add_features(commands: Any) -> None:
    features = add_command(
        commands,
        "features",
        _features,
        "run models over the images of a task and keep their features; a run that was stopped "
        "goes on when started again",
        "weightzoo features zoos/cnn zoos/mlp --images glyphs-greek --out greek.h5",
    )
    _add_models(features)
    features.add_argument("--images", required=True, help="image set of the task")
    features.add_argument("--out", type=Path, required=True, help="feature file to write")
    features.add_argument(
        "--split",
        default="val",
        help="train, val, test, or target: the few train images of `finetune-matrix`'s target of "
        "that name (default: val)",
    )
    features.add_argument(
        "--precision", default="float32", help="of stored features: float16 or float32 (default)"
    )
    features.add_argument(
        "--limit", type=whole(1), help="number of images, the first of the split (default: all)"
    )
    _add_shots(features)


def _add_matrix(commands: Any) -> None:
    matrix = add_command(
        commands,
        "finetune-matrix",
        _finetune_matrix,
        "fine-tune every model of some zoos on every target; a run that was stopped goes on when "
        "started again",
        "weightzoo finetune-matrix zoos/cnn zoos/mlp --targets digits glyphs-greek+invert "
        "--seeds 2 --out matrix.h5",
    )
    matrix.add_argument("zoos", nargs="+", help="zoo folders, or FOLDER@EPOCH for that checkpoint")
    add_name(matrix, "take")
    matrix.add_argument(
        "--targets",
        nargs="+",
        required=True,
        help="image sets, with changes after +: invert, noise, blur, rotate, first, second",
    )
    matrix.add_argument("--out", type=Path, required=True, help="matrix file to write")
    matrix.add_argument(
        "--seeds", type=whole(1), default=2, help="fine-tunings of each cell (default: 2)"
    )
    matrix.add_argument(
        "--epochs", type=whole(1), default=20, help="passes over the images (default: 20)"
    )
    matrix.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=[1e-3, 1e-2],
        help="learning rates to choose from on val images (default: 0.001 0.01)",
    )
    matrix.add_argument("--workers", type=whole(1), help="number of processes (default: 1 a core)")
    _add_shots(matrix)


def _add_rank(commands: Any) -> None:
    rank = add_command(
        commands,
        "rank",
        _rank,
        "rank models for a task, with the fixed order beside; takes a feature file, or with "
        "--images any models",
        "weightzoo rank zoos/cnn zoos/mlp --images glyphs-greek --matrix matrix.h5 --top 5",
    )
    rank.add_argument(
        "models",
        nargs="+",
        help="feature file that `weightzoo features` wrote; or with --images the models, as "
        "`weightzoo features` takes them",
    )
    add_name(rank, "rank")
    rank.add_argument("--images", help="target to rank for, as `weightzoo finetune-matrix` has it")
    rank.add_argument(
        "--features",
        type=Path,
        help="with --images: feature file to write and keep, or to continue (default: "
        "TARGET-features.h5)",
    )
    _add_shots(rank)
    rank.add_argument(
        "--scores",
        nargs="+",
        default=["logme", "ncc"],
        help="scores to add, a wrong one lists those there are (default: logme ncc)",
    )
    rank.add_argument(
        "--plot",
        type=Path,
        help="picture of the ranking against the accuracies that the matrix has of this task",
    )
    rank.add_argument("--matrix", type=Path, help="what fine-tuning gave on other targets")
    rank.add_argument("--top", type=whole(1), default=5, help="models to show (default: 5)")


def _add_ensemble(commands: Any) -> None:
    ensemble = add_command(
        commands,
        "ensemble",
        _ensemble,
        "train a head on the features of the models that are ranked first, and test it",
        "weightzoo ensemble train.h5 --val val.h5 --test test.h5 --top 3",
    )
    ensemble.add_argument("features", type=Path, help="feature file of the training images")
    ensemble.add_argument(
        "--val", type=Path, required=True, help="feature file that the strength is chosen on"
    )
    ensemble.add_argument("--test", type=Path, required=True, help="feature file of the report")
    ensemble.add_argument(
        "--top",
        type=whole(1),
        default=3,
        help="models, by LogME on the training images (default: 3)",
    )
    ensemble.add_argument(
        "--all-features", action="store_true", help="select no features by variational EM"
    )


def _add_models(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "models",
        nargs="+",
        help="zoo folders, FOLDER@EPOCH, or timm:NAME, torchvision:NAME, transformers:REPO, "
        "python:MODULE:FUNCTION; @64 after a name scales images to 64x64, then ?random takes "
        "random weights",
    )
    add_name(command, "take")


def _add_shots(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--shots",
        type=whole(1),
        default=15,
        help="train images per class of a target (default: 15)",
    )


def _features(options: argparse.Namespace) -> None:
    from ..tasks.ranking.extraction import extract_features
    from ..tasks.ranking.targets import make_target
    from ..zoos.images.catalog import load_images

    check_file(options.out)
    groups = _groups(options)
    split, images, domains = options.split, None, None
    if split == "target":
        made = make_target(options.images, options.shots)
        split, images, domains = "train", made.images, made.domains
    names = extract_features(
        groups,
        images or load_images(options.images),
        split,
        options.out,
        precision=options.precision,
        limit=options.limit,
        domains=domains,
    )
    result = {"path": str(options.out), "models": names}
    print_result(options, result, f"{options.out}: features of {len(names)} models")


def _groups(options: argparse.Namespace) -> list[Any]:
    """Groups of the models that are named: backbones, and zoos by `--name`."""
    from ..tasks.ranking.backbones import is_backbone, model_groups

    return [
        group
        for model in options.models
        for group in model_groups([model] if is_backbone(model) else _zoos([model], options.name))
    ]


def _zoos(zoos: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """Zoo folders, each followed by the @EPOCH that was given."""
    chosen: Sequence[str | None] = names or [None]
    found = []
    for zoo in zoos:
        path, mark, epoch = zoo.rpartition("@") if zoo.count("@") else (zoo, "", "")
        found += [f"{zoo_folder(path, name)}{mark}{epoch}" for name in chosen]
    return found


def _finetune_matrix(options: argparse.Namespace) -> None:
    import os

    import numpy as np

    from ..tasks.ranking.fine_tuning_matrix import Protocol, finetune_matrix

    check_file(options.out)
    protocol = Protocol(
        epochs=options.epochs,
        rates=tuple(options.rates),
        shots=options.shots,
        seeds=options.seeds,
    )
    workers = options.workers or os.cpu_count() or 1
    zoos = _zoos(options.zoos, options.name)
    matrix = finetune_matrix(zoos, options.targets, options.out, protocol, workers=workers)
    models, targets, seeds = matrix.test.shape
    result = {
        "path": str(options.out),
        "models": models,
        "targets": targets,
        "seeds": seeds,
        "not_run": int(np.isnan(matrix.test).sum()),
        "seconds": float(np.nansum(matrix.seconds)),
    }
    text = (
        "{path}: {models} models x {targets} targets x {seeds} seeds, {not_run} cells diverged, "
        "{seconds:.1f} s of training"
    )
    print_result(options, result, text.format(**result))


def _rank(options: argparse.Namespace) -> None:
    from ..tasks.ranking.ranking import rank_models

    ranking = rank_models(_features_to_rank(options), options.scores, options.matrix)
    if options.plot is not None:
        _plot(options, ranking)
    print_result(options, ranking.to_json(), ranking.to_text(options.top))


def _features_to_rank(options: argparse.Namespace) -> Path:
    """The feature file that is named, or that of the models, which is kept for the next time."""
    from ..tasks.ranking.extraction import extract_features
    from ..tasks.ranking.targets import make_target

    if options.images is None:
        if len(options.models) > 1 or options.features is not None:
            raise ValueError(
                "without --images give one feature file alone; to rank models give --images, got "
                f"{options.models}"
            )
        return Path(options.models[0])
    out = options.features or Path(re.sub(r"[^\w.+-]+", "-", options.images) + "-features.h5")
    check_file(out)
    made = make_target(options.images, options.shots)
    groups = _groups(options)
    extract_features(groups, made.images, "train", out, domains=made.domains)
    print(f"features: {out}", file=sys.stderr)
    return out


def _plot(options: argparse.Namespace, ranking: Any) -> None:
    from ..tasks.ranking.matrix import read_matrix
    from ..tasks.ranking.plots import plot_scores, truth_of

    if options.matrix is None:
        raise ValueError("--plot needs --matrix, which has the accuracies of the task")
    target = ranking.task.rpartition("/")[0]
    truth = truth_of(read_matrix(options.matrix), target, ranking.models)
    plot_scores(ranking.total, truth, options.plot, "prior plus scores, in deviations")


def _ensemble(options: argparse.Namespace) -> None:
    from ..tasks.ranking.ensemble import fit_ensemble, joined
    from ..tasks.ranking.features import FeatureFile
    from ..tasks.ranking.ranking import rank_models

    ranking = rank_models(options.features, ["logme"])
    chosen = ranking.models[: options.top]
    parts = []
    for path in (options.features, options.val, options.test):
        with FeatureFile(path) as file:
            parts.append([file.read(model) for model in chosen])
    head = fit_ensemble(parts[0], parts[1], select=not options.all_features)
    features, labels = joined(parts[2])
    result = {
        "models": list(chosen),
        "features": len(head.chosen),
        "of": features.shape[1],
        "val_accuracy": head.val_accuracy,
        "test_accuracy": head.accuracy(features, labels),
    }
    text = (
        "{models}: {features} of {of} features, val accuracy {val_accuracy:.3f}, test accuracy "
        "{test_accuracy:.3f}"
    )
    print_result(options, result, text.format(**result | {"models": ", ".join(chosen)}))
