"""Settings of SNE, the set-based neural network encoder, compared on val; the chosen ones on test.

    python benchmarks/studies/sne_settings.py ZOO --out FOLDER            fit every setting
    python benchmarks/studies/sne_settings.py ZOO --out FOLDER --judge    read the test split once

Settings are fitted in turn on all checkpoints of the train models and scored on the last ones of
the val models. A finished fit is a line of `fits.jsonl`, and is not repeated. `--judge` scores the
fits in `CHOSEN` on the last checkpoints of the test models, against boosting on weight statistics,
and measures on val how far permutations of hidden units move their predictions. It writes
`settings.json` and `table.md`.

Shape letters: N rows, R bootstrap samples.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks import EncoderSpec, TrainingSettings, train_encoder
from weightzoo.tasks.baselines.regressors import StatisticsBoosting
from weightzoo.tasks.prediction.property_prediction import usable_rows
from weightzoo.tasks.pretrained import from_pretrained
from weightzoo.tasks.scoring.bootstrap import RESAMPLED, sample_counts
from weightzoo.tasks.scoring.evaluator import evaluation_inputs, scores_of_part
from weightzoo.tasks.scoring.metrics import kendall_tau
from weightzoo.tasks.training.invariance import RandomPermutations
from weightzoo.tasks.training.pretrained import save_predictor
from weightzoo.zoos.strict_json import json_text

sys.path.append(str(Path(__file__).resolve().parents[1] / "speed"))
from timing import machine

TARGET, RESAMPLES, DRAWS = "test_accuracy", 2000, 5
COMMON = {"epochs": 3, "batch_size": 32, "lr": 8e-3, "patience": 1000, "progress": False}
VALUES = {"features": "value", "norm": "post", "chunk_size": 32, "element_size": 1}
SCALES = {"features": "scales"}
SMALL = {"width": 16, "heads": 1}  # sizes that the paper does not state for convolutional networks
LOW = {"lr": 4e-3}
SETTINGS: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "scales, width 16, lr 8e-3": ("sne", SCALES | SMALL, {"epochs": 4}, 0),
    "scales, width 64, lr 8e-3": ("sne", SCALES | {"width": 64, "heads": 4}, {}, 0),
    "lr 8e-3": ("sne", {}, {}, 0),
    "layer positions, lr 8e-3": ("sne", {"positions": "layer"}, {}, 0),
    "lr 4e-3": ("sne", {}, LOW, 0),
    "ours, seed 0": ("sne", {}, LOW | {"epochs": 6}, 0),
    "paper, seed 0": ("sne-paper", SMALL | {"chunk_size": 8}, LOW, 0),
}
"""Encoder, its options, training settings that differ from `COMMON`, and seed, by name."""
CHOSEN = {"sne": ("ours, seed 0",), "sne-paper": ("paper, seed 0",)}


def main() -> None:
    """Fit settings, or judge the chosen ones."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    train, val = (_load_rows(options.zoo, split) for split in ("train", "val"))
    if options.judge:
        judge(options.zoo, train, val, options.out)
    else:
        fit_settings(train, val, options.out)


def _load_rows(zoo: Path, split: str) -> ZooDataset:
    """All usable checkpoints of the train models, the last ones of others."""
    return usable_rows(load_zoo(zoo, split=split), TARGET, "all" if split == "train" else "last")


def fit_settings(train: ZooDataset, val: ZooDataset, folder: Path) -> None:
    """Fit every setting that `fits.jsonl` does not hold yet.

    Args:
        train: train rows.
        val: val rows, which the epoch is chosen on.
        folder: folder of `fits.jsonl` and of the fitted encoders.
    """
    done = {fit["name"] for fit in read_fits(folder)}
    for name, (encoder, options, changes, seed) in SETTINGS.items():
        if name in done:
            continue
        started, settings = time.process_time(), COMMON | changes
        fitted = train_encoder(
            EncoderSpec(encoder, options), train, val, TARGET, TrainingSettings(**settings), seed
        )
        save_predictor(fitted, folder / "models" / name)
        about = {"name": name, "encoder": encoder, "options": options, "settings": settings}
        found = about | {"seed": seed, "cpu_seconds": time.process_time() - started}
        true, predicted = val.columns[TARGET], fitted.predict(val)
        found |= {"val_tau": kendall_tau(true, predicted), "val_r2": _r2(true, predicted)}
        found |= {"best_epoch": fitted.training["best_epoch"]}
        with (folder / "fits.jsonl").open("a", encoding="utf-8") as file:
            file.write(json_text(found) + "\n")


def read_fits(folder: Path) -> list[dict[str, Any]]:
    """Finished fits, in order."""
    path = folder / "fits.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _r2(true: np.ndarray, predicted: np.ndarray) -> float:
    """Coefficient of determination."""
    return float(1 - ((true - predicted) ** 2).mean() / true.var())


