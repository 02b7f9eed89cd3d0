"""What the commands do for autoencoders: train one, sample from it, run the two benchmarks.

Importing this module adds them to `TRAIN_KINDS` and `BENCHMARKS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from ..builders.build import build_zoo
from ..loaders import ZooDataset, load_zoo
from ..zoos.index import INDEX_NAME
from ..zoos.recipe import load_recipe, recipe_names
from .autoencoder_training import AutoencoderSettings
from .autoencoding import train_hyper_representation
from .benchmark_definitions import BENCHMARKS
from .benchmark_zoos import warn_of_other_code
from .benchmarks import BenchmarkOptions, BenchmarkOutcome
from .generated_zoo import generate, write_generated_zoo
from .generation_benchmark import run_generation
from .generation_outcome import generation_settings
from .generation_report import DATA as GENERATION_DATA
from .generation_report import TABLE as GENERATION_TABLE
from .generation_report import write_generation_report
from .learnable_rows import homogeneous, homogeneous_splits
from .probes import DATA as PROBE_DATA
from .probes import TABLE as PROBE_TABLE
from .probes import not_finite, probe_representations, probe_settings, write_probe_report
from .sampling import bandwidth_of, make_sampler
from .saved_autoencoders import MODEL_NAME, Origin, load_autoencoder, save_autoencoder
from .sequence_autoencoding import SequenceSettings, train_sane
from .training_commands import TRAIN_KINDS, TrainOptions

GENERATION_RECIPE, PROBE_RECIPE = "digits-cnn-seed", "digits-cnn"
SMALL_PROBE_MODELS = 160
TRANSFER = "glyphs-digits"  # as large as digits, with as many classes
SHAPE = ("latent", "width", "heads", "blocks", "feed_forward", "dropout")
SHAPE_OF_MODELS = (*SHAPE, "compression", "bottleneck")
LEAST_EPOCH = "least_epoch"  # of the rows to learn from


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What the user asks of sampling.

    Attributes:
        model: folder of a trained autoencoder, or its file.
        out: zoo folder to make.
        zoo: whose rows the sampler is fitted to; None takes those it was trained on.
        count: models to draw.
        sampler: a name in `SAMPLERS`.
        bandwidth: of a kernel density; None takes the default.
        bandwidth_unit: "relative" or "absolute"; None takes the sampler's own.
        top: share of the rows, the best by val accuracy.
        draws: drawn for each that is kept.
        seed: of the draws.
        overwrite: replace a zoo that is there.
    """

    model: Path
    out: Path
    zoo: Path | None = None
    count: int = 100
    sampler: str = "kde"
    bandwidth: float | None = None
    bandwidth_unit: str | None = None
    top: float = 0.3
    draws: int = 1
    seed: int = 0
    overwrite: bool = False


def train_autoencoder(kind: str, options: TrainOptions) -> dict[str, Any]:
    """Train a hyper-representation or SANE on one zoo and save it; return what to print.

    Raises:
        ValueError: if there are several zoos, or an argument is unknown (the known are listed) or
            of another type.
    """
    if len(options.zoos) != 1:
        raise ValueError(f"{kind} learns one architecture: give one zoo, got {options.zoos!r}")
    _check_types(kind, options.config)
    config = dict(options.config)
    least_epoch = config.pop(LEAST_EPOCH, 0)
    splits = load_zoo(options.zoos[0])
    assert isinstance(splits, dict)
    train, val = homogeneous_splits(splits, least_epoch)
    train_kind, settings_of, shape = KINDS[kind]
    settings = settings_of(**_settings(settings_of, shape, config, options.settings))
    autoencoder = train_kind(train, val, settings, options.seed, options.out, options.resume)
    origin = Origin(zoo=str(Path(options.zoos[0]).resolve()), least_epoch=least_epoch)
    save_autoencoder(autoencoder, options.out / MODEL_NAME, origin)
    kept = {
        "rows": len(train),
        "epochs": len(autoencoder.history),
        "kept_epoch": autoencoder.kept_epoch,
    }
    note = {"note": autoencoder.note} if autoencoder.note else {}
    return {"path": str(options.out)} | kept | autoencoder.history[autoencoder.kept_epoch] | note


