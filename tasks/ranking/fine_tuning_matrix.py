"""Fine-tuning of every model of some zoos on every target, as populations.

Models of one architecture are fine-tuned together, whatever zoos they are of, one rate at a time.
The rate of each cell is the one with the best accuracy on the target's val images. The last layer
is new and zero at first, as in Kolesnikov et al. 2020 (BiT, arXiv 1912.11370). A run that was
killed goes on where it was.

Shape letters: M models, T targets, S seeds, R rates, D length of the flat weight vector.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...builders.children.fine_tuning import child_recipe, with_head
from ...builders.children.parents import Parents
from ...builders.training.cohort import Cohort, run_cohort
from ...builders.training.initialization import initial_weights
from ...zoos.errors import UnsuitableError
from ...zoos.networks.architectures import Architecture
from ...zoos.provenance import commit, package_version
from ...zoos.recipe import Model
from ...zoos.strict_json import json_text
from ..processes import worker_pool
from .matrix import Matrix, write_matrix
from .model_sources import images_seen, model_source
from .samples import image_samples, refuse_overlap
from .targets import Target, make_target

MODELS_AT_ONCE = 32
KEPT = 64  # zoos whose tables stay in memory from job to job
Job = tuple[tuple[str, ...], str, int, float]  # zoos, target, seed, rate
SEED_STEP = 1_000_003  # between the seeds of one model in different fine-tunings


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How every model is fine-tuned.

    Attributes:
        epochs: passes over the target's train images.
        rates: learning rates of Adam; the val images choose among them.
        shots: train images per class.
        batch_size: images per step.
        seeds: number of fine-tunings of each cell.
    """

    epochs: int = 20
    rates: tuple[float, ...] = (1e-3, 1e-2)
    shots: int = 15
    batch_size: int = 32
    seeds: int = 2

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.epochs, self.shots, self.batch_size, self.seeds) < 1 or not self.rates:
            raise ValueError(f"epochs, shots, batch_size, seeds and rates must be positive: {self}")


def finetune_matrix(
    zoos: Sequence[Path | str],
    targets: Sequence[str],
    out: Path,
    protocol: Protocol | None = None,
    *,
    workers: int = 1,
    progress: bool = True,
) -> Matrix:
    """Fine-tune every model on every target and write the matrix.

    Args:
        zoos: zoo folders; FOLDER@EPOCH takes that checkpoint, such as @0 for untrained models.
        targets: names, see `targets.make_target`.
        out: matrix file to write; finished parts lie beside it until it is whole.
        protocol: settings of every fine-tuning.
        workers: processes, each with one thread.
        progress: whether to show progress on stderr.

    Raises:
        ZooError: if a zoo or target cannot be used.
        UnsuitableError: if a zoo's models were trained on an image of a target, or take images of
            another shape.
        ValueError: if a zoo or target is named twice.
    """
    protocol = protocol or Protocol()
    everyone = [model_source(zoo) for zoo in zoos]
    made = [make_target(name, protocol.shots) for name in targets]
    for names in ([label for label, _ in everyone], list(targets)):
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"zoos and targets must be different and at least one, got {names}")
    for label, parents in everyone:
        check_parents(label, parents, made)
    folder = out.with_name(out.name + ".parts")
    folder.mkdir(parents=True, exist_ok=True)
    groups = _groups(zoos, everyone)
    jobs = [
        (group, target, seed, rate)
        for group in groups
        for target in targets
        for seed in range(protocol.seeds)
        for rate in protocol.rates
    ]
    results = _run(jobs, protocol, folder, workers, progress)
    matrix = _matrix([str(zoo) for zoo in zoos], everyone, made, protocol, results)
    provenance = {"weightzoo": package_version(), "commit": commit()}
    provenance["targets"] = json_text({one.name: one.images.fingerprint for one in made})
    write_matrix(out, matrix, provenance)
    for part in folder.iterdir():
        part.unlink()
    folder.rmdir()
    return matrix


def check_parents(label: str, parents: Parents, targets: Sequence[Target]) -> None:
    """Refuse targets that the models cannot take, or saw.

    Args:
        label: name of the zoo in errors.
        parents: models to fine-tune.
        targets: tasks to fine-tune them on.

    Raises:
        UnsuitableError: if shapes differ, or a training image of the models is in a target.
    """
    seen = images_seen(parents)
    for target in targets:
        shape = tuple(parents.architecture.input_shape)
        if shape != target.images.shape:
            raise UnsuitableError(
                f"models of {label!r} take images of shape {shape}, and target {target.name!r} "
                f"has {target.images.shape}: leave one out"
            )
        for name, part in (("train", target.images.train), ("test", target.images.test)):
            again = f"the {name} images of target {target.name!r}"
            refuse_overlap(seen, image_samples(target.images, part), f"images {label!r} saw", again)


