"""Linear probes of weights, of their statistics and of a hyper-representation, by property.

Source: the table of arXiv 2110.15288. The same linear probe (tasks/baselines/linear_probe.py) reads
the weights W, their statistics s(W) and the embedding E; the measure is R2 for numbers and accuracy
for categories. Unlike there, every feature enters as its quantile among the train rows: models of a
mixed zoo differ in scale by orders of magnitude, and a few of them would dominate a fit to plain
values (R2 below -30,000 on digits-cnn).

Shape letters: N rows, F features.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..loaders import ZooDataset, load_zoo
from ..tasks.autoencoding.hyper_representation import ZooAutoencoder, train_hyper_representation
from ..tasks.autoencoding.settings import AutoencoderSettings
from ..tasks.baselines.linear_probe import Features, LinearProbe, flat_weights, probe_statistics
from ..tasks.baselines.regressors import quantiles_of
from ..tasks.scoring.metrics import accuracy, r2
from ..tasks.scoring.targets import is_category, is_text
from ..zoos.strict_json import json_text
from .benchmark import BenchmarkOptions, BenchmarkOutcome, requested_zoo

RECIPE, SMALL_MODELS = "digits-cnn", 160
PROPERTIES = ("test_accuracy", "epoch", "generalization_gap", "frequency")
FEATURES = {"W": flat_weights, "s(W)": probe_statistics}
EMBEDDING = "E"
REPRESENTATION_EPOCHS = {"small": 12, "medium": 20, "full": 100}
TABLE, DATA = "probes.md", "probes.json"
FEWEST_VALUES = 2


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Scores of the probes of one property from one kind of features.

    Attributes:
        target: column of the property.
        features: kind of features, "W", "s(W)" or "E".
        measure: measure on the test rows, "R2" or "accuracy".
        scores: scores by seed.
        chance: score of the train rows' mean, or of their most common category.
        models: number of models in the test split.
        rows: number of rows in the test split.
        seeds: seeds of the autoencoders, and of the probes that have one.
    """

    target: str
    features: str
    measure: str
    scores: tuple[float, ...]
    chance: float
    models: int
    rows: int
    seeds: tuple[int, ...]


def probe_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Probe weights, their statistics and a hyper-representation of one zoo."""
    folder = requested_zoo(options, RECIPE, SMALL_MODELS if options.small else None)
    splits = load_zoo(folder)
    assert isinstance(splits, dict)
    settings = probe_settings(REPRESENTATION_EPOCHS["small" if options.small else "full"])
    results = probe_representations(splits, settings, options.seeds, options.progress)
    left_out = not_finite(splits)
    text = write_probe_report(options.out, folder.name, results, options.command, left_out)
    return BenchmarkOutcome({"path": str(options.out / DATA)}, text, options.out / TABLE)


def probe_representations(
    zoo: Mapping[str, ZooDataset],
    settings: AutoencoderSettings,
    seeds: Sequence[int] = (0, 1, 2),
    progress: bool = True,
) -> list[ProbeResult]:
    """Train one autoencoder per seed and probe every property that varies and is finite.

    Args:
        zoo: splits of the zoo; rows with status "diverged" are left out.
        settings: settings of the autoencoders.
        seeds: seeds of the autoencoders and of the probes of categories.
        progress: whether to show progress bars on stderr.

    Raises:
        KeyError: if a split is missing.
        ValueError: if no property varies and is finite, or the zoo has too few rows for the
            latent size.
    """
    splits = _ok_rows(zoo)
    unknown = not_finite(zoo)
    targets = [name for name in varying(splits["train"]) if name not in unknown]
    if not targets:
        raise ValueError(
            f"zoo {splits['train'].name!r} has no property to probe: none of {list(PROPERTIES)} "
            f"and its hyper-parameters varies in the train rows and is finite (not finite: "
            f"{unknown})"
        )
    autoencoders = [
        train_hyper_representation(splits["train"], splits["val"], settings, seed) for seed in seeds
    ]
    plain = {name: _Quantiles(values, splits["train"]) for name, values in FEATURES.items()}
    embeddings = [_Quantiles(_embedding(made), splits["train"]) for made in autoencoders]
    results = []
    for target in tqdm(targets, desc="probes", unit="property", disable=not progress):
        fits = {name: [LinearProbe(values, name)] * len(seeds) for name, values in plain.items()}
        fits[EMBEDDING] = [LinearProbe(embedding, EMBEDDING) for embedding in embeddings]
        for name, probes in fits.items():
            results.append(_result(splits, target, name, probes, seeds))
    return results


def probe_settings(epochs: int, progress: bool = True) -> AutoencoderSettings:
    """Settings of a contrastive hyper-representation, with permuted views and erased spans.

    Args:
        epochs: number of passes over the train rows.
        progress: whether to show progress bars on stderr.
    """
    return AutoencoderSettings(
        shape={"latent": 64, "width": 64},
        aligned=False,
        views=("permuted", "permuted"),
        gamma=0.5,
        noise=0.05,
        epochs=epochs,
        keep="last",  # R2 of the reconstruction says little about the latent vector
        progress=progress,
    )


def varying(train: ZooDataset) -> list[str]:
    """Properties and hyper-parameters that differ between the rows."""
    return [
        name for name in _properties(train) if len(np.unique(train.columns[name])) >= FEWEST_VALUES
    ]


def not_finite(zoo: Mapping[str, ZooDataset]) -> list[str]:
    """Properties without a finite value in some row with status ok.

    For example, implicit neural representations (INRs) have no accuracy.
    """
    splits = _ok_rows(zoo)
    return [name for name in _properties(splits["train"]) if not _finite(splits, name)]


def table(results: Sequence[ProbeResult]) -> str:
    """Markdown table with one row per property and one column per kind of features."""
    kinds = list(dict.fromkeys(result.features for result in results))
    head = ["property", "measure", "chance", *kinds]
    lines = [_line(head), _line(["---", "---"] + ["---:"] * (len(kinds) + 1))]
    for target in dict.fromkeys(result.target for result in results):
        found = {result.features: result for result in results if result.target == target}
        first = next(iter(found.values()))
        cells = [_spread(found[kind].scores) for kind in kinds]
        lines.append(_line([target, first.measure, f"{first.chance:.3f}", *cells]))
    return "\n".join(lines) + "\n"


def write_probe_report(
    folder: Path,
    zoo: str,
    results: Sequence[ProbeResult],
    command: str,
    left_out: Sequence[str] = (),
) -> str:
    """Write report and data to a folder.

    Args:
        folder: output folder, created if missing.
        zoo: name of the zoo.
        results: results of `probe_representations`.
        command: command line, for the report.
        left_out: properties that `not_finite` lists.

    Returns:
        The report as Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    first = results[0]
    text = (
        f"# Linear probes: {zoo}\n\nMade by `{command}`.\n\n{table(results)}\n"
        f"Tested on the {first.rows} rows with status ok of the test split's {first.models} "
        f"models, seeds {', '.join(map(str, first.seeds))}. W: flat weights; s(W): seven "
        "statistics of every tensor; E: latent vectors of a hyper-representation trained on the "
        "train split "
        "without labels; every feature enters as its quantile among the train rows. ± is the "
        "deviation over seeds; probes of numbers are solved in closed form and have none.\n"
    )
    if left_out:
        text += f"\nLeft out, because not every row has a finite value: {', '.join(left_out)}.\n"
    (folder / TABLE).write_text(text, encoding="utf-8")
    data = {"zoo": zoo, "command": command, "results": [asdict(result) for result in results]}
    (folder / DATA).write_text(json_text(data, indent=1), encoding="utf-8")
    return text


