"""The commands `weightzoo train` (for encoders), `weightzoo predict` and `weightzoo embed`.

SNE is set-based neural network encoding, arXiv:2305.16625.
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from torch import Tensor

from ...loaders import ZooDataset, load_zoo
from ...zoos.errors import did_you_mean
from ...zoos.strict_json import json_text
from ..pretrained import Model, from_pretrained
from ..scoring.evaluator import Evaluator, evaluation_inputs
from ..scoring.targets import is_category
from ..training.encoder_making import EncoderSpec
from ..training.encoder_regressor import train_encoder
from ..training.fingerprints import fingerprints
from ..training.pretrained import save_predictor
from ..training.property_predictor import PropertyPredictor
from ..training.settings import TrainingSettings, TrainOptions
from .property_prediction import usable_rows

ENCODER_SETTINGS: dict[str, dict[str, Any]] = {
    "sne": {"lr": 4e-3, "batch_size": 32, "epochs": 30, "augment": True},
    "sne-paper": {"lr": 4e-3, "batch_size": 32},
}
"""Settings of `weightzoo train` that differ from `TrainingSettings` and `OTHER_LR`, by encoder."""
OTHER_LR = 1e-3
IDENTITY = ("model_id", "epoch", "split")


def train_property(encoder: str, options: TrainOptions) -> dict[str, Any]:
    """Train an encoder to predict a column and save it.

    Args:
        encoder: name of an encoder, or "package.module:Class".
        options: options of the command.

    Returns:
        Results to print.

    Raises:
        ValueError: if an option is of autoencoders, or for the reasons in `train_encoder`.
    """
    if options.behaviour is not None:
        raise ValueError(
            f"--behaviour is of autoencoders, and {encoder!r} is none: leave it out, or train "
            "hyper-representation or sane"
        )
    zoos = [_splits(zoo, options.target, options.rows) for zoo in options.zoos]
    scaling = "tensor" if len({zoo["train"].layer_table for zoo in zoos}) == 1 else "fan_in"
    settings: dict[str, Any] = {
        "lr": OTHER_LR,
        "scaling": scaling,
        **ENCODER_SETTINGS.get(encoder, {}),
        **options.settings,
    }
    trained = train_encoder(
        EncoderSpec(encoder, options.config),
        [zoo["train"] for zoo in zoos],
        [zoo["val"] for zoo in zoos],
        options.target,
        TrainingSettings(**settings),
        options.seed,
        options.out,
        options.resume,
    )
    trained.training = {
        **trained.training,
        "train_constant": best_constant(
            np.concatenate([zoo["train"].columns[options.target] for zoo in zoos]), options.target
        ),
        "fingerprints": fingerprints([zoo[part] for zoo in zoos for part in ("train", "val")]),
    }
    save_predictor(trained, options.out)
    scores = {}
    for index, zoo in enumerate(zoos):
        if "test" in zoo and len(zoo["test"]) > 1:
            name = zoo["test"].name if len(zoos) == 1 else f"{zoo['test'].name}-{index}"
            scores[name] = score_rows(zoo["test"], options.target, trained.predict(zoo["test"]))
    return {
        "path": str(options.out),
        "encoder": encoder,
        "target": options.target,
        "epochs": len(trained.training["history"]),
        "val_score": trained.training["val_score"],
        "test": scores,
    } | ({"note": note} if (note := trained.training["note"]) else {})


def predict_rows(
    model: str | Path,
    zoo: str | Path,
    split: str | None = None,
    device: str = "cpu",
    encoder: str | None = None,
    target: str | None = None,
    progress: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Predict a column of a zoo with a saved encoder, or with a linear probe of an autoencoder.

    Args:
        model: folder or Hub repository of the encoder.
        zoo: zoo to predict.
        split: split of the rows; None takes all rows.
        device: device of the encoder.
        encoder: name of the encoder's class, see `from_pretrained`.
        target: column to predict; None takes the one that was trained. For another column a probe
            of an autoencoder is fitted to the zoo's train rows.
        progress: whether to show a progress bar on stderr.

    Returns:
        One dict per row (model, epoch, split, predicted, and true if the zoo has the target), and
        the scores by split, or None if the zoo lacks the target.

    Raises:
        ModelFormatError: if there is no trained encoder.
        ValueError: if the encoder cannot take the zoo, or was trained for another target.
    """
    predictor = from_pretrained(model, device=device, encoder=encoder)
    target = _probe_target(predictor, zoo, target)
    rows, scored = list[dict[str, Any]](), list[tuple[dict[str, Any], ZooDataset, np.ndarray]]()
    for dataset in datasets_of(zoo, split):
        predicted = predictor.predict(dataset, progress)
        dataset = predicted_rows(predictor, dataset)
        columns = {name: dataset.columns[name] for name in IDENTITY if name in dataset.columns}
        columns |= {"predicted": predicted}
        if target in dataset.columns:
            columns["true"] = dataset.columns[target]
            scored.append((columns, dataset, predicted))
        rows += [
            dict(zip(columns, values, strict=True))
            for values in zip(*(column.tolist() for column in columns.values()), strict=True)
        ]
    if not scored:
        return rows, None
    return rows, {
        _split_name(dataset): score_rows(dataset, target, predicted)
        for _, dataset, predicted in scored
    }