def fine_tune(
    sources: Sequence[Parents], target: Target, protocol: Protocol, seed: int, rate: float
) -> np.ndarray:
    """Fine-tune all models of some zoos on one target with one rate.

    Args:
        sources: M models of one architecture in all.
        target: task to fine-tune on.
        protocol: settings of the fine-tuning.
        seed: number of the fine-tuning; decides the order of images.
        rate: learning rate.

    Returns:
        (3, M): accuracy on val and test, NaN where it diverged, and seconds for each model.
    """
    architecture = with_head(sources[0].architecture, target.images.classes)
    overrides = {
        "lr": rate,
        "optimizer": "adam",
        "schedule": "constant",
        "batch_size": protocol.batch_size,
        "train_fraction": 1.0,
        "augmentation": "none",
        "dropout": 0.0,
        "weight_decay": 0.0,
        "init": "kaiming_uniform",
    }
    recipe = child_recipe(
        sources[0],
        name="fine-tuned",
        description="",
        architecture=architecture,
        images="digits",  # a recipe must name a set; the cohort is given the target's images
        epochs=protocol.epochs,
        checkpoints=[protocol.epochs],
        overrides=overrides,
    )
    models = [child_model(model, seed, overrides) for one in sources for model in one.models]
    old = torch.cat([one.weights(range(len(one.models))) for one in sources])
    initial = with_new_head(architecture, models, sources[0].architecture, old)
    order = sorted(range(len(models)), key=lambda i: models[i].hyper_parameters.activation)
    result = np.full((3, len(models)), np.nan)
    for start in range(0, len(order), MODELS_AT_ONCE):
        part = order[start : start + MODELS_AT_ONCE]
        started = time.perf_counter()
        cohort = Cohort(recipe, [models[i] for i in part], target.images, "cpu", initial[part])
        done = run_cohort(cohort, recipe)
        for row, name in enumerate(("val_accuracy", "test_accuracy")):
            result[row, part] = done.metrics[name][:, -1].numpy()
        result[2, part] = (time.perf_counter() - started) / len(part)
    return result


def child_model(model: Model, seed: int, overrides: dict[str, Any]) -> Model:
    """A model with the seed of one fine-tuning and other hyper-parameters.

    Args:
        model: the parent.
        seed: number of the fine-tuning.
        overrides: hyper-parameters that replace the parent's.
    """
    return replace(
        model,
        seed=model.seed + SEED_STEP * (seed + 1),
        hyper_parameters=replace(model.hyper_parameters, **overrides),
    )


def with_new_head(
    architecture: Architecture, models: Sequence[Model], parent: Architecture, weights: Tensor
) -> Tensor:
    """The parents' weights, but for the last layer, which is zero: (M, D).

    A last layer that is drawn gives confident wrong answers on features of a trained network, which
    are large: few steps do not undo them, and trained networks would fall behind untrained ones.

    Args:
        architecture: architecture of the children.
        models: M children.
        parent: architecture of the parents.
        weights: weights of the parents, one row for each child.
    """
    flat = initial_weights(architecture, models)
    new, old = architecture.layer_table().split(flat), parent.layer_table().split(weights)
    head = architecture.layer_names()[-1]
    for tensor in architecture.layer_table():
        if tensor.layer == head:
            new[tensor.name].zero_()
        else:
            new[tensor.name].copy_(old[tensor.name])
    return flat


def _groups(
    zoos: Sequence[Path | str], everyone: Sequence[tuple[str, Parents]]
) -> list[tuple[str, ...]]:
    """Zoos by architecture, so that their models run together; the last layer does not count."""
    groups: dict[str, list[str]] = {}
    for zoo, (_, parents) in zip(zoos, everyone, strict=True):
        one = replace(with_head(parents.architecture, 2), name="")
        groups.setdefault(json_text(one.to_json()), []).append(str(zoo))
    return [tuple(group) for group in groups.values()]