def sample_zoo(options: SampleOptions) -> dict[str, Any]:
    """Draw models from a trained autoencoder and write them as a zoo; return what to print.

    Raises:
        ValueError: if the file is no autoencoder or does not say its zoo, or as `generate`.
        BuildError: if the folder is taken.
    """
    sampler = make_sampler(options.sampler, options.bandwidth, options.bandwidth_unit)
    autoencoder, origin = load_autoencoder(options.model)
    if origin is None and options.zoo is None:
        raise ValueError(f"{options.model} does not say what zoo it was trained on: pass --zoo")
    zoo = load_zoo(options.zoo or origin.zoo, split="train")  # type: ignore[union-attr]
    assert isinstance(zoo, ZooDataset)
    train = homogeneous(zoo, 0 if origin is None else origin.least_epoch)
    how = {name: getattr(options, name) for name in ("top", "draws", "seed")}
    weights = generate(autoencoder, train, options.count, sampler=sampler, **how)
    drawn = {"sampler": options.sampler} | bandwidth_of(sampler)
    made = write_generated_zoo(
        options.out,
        weights,
        train,
        {"name": options.out.name, "generator": str(options.model)} | drawn | how,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    found = {name: getattr(made, name) for name in ("models", "diverged", "test_accuracy")}
    return {"path": str(options.out)} | found | drawn


def generation_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Generated networks against every baseline; see `generation_benchmark`."""
    folder = _zoo(options, GENERATION_RECIPE, None)
    settings = generation_settings(options.small, options.seeds, TRANSFER)
    outcomes = run_generation(folder, settings, options.workers, options.progress)
    text = write_generation_report(options.out, folder.name, settings, outcomes, options.command)
    data = {"path": str(options.out / GENERATION_DATA)}
    return BenchmarkOutcome(data, text, options.out / GENERATION_TABLE)


def probe_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """W, s(W) and a hyper-representation, each read by linear probes; see `probes`."""
    folder = _zoo(options, PROBE_RECIPE, SMALL_PROBE_MODELS if options.small else None)
    splits = load_zoo(folder)
    assert isinstance(splits, dict)
    settings = probe_settings(options.small)
    results = probe_representations(splits, settings, options.seeds, options.progress)
    left_out = not_finite(splits)
    text = write_probe_report(options.out, folder.name, results, options.command, left_out)
    return BenchmarkOutcome(
        {"path": str(options.out / PROBE_DATA)}, text, options.out / PROBE_TABLE
    )


def _zoo(options: BenchmarkOptions, recipe: str, models: int | None) -> Path:
    """The user's zoo, or that of the recipe, built unless it is there.

    A user's path that is no zoo folder is the name of a recipe.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    for named in options.zoos.values():
        if (named / INDEX_NAME).is_file():
            return named
        if str(named) not in recipe_names() and named.suffix != ".toml":
            raise ValueError(
                f"--zoo must be a zoo folder, the name of a recipe (`weightzoo list`) or a .toml "
                f"file, got {str(named)!r}"
            )
        recipe, models = str(named), None
    folder = options.out / "zoos" / Path(recipe).stem
    if models is not None:
        folder = folder.with_name(f"{folder.name}-{models}")
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        build_zoo(
            load_recipe(recipe),
            folder,
            models=models,
            workers=options.workers,
            progress=options.progress,
        )
        return folder
    warn_of_other_code(folder, next(iter(load_zoo(folder).values())).header.provenance)
    return folder


def _check_types(kind: str, config: Mapping[str, Any]) -> None:
    """Refuse text and the like where a number, or true or false, is wanted."""
    _, settings_of, _ = KINDS[kind]
    defaults: dict[str, Any] = dict.fromkeys((*SHAPE, LEAST_EPOCH), 0)
    defaults |= {field.name: field.default for field in fields(settings_of)}
    for name, value in config.items():
        if isinstance(default := defaults.get(name), bool) and not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, got {value!r}")
        if isinstance(default, int | float) and not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number, got {value!r}")


def _settings(
    kind: type[AutoencoderSettings],
    shape: tuple[str, ...],
    config: dict[str, Any],
    settings: Any,
) -> dict[str, Any]:
    """Arguments of the encoder under "shape", all others as fields of the settings."""
    given = config | {name: value for name, value in settings.items()}
    known = {field.name for field in fields(kind)} - {"shape"}
    if odd := sorted(set(given) - known - set(shape)):
        raise ValueError(
            f"unknown arguments {odd}, known are {sorted({*known, *shape, LEAST_EPOCH})}"
        )
    plain = {name: value for name, value in given.items() if name in known}
    if isinstance(plain.get("views"), list):
        plain["views"] = tuple(plain["views"])
    return plain | {"shape": {name: value for name, value in given.items() if name in shape}}


KINDS: dict[str, tuple[Callable[..., Any], type[AutoencoderSettings], tuple[str, ...]]] = {
    "hyper-representation": (train_hyper_representation, AutoencoderSettings, SHAPE_OF_MODELS),
    "sane": (train_sane, SequenceSettings, tuple(set(SHAPE) - {"feed_forward"})),
}
TRAIN_KINDS.update({kind: partial(train_autoencoder, kind) for kind in KINDS})
BENCHMARKS["generation"] = generation_benchmark
BENCHMARKS["hyper-representation-probes"] = probe_benchmark