def _ok_rows(zoo: Mapping[str, ZooDataset]) -> dict[str, ZooDataset]:
    return {name: zoo[name].filter("status == 'ok'") for name in ("train", "val", "test")}


def _properties(train: ZooDataset) -> list[str]:
    names = [*PROPERTIES, *train.header.hyper_parameters]
    return [name for name in names if name in train.columns]


def _finite(splits: Mapping[str, ZooDataset], name: str) -> bool:
    columns = [rows.columns[name] for rows in splits.values()]
    return all(is_text(column) or bool(np.isfinite(column).all()) for column in columns)


class _Quantiles:
    """Features of a dataset as quantiles among the features of the train rows, computed once."""

    def __init__(self, features: Features, train: ZooDataset) -> None:
        self._features = features
        self._known: dict[tuple[Any, bytes], np.ndarray] = {}
        self._quantiles = quantiles_of(features(train))

    def __call__(self, dataset: ZooDataset) -> np.ndarray:
        key = (dataset.source, dataset.rows.tobytes())  # every split counts its rows from 0
        if key not in self._known:
            self._known[key] = self._quantiles.transform(self._features(dataset))
        return self._known[key]


def _embedding(autoencoder: ZooAutoencoder) -> Features:
    """The embedding of every row of a dataset, (N, Z)."""
    return lambda rows: autoencoder.embed(autoencoder.canonical.weights(rows)).double().numpy()


def _result(
    splits: Mapping[str, ZooDataset],
    target: str,
    name: str,
    probes: Sequence[LinearProbe],
    seeds: Sequence[int],
) -> ProbeResult:
    train, test = splits["train"].columns[target], splits["test"].columns[target]
    categorical = is_category(target, train)
    measure: Callable[[np.ndarray, Any], float] = accuracy if categorical else r2
    scores = list[float]()
    for probe, seed in zip(probes, seeds, strict=True):
        if scores and not categorical and name != EMBEDDING:
            break  # in closed form the seed changes nothing
        probe.fit(splits["train"], splits["val"], target, seed)
        scores.append(float(measure(test, probe.predict(splits["test"]))))
    guess = statistics.mode(train.tolist()) if categorical else float(np.mean(train))
    return ProbeResult(
        target=target,
        features=name,
        measure="accuracy" if categorical else "R2",
        scores=tuple(scores),
        chance=float(measure(test, np.full(len(test), guess))),
        models=len(np.unique(splits["test"].columns["model_id"])),
        rows=len(test),
        seeds=tuple(seeds),
    )


def _spread(scores: Sequence[float]) -> str:
    mean = statistics.fmean(scores)
    return f"{mean:.3f} ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else f"{mean:.3f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


BENCHMARKS = {"hyper-representation-probes": probe_benchmark}
"""Benchmarks of this module by name."""