def _run(
    jobs: Sequence[Job], protocol: Protocol, folder: Path, workers: int, progress: bool
) -> dict[Job, np.ndarray]:
    """The result of every job, from a file of an earlier run or from training now."""
    _source.cache_clear()  # files may have changed since the last matrix of this process
    _target.cache_clear()
    work = partial(_part, protocol, folder)
    bar = tqdm(total=len(jobs), desc="fine-tuning", unit="run", disable=not progress)
    done = {}
    if workers == 1:
        for job in jobs:
            done[job] = work(job)
            bar.update()
    else:
        with worker_pool(workers) as pool:
            for job, result in zip(jobs, pool.map(work, jobs), strict=True):
                done[job] = result
                bar.update()
    bar.close()
    return done


@lru_cache(maxsize=KEPT)
def _source(zoo: str) -> tuple[str, Parents]:
    return model_source(zoo)


@lru_cache(maxsize=1)
def _target(name: str, shots: int) -> Target:
    return make_target(name, shots)


def _part(protocol: Protocol, folder: Path, job: Job) -> np.ndarray:
    """One job, kept as a file named by all that decides its result."""
    zoos, target_name, seed, rate = job
    sources = [_source(zoo) for zoo in zoos]
    target = _target(target_name, protocol.shots)
    key = {
        "zoos": [[label, parents.provenance, parents.epochs] for label, parents in sources],
        "target": target.images.fingerprint,
        "protocol": asdict(protocol) | {"seeds": 0, "rates": 0},
        "job": [seed, rate],
        "version": package_version(),
    }
    digest = hashlib.sha256(json_text(key, sort_keys=True).encode()).hexdigest()
    path = folder / f"{digest[:32]}.npy"
    if path.exists():
        kept: np.ndarray = np.load(path, allow_pickle=False)
        return kept
    result = fine_tune([parents for _, parents in sources], target, protocol, seed, rate)
    scratch = path.with_suffix(".tmp")
    with scratch.open("wb") as file:
        np.save(file, result)
    os.replace(scratch, path)
    return result


def _matrix(
    zoos: Sequence[str],
    everyone: Sequence[tuple[str, Parents]],
    targets: Sequence[Target],
    protocol: Protocol,
    results: dict[Job, np.ndarray],
) -> Matrix:
    """Join the runs; each cell takes the rate that its val images choose."""
    sizes = {zoo: len(one.models) for zoo, (_, one) in zip(zoos, everyone, strict=True)}
    runs: dict[tuple[str, str, int, float], np.ndarray] = {}
    for (group, target, seed, rate), result in results.items():
        ends = np.cumsum([sizes[zoo] for zoo in group])[:-1]
        for zoo, part in zip(group, np.split(result, ends, axis=1), strict=True):
            runs[zoo, target, seed, rate] = part
    blocks = []
    for zoo in zoos:
        own = np.array(
            [
                [
                    [runs[zoo, one.name, seed, rate] for rate in protocol.rates]
                    for seed in range(protocol.seeds)
                ]
                for one in targets
            ]
        )  # (T, S, R, 3, M)
        val = np.where(np.isfinite(own[..., 0, :]), own[..., 0, :], -1)
        best = val.argmax(axis=2)[:, :, None]  # (T, S, 1, M)
        chosen = [np.take_along_axis(own[..., i, :], best, 2)[:, :, 0] for i in (1, 0)]
        blocks.append(np.stack([*chosen, own[..., 2, :].sum(axis=2)]).transpose(0, 3, 1, 2))
    test, val, seconds = np.concatenate(blocks, axis=1)
    return Matrix(
        models=tuple(f"{label}/{m.model_id}" for label, one in everyone for m in one.models),
        targets=tuple(one.name for one in targets),
        families=tuple(one.family for one in targets),
        test=test,
        val=val,
        seconds=seconds,
        columns=_model_columns(everyone),
        protocol=asdict(protocol) | {"selection": "rate by val accuracy", "head": "zero at first"},
    )


def _model_columns(everyone: Sequence[tuple[str, Parents]]) -> dict[str, np.ndarray]:
    """What is known of the models without fine-tuning."""
    parameters, accuracies, sources, names = [], [], [], []
    for _, parents in everyone:
        columns = [file.read_columns(["val_accuracy"]) for file in parents.files]
        for index, row in parents.row_indices:
            parameters.append(float(parents.architecture.layer_table().parameters))
            accuracies.append(float(columns[index]["val_accuracy"][row]))
            sources.append(parents.images)
            names.append(parents.architecture.name)
    return {
        "parameters": np.array(parameters),
        "source_accuracy": np.array(accuracies),
        "source": np.array(sources, dtype=object),
        "architecture": np.array(names, dtype=object),
    }