def judge(zoo: Path, train: ZooDataset, val: ZooDataset, folder: Path) -> None:
    """Score the chosen fits on test and their invariance on val; write the result files.

    Args:
        zoo: zoo folder.
        train: train rows, for boosting.
        val: val rows.
        folder: folder of the fits, and of the result files.
    """
    test = _load_rows(zoo, "test")
    boosting = StatisticsBoosting()
    boosting.fit(train, val, TARGET, 0)
    predictions = {"statistics + boosting": [boosting.predict(test)]}
    moved = {}
    finished = {fit["name"] for fit in read_fits(folder)}
    for encoder, names in CHOSEN.items():
        if not finished.issuperset(names):
            continue
        models = [from_pretrained(folder / "models" / name) for name in names]
        predictions[encoder] = [model.predict(test) for model in models]
        moved[encoder] = [movement(model, val) for model in models]
    result = {
        "machine": machine(),
        "fits": read_fits(folder),
        "test": score(test, predictions),
        "invariance": moved,
    }
    (folder / "settings.json").write_text(json_text(result, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table(result), encoding="utf-8")


def score(test: ZooDataset, predictions: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Scores, means over fits, with paired bootstrap intervals over test models.

    Args:
        test: test rows, N.
        predictions: predictions (N,) of every fit, by predictor; the first is the reference.
    """
    inputs = evaluation_inputs(test, TARGET, predictions[next(iter(predictions))][0])
    true, above = inputs["true"].astype(np.float64), inputs["above_chance"]
    counts, found, drawn = sample_counts(inputs["model_id"], RESAMPLES, 0), {}, {}
    for name, fits in predictions.items():
        drawn[name] = np.mean([RESAMPLED["tau_b"](true, fit, counts) for fit in fits], axis=0)
        difference = drawn[name] - next(iter(drawn.values()))
        found[name] = {
            "tau_b": [kendall_tau(true, fit) for fit in fits],
            "tau_b_interval": np.percentile(drawn[name], [2.5, 97.5]).tolist(),
            "difference_interval": np.percentile(difference, [2.5, 97.5]).tolist(),
            "r2": [_r2(true, fit) for fit in fits],
            "mae": [float(np.abs(true - fit).mean()) for fit in fits],
            "tau_b_above_chance": [scores_of_part(true, fit, above)["tau_b"] for fit in fits],
            "tau_b_of_mean": kendall_tau(true, np.mean(fits, axis=0)),
        }
    return found


def movement(model: Any, rows: ZooDataset) -> dict[str, Any]:
    """Root mean square movement of outputs under permutations, in deviations between models.

    Valid permutations keep the function of a network, invalid ones permute every axis of every
    tensor by itself. Both are drawn `DRAWS` times per model, with equal seeds.

    Args:
        model: fitted encoder.
        rows: rows to permute, N.
    """
    weights, table = model.scaler(rows.weights(), rows.layer_table), rows.layer_table
    encoder = model.module.eval()
    with torch.no_grad():
        outputs = encoder(weights, table)
        squares = {}
        for group in ("hidden", "uncoupled"):
            permute = RandomPermutations([rows], group, seed=0)
            moved = [encoder(permute(weights, table), table) - outputs for _ in range(DRAWS)]
            squares[group] = torch.stack(moved).square().mean(dim=(0, 2)).double().numpy()
    variance = float(outputs.var(correction=0))
    counts = sample_counts(rows.columns["model_id"], RESAMPLES, 0)
    means = {name: counts @ square / counts.sum(1) for name, square in squares.items()}
    found = {
        name: float(np.sqrt(square.mean() / variance))
        for name, square in zip(("valid", "invalid"), squares.values(), strict=True)
    }
    ratio = np.sqrt(means["hidden"] / means["uncoupled"])
    return found | {
        "ratio": found["valid"] / found["invalid"],
        "ratio_interval": np.percentile(ratio, [2.5, 97.5]).tolist(),
    }


def table(result: dict[str, Any]) -> str:
    """The fits, the test scores and the invariance as Markdown."""
    lines = ["# Settings of SNE", "", "The set-based neural network encoder (SNE) predicts test"]
    lines += ["accuracy. Fits, scored on the last checkpoints of val:", ""]
    lines += ["| setting | epochs | CPU s | val τ_b | val R² |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {fit['name']} | {fit['settings']['epochs']} | {fit['cpu_seconds']:.0f} "
        f"| {fit['val_tau']:.3f} | {fit['val_r2']:.3f} |"
        for fit in result["fits"]
    ]
    lines += ["", "Test split, means over fits; difference from boosting by paired bootstrap:", ""]
    lines += ["| predictor | fits | τ_b | 95 % | difference | R² | MAE | τ_b above chance |"]
    lines += ["|---|---:|---:|---|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {len(row['tau_b'])} | {np.mean(row['tau_b']):.3f} "
        f"| {_interval(row['tau_b_interval'])} | {_interval(row['difference_interval'])} "
        f"| {np.mean(row['r2']):.3f} | {np.mean(row['mae']):.3f} "
        f"| {np.mean(row['tau_b_above_chance']):.3f} |"
        for name, row in result["test"].items()
    ]
    lines += ["", "Movement of the output under permutations, in deviations between models:", ""]
    lines += ["| encoder | valid | invalid | valid / invalid | 95 % |", "|---|---:|---:|---:|---|"]
    lines += [
        f"| {name}, fit {index} | {fit['valid']:.3f} | {fit['invalid']:.3f} | {fit['ratio']:.2f} "
        f"| {_interval(fit['ratio_interval'])} |"
        for name, fits in result["invariance"].items()
        for index, fit in enumerate(fits)
    ]
    return "\n".join(lines) + "\n"


def _interval(ends: list[float]) -> str:
    """Both ends with three digits."""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", type=Path, help="zoo of networks of one architecture")
    parser.add_argument("--out", type=Path, required=True, help="folder of fits and results")
    parser.add_argument("--judge", action="store_true", help="read the test split")
    return parser


if __name__ == "__main__":
    main()