def score_rows(dataset: ZooDataset, target: str, predicted: np.ndarray) -> dict[str, Any] | None:
    """Scores of the rows with a finite target.

    Args:
        dataset: N rows with the target column.
        target: name of the target column.
        predicted: predictions for all rows, (N,).

    Returns:
        Scores; the number of predictions that are not finite instead, if there are any; None for
        fewer than two rows.
    """
    kind = "category" if is_category(target, dataset.columns[target]) else "number"
    known = np.full(len(dataset), True)
    if kind == "number":
        known = np.isfinite(dataset.columns[target])
    if known.sum() < 2:
        return None
    if kind == "number" and (odd := int((~np.isfinite(predicted[known])).sum())):
        return {"rows": int(known.sum()), "predictions_not_finite": odd}
    inputs = evaluation_inputs(dataset.filter(lambda columns: known), target, predicted[known])
    return Evaluator(target, kind).eval(inputs)


def write_rows(rows: Sequence[Mapping[str, Any]], file: TextIO) -> None:
    """Write rows as CSV.

    Args:
        rows: rows with equal keys.
        file: open text file.
    """
    writer = csv.DictWriter(file, list(rows[0]) if rows else ["predicted"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def embed_zoo(
    model: str | Path,
    zoo: str | Path,
    out: Path,
    split: str | None = None,
    device: str = "cpu",
    encoder: str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the embedding (N, H) of every row of a zoo, with model, epoch and split.

    Args:
        model: folder or Hub repository of the encoder.
        zoo: zoo to embed.
        out: file to write, .npz or .safetensors (in which the split is a number).
        split: split of the rows; None takes all rows.
        device: device of the encoder.
        encoder: name of the encoder's class, see `from_pretrained`.
        progress: whether to show a progress bar on stderr.

    Returns:
        Path, number of rows and width of the embedding, to print.

    Raises:
        ValueError: if the file has another suffix, or the encoder cannot take the zoo.
    """
    check_vector_file(out)
    predictor = from_pretrained(model, device=device, encoder=encoder)
    embed = partial(predictor.embed, progress=progress)
    rows, width = write_vectors(
        out, "embedding", embed, datasets_of(zoo, split), partial(predicted_rows, predictor)
    )
    return {"path": str(out), "rows": rows, "width": width}


def check_vector_file(out: Path) -> None:
    """Reject a file for vectors with an unknown suffix.

    Raises:
        ValueError: if the suffix is not one of `EMBEDDING_WRITERS`.
    """
    if out.suffix not in EMBEDDING_WRITERS:
        raise ValueError(f"--out must end in one of {list(EMBEDDING_WRITERS)}, got {str(out)!r}")


def write_vectors(
    out: Path,
    key: str,
    function: Callable[[ZooDataset], Tensor],
    datasets: Sequence[ZooDataset],
    rows_of: Callable[[ZooDataset], ZooDataset] = lambda dataset: dataset,
) -> tuple[int, int]:
    """Write a vector for every row, with its model, epoch and split.

    Args:
        out: file to write.
        key: name of the array of vectors.
        function: function from rows to vectors, (N, H).
        datasets: rows.
        rows_of: function from rows to those that the vectors belong to.

    Returns:
        Number of vectors, and their width.
    """
    parts = [(rows_of(dataset), function(dataset).numpy()) for dataset in datasets]
    arrays = {key: np.concatenate([vectors for _, vectors in parts])}
    for name in IDENTITY:
        columns = [dataset.columns[name] for dataset, _ in parts if name in dataset.columns]
        if len(columns) == len(parts):
            arrays[name] = np.concatenate(columns)
    scratch = out.with_name(f"{out.stem}.tmp{out.suffix}")
    EMBEDDING_WRITERS[out.suffix](scratch, arrays)
    os.replace(scratch, out)
    rows, width = arrays[key].shape
    return rows, width


def plain_lines(result: Mapping[str, Any]) -> list[str]:
    """A result as text, one line per value.

    Scores by group and confidence intervals are left out; they are in the JSON.
    """
    lines = []
    for name, value in result.items():
        if isinstance(value, Mapping):
            numbers = {key: one for key, one in value.items() if isinstance(one, int | float)}
            shown = ", ".join(f"{key} {one:.4g}" for key, one in numbers.items())
            nested = [] if numbers else [f"{name}, {line}" for line in plain_lines(value)]
            lines += nested or [f"{name}: {shown}"] * bool(numbers)
        elif not isinstance(value, list):
            lines.append(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    return lines


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    plain: dict[str, Any] = {
        name: array.astype(str) if array.dtype.kind == "O" else array
        for name, array in arrays.items()
    }
    np.savez(path, **plain)


def _write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write numbers; a text column becomes indices into a list of words in the metadata."""
    from safetensors.numpy import save_file

    tensors, words = {}, {}
    for name, array in arrays.items():
        if array.dtype.kind == "O":
            values, array = np.unique(array.astype(str), return_inverse=True)
            words[name] = json_text(values.tolist())
        tensors[name] = np.ascontiguousarray(array)
    save_file(tensors, path, metadata=words)


EMBEDDING_WRITERS = {".npz": _write_npz, ".safetensors": _write_safetensors}


def _splits(zoo: str | Path, target: str, rows: str) -> dict[str, ZooDataset]:
    """The splits of a train zoo, without rows that cannot be used."""
    splits = load_zoo(zoo)
    if missing := [split for split in ("train", "val") if split not in splits]:
        raise ValueError(f"zoo {zoo} has no split {missing}: training needs train and val")
    for split in splits.values():
        if target not in split.columns:
            raise ValueError(
                f"zoo {zoo} has no column {target!r} to predict, it has {sorted(split.columns)}"
                + did_you_mean(target, split.columns)
            )
    return {name: usable_rows(split, target, rows) for name, split in splits.items()}


def datasets_of(zoo: str | Path, split: str | None) -> list[ZooDataset]:
    """The rows of a split, or of every split.

    Args:
        zoo: zoo to read.
        split: split of the rows; None takes all.
    """
    if split is not None:
        return [load_zoo(zoo, split=split)]
    return list(load_zoo(zoo).values())


def _probe_target(model: Model, zoo: str | Path, target: str | None) -> str:
    """The target of predictions; a probe is fitted to the zoo where an autoencoder lacks it."""
    if target is None or target == model.target:
        if model.target is None:
            raise ValueError(
                "the autoencoder has no probe: give --target COLUMN to fit one to the train rows "
                "of the zoo"
            )
        return model.target
    if isinstance(model, PropertyPredictor):
        raise ValueError(
            f"the encoder was trained to predict {model.target!r}, got target {target!r}: leave "
            f"--target out, or train one with `weightzoo train ENCODER ZOO --target {target}`"
        )
    splits = _splits(zoo, target, "all")
    model.fit_probe(splits["train"], splits["val"], target)
    return target


def predicted_rows(model: Model, dataset: ZooDataset) -> ZooDataset:
    """The rows that a model's outputs belong to: the last checkpoints for one of trajectories.

    Args:
        model: trained model.
        dataset: rows that it was given.
    """
    return model.rows_of(dataset) if isinstance(model, PropertyPredictor) else dataset


def best_constant(true: np.ndarray, target: str) -> Any:
    """The mean of a column, or its most frequent category: a guess without weights.

    Args:
        true: values of the column, (N,).
        target: name of the column.
    """
    if not is_category(target, true):
        return float(true.mean(dtype=np.float64))
    values, counts = np.unique(true, return_counts=True)
    return values.tolist()[int(counts.argmax())]


def _split_name(dataset: ZooDataset) -> str:
    """The splits of the rows, joined by "+"."""
    names = np.unique(dataset.columns["split"]) if "split" in dataset.columns else ["rows"]
    return "+".join(map(str, names))
