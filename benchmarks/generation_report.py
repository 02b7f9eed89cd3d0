"""Outcome of the generation benchmark as tables, JSON and plots."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..tasks.inspection.plots import figure, save
from ..zoos.strict_json import json_text
from .generation_outcome import (
    PUBLISHED_KDE,
    GenerationSettings,
    Job,
    MethodRow,
    Outcome,
    mean_and_spread,
    rows_from_json,
    rows_json,
)

NOT_MEASURED = "–"
BASELINES = ("B_T", "B_F", "B_KDE30", "B_KDE30 aligned", "B_Neigh30 aligned")
CURVES = (
    "B_T",
    "B_F",
    "B_KDE30",
    "S_KDE30",
    PUBLISHED_KDE,
    "S_KDE30, plain loss",
    "S_KDE30 + behaviour",
)
FORMAT = "weightzoo-generation-1"
PUBLISHED_NOTE = (
    f"*{PUBLISHED_KDE}*: the public code draws every latent dimension with the same random "
    "state, so that all dimensions come from the same train model with the same noise. The text of "
    "arXiv 2209.14733 and the row S_KDE30 draw each dimension independently. Only the row of the "
    "published code is comparable with the published 68.6 % (MNIST, epoch 0)."
)
CHANGE_OF_ARCHITECTURE = (
    "Tensors of the larger architecture with the same name and shape get the zoo models' weights. "
    "The added convolution is drawn by the zoo's `init`, as are all weights of B_T. *skipped "
    "conv*: the convolution and its activation inside a residual connection, x + f(x)."
)
TABLE, DATA = "generation.md", "generation.json"
CURVE_PLOT, LATENT_PLOT, LAYER_PLOT = "curves.png", "latent.png", "layers.png"


def write_generation_report(
    folder: Path,
    zoo: str,
    settings: GenerationSettings,
    outcomes: Mapping[Job, Outcome],
    command: str,
) -> str:
    """Write report, data and plots to a folder.

    Args:
        folder: output folder, created if missing.
        zoo: name of the zoo.
        settings: settings of the benchmark.
        outcomes: outcomes by job.
        command: command line that repeats the run.

    Returns:
        The report as Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for outcome in outcomes.values() for row in outcome.rows]
    text = _text(zoo, settings, outcomes, rows, command)
    (folder / TABLE).write_text(text, encoding="utf-8")
    data = {
        "format": FORMAT,
        "zoo": zoo,
        "command": command,
        "settings": asdict(settings),
        "learned": _learned(outcomes),
        "rows": rows_json(rows),
        "reconstruction": _reconstruction(outcomes),
        "seconds": {f"{job.name}, seed {job.seed}": out.seconds for job, out in outcomes.items()},
    }
    (folder / DATA).write_text(json_text(data, indent=1), encoding="utf-8")
    _plot_curves(next(iter(_sections(rows).values())), folder / CURVE_PLOT)
    _plot_latent(_latents(outcomes), folder / LATENT_PLOT)
    _plot_layers(_reconstruction(outcomes), folder / LAYER_PLOT)
    return text


def table(rows: Sequence[MethodRow]) -> str:
    """Markdown table of mean and deviation over all models and seeds, by method and epoch."""
    epochs = sorted({epoch for row in rows for epoch in row.found.epochs})
    head = ["method", *(f"epoch {epoch}" for epoch in epochs)]
    head += ["ensemble", "differ", "distance", "agree", "models", "broken"]
    lines = [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    methods = list(dict.fromkeys(row.method for row in rows))
    for method in sorted(methods, key=_rank):
        of_method = [row for row in rows if row.method == method]
        cells = [_accuracy(of_method, epoch) for epoch in epochs]
        for name in ("ensemble", "disagreement", "nearest_distance", "nearest_agreement"):
            cells.append(
                _number(mean_and_spread([getattr(row.found, name) for row in of_method])[0])
            )
        counts = [
            sum(len(row.found.accuracy) for row in of_method),
            sum(row.found.broken for row in of_method),
        ]
        lines.append(_line([method, *cells, *map(str, counts)]))
    return "\n".join(lines) + "\n"


def leaderboard_section(data: Mapping[str, Any]) -> str:
    """Section of the leaderboard with the main table of a result file."""
    (_, images), own = next(iter(_sections(rows_from_json(data["rows"])).items()))
    return (
        f"## generation: are networks drawn from an autoencoder any good? ({data['zoo']})\n\n"
        f"Test accuracy on {images} by epoch of fine-tuning, mean ± deviation over models and "
        f"seeds.\n\n{table(own)}\n{PUBLISHED_NOTE}\n\n`{data['command']}`.\n"
    )


def _plot_curves(rows: Sequence[MethodRow], path: Path) -> None:
    """Plot test accuracy over epochs of fine-tuning, with a band of one deviation."""
    drawing, (axis,) = figure(1)
    methods = [name for name in CURVES if any(row.method == name for row in rows)]
    for index, method in enumerate(methods):
        of_method = [row for row in rows if row.method == method]
        epochs = of_method[0].found.epochs
        accuracy = np.concatenate([row.found.accuracy.numpy() for row in of_method])
        mean, spread = np.nanmean(accuracy, 0), np.nanstd(accuracy, 0, ddof=1)
        axis.plot(epochs, mean, color=f"C{index}", marker="o", markersize=3, label=method)
        axis.fill_between(epochs, mean - spread, mean + spread, color=f"C{index}", alpha=0.15)
    axis.set_xscale("symlog", linthresh=1)
    ticks = sorted({epoch for row in rows for epoch in row.found.epochs})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set(xlabel="epochs of fine-tuning", ylabel="test accuracy", ylim=(0, 1))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    save(drawing, path)


def _plot_latent(latents: Mapping[str, dict[str, Any]], path: Path) -> None:
    """Plot the first two principal components of the latent vectors, by accuracy and by epoch."""
    drawing, axes = figure(2 * len(latents))
    for pair, (name, found) in enumerate(latents.items()):
        components = _principal(found["latent"])
        for axis, column in zip(axes[2 * pair :], ("test_accuracy", "epoch"), strict=False):
            marks = axis.scatter(*components.T, c=found[column], s=8, cmap="viridis")
            drawing.colorbar(marks, ax=axis, label=column.replace("_", " "))
            axis.set(xlabel="component 1", ylabel="component 2")
            axis.set_title(name, fontsize=9)
    save(drawing, path)


def _plot_layers(reconstruction: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Plot the explained variance of every layer on train and val, by autoencoder."""
    drawing, axes = figure(len(reconstruction))
    for axis, (name, found) in zip(axes, reconstruction.items(), strict=True):
        layers = list(found["train"])
        for shift, split in ((-0.2, "train"), (0.2, "val")):
            heights = [found[split][layer][0] for layer in layers]
            errors = [np.nan_to_num(found[split][layer][1]) for layer in layers]
            axis.bar(np.arange(len(layers)) + shift, heights, 0.4, yerr=errors, label=split)
        axis.axhline(0, color="0.3", linewidth=0.8)
        axis.set_xticks(range(len(layers)), layers, rotation=45, ha="right", fontsize=8)
        axis.set(ylim=(-1, 1), title=name)
    axes[0].set_ylabel("explained variance")
    axes[0].legend(fontsize=8)
    save(drawing, path)


def _text(
    zoo: str,
    settings: GenerationSettings,
    outcomes: Mapping[Job, Outcome],
    rows: Sequence[MethodRow],
    command: str,
) -> str:
    sections = _sections(rows)
    (architecture, images), own = next(iter(sections.items()))
    seconds = sum(outcome.seconds for outcome in outcomes.values())
    parts = [
        f"# Generated networks: {zoo}",
        f"Made by `{command}`; {len(settings.seeds)} seeds, {settings.models} models per method "
        f"and seed; {seconds:.0f} process-seconds.",
        _sources(_learned(outcomes)),
        f"## Test accuracy on {images} by epoch of fine-tuning",
        table(own),
        "Mean ± deviation over models and seeds. B_T: training from scratch; B_F: zoo models; "
        "B_KDE30: each weight drawn separately, by kernel density estimation (KDE), from the best "
        "30 % of the train rows by val accuracy; S_: latent vectors drawn and decoded. "
        "*ensemble*: accuracy of the mean logits at epoch 0; *differ*: share of test images on "
        "which two models of the set disagree; *distance*: distance to the nearest "
        "training model, after alignment, "
        "in units of the usual distance between nearest training models; *agree*: share of test "
        "images on which that model predicts the same class; *broken*: number of models with "
        "non-finite values.",
        PUBLISHED_NOTE,
    ]
    for (of, name), others in sections.items():
        if name != images:
            parts += [f"## Transfer to {name}", table(others)]
        elif of != architecture:
            parts += [f"## Change of architecture to {of}", table(others)]
    if all(of == architecture for of, _ in sections):
        parts.append(
            f"No change of architecture: {architecture} has no layer with an image as output."
        )
    else:
        parts.append(CHANGE_OF_ARCHITECTURE)
    parts += [
        "## Explained variance of the reconstruction",
        _reconstruction_table(_reconstruction(outcomes)),
        "1 - L / L(mean of the train rows), where L is the squared error in units of each layer's "
        "deviation, for every training loss.",
        f"![accuracy curves]({CURVE_PLOT})",
        f"![latent map]({LATENT_PLOT})",
        f"![reconstruction by layer]({LAYER_PLOT})",
    ]
    return "\n\n".join(parts) + "\n"


def _learned(outcomes: Mapping[Job, Outcome]) -> dict[str, Any]:
    """Description of the rows learned from, equal for all jobs because they read one zoo."""
    return next(iter(outcomes.values())).learned


def _sources(learned: Mapping[str, Any]) -> str:
    values = learned["hyper_parameters"]
    epochs = ", ".join(map(str, learned["epochs"]))
    return (
        f"Learned from {learned['rows']} train rows of {learned['models']} models with activation "
        f"{values['activation']}, epochs {epochs}. All are fine-tuned with the hyper-parameters of "
        "the model with the best val accuracy, without dropout: "
        f"{values['optimizer']}, learning rate {values['lr']:.3g}, "
        f"weight decay {values['weight_decay']:.3g}, init {values['init']}, "
        f"{values['train_fraction']:.0%} of the train images, batches of {values['batch_size']}."
    )


def _sections(rows: Sequence[MethodRow]) -> dict[tuple[str, str], list[MethodRow]]:
    """Rows by architecture and image set, with those of the zoo first."""
    sections: dict[tuple[str, str], list[MethodRow]] = {}
    for row in rows:
        sections.setdefault((row.architecture, row.images), []).append(row)
    return sections


def _reconstruction(outcomes: Mapping[Job, Outcome]) -> dict[str, Any]:
    """Mean and deviation over seeds, by autoencoder, split and layer."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for outcome in outcomes.values():
        for name, splits in outcome.reconstruction.items():
            for split, layers in splits.items():
                for layer, share in layers.items():
                    shares = found.setdefault(name, {}).setdefault(split, {})
                    shares.setdefault(layer, []).append(share)
    return {
        name: {
            split: {layer: mean_and_spread(values) for layer, values in layers.items()}
            for split, layers in splits.items()
        }
        for name, splits in found.items()
    }


def _reconstruction_table(reconstruction: Mapping[str, Any]) -> str:
    layers = list(next(iter(reconstruction.values()))["train"])
    lines = [
        _line(["autoencoder", "split", *layers]),
        _line(["---", "---"] + ["---:"] * len(layers)),
    ]
    for name, splits in reconstruction.items():
        for split, found in splits.items():
            lines.append(_line([name, split, *(_spread(*found[layer]) for layer in layers)]))
    return "\n".join(lines) + "\n"


def _latents(outcomes: Mapping[Job, Outcome]) -> dict[str, dict[str, Any]]:
    named = {}
    for job, outcome in outcomes.items():
        if outcome.latent is not None and job.name != "plain loss":
            named[job.name] = outcome.latent
    return named


def _principal(points: np.ndarray) -> np.ndarray:
    """First two principal components, (N, 2); the second is 0 for points of one dimension."""
    centred = np.pad(points - points.mean(0), ((0, 0), (0, max(0, 2 - points.shape[1]))))
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:2].T


def _accuracy(rows: Sequence[MethodRow], epoch: int) -> str:
    values = [
        accuracy
        for row in rows
        if epoch in row.found.epochs
        for accuracy in row.found.accuracy[:, row.found.epochs.index(epoch)].tolist()
    ]
    return _spread(*mean_and_spread(values)) if values else NOT_MEASURED


def _rank(method: str) -> tuple[bool, bool, bool]:
    return not method.startswith("B_"), method not in CURVES, method.startswith("recon")


def _spread(mean: float, spread: float) -> str:
    return f"{_number(mean)} ± {spread:.3f}" if math.isfinite(spread) else _number(mean)


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else NOT_MEASURED


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
