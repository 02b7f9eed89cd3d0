"""The command `weightzoo sample`: draws models from a generator and writes them as a zoo."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...loaders import ZooDataset, load_zoo
from ...zoos.errors import ZooNotFoundError
from ..autoencoding.learnable_rows import TOP_SHARE, homogeneous
from ..flow_matching.weight_flow import WeightFlow
from ..pretrained import Generator, load_trained_generator
from .generated_zoo import draw_networks, generate, write_generated_zoo
from .sampling import bandwidth_of, make_sampler

DEFAULT_SAMPLER = "kde"


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of the command.

    Attributes:
        model: folder or Hub repository of a trained autoencoder or flow.
        out: zoo folder to create.
        zoo: zoo whose rows the sampler is fitted to; None takes the model's train zoo.
        count: number of models to keep.
        sampler: name in `SAMPLERS`; None takes "kde". A flow takes no sampler.
        bandwidth: bandwidth of a kernel density; None takes the default.
        bandwidth_unit: "relative" or "absolute"; None takes the sampler's default.
        top: share of rows that the sampler is fitted to, the best by val accuracy; None takes
            `TOP_SHARE`.
        draws: number of draws for each model that is kept.
        seed: seed of the draws.
        overwrite: whether to replace an existing zoo.
        progress: whether to show progress bars on stderr.
    """

    model: str | Path
    out: Path
    zoo: str | Path | None = None
    count: int = 100
    sampler: str | None = None
    bandwidth: float | None = None
    bandwidth_unit: str | None = None
    top: float | None = None
    draws: int = 1
    seed: int = 0
    overwrite: bool = False
    progress: bool = False


def sample_zoo(options: SampleOptions) -> dict[str, Any]:
    """Draw models from a trained autoencoder or flow and write them as a zoo.

    Returns:
        Results to print.

    Raises:
        ValueError: if the folder holds no generator or does not name its zoo, an option does not
            apply to a flow, or for the reasons in `generate`.
        BuildError: if the folder exists already.
    """
    chosen = options.sampler or DEFAULT_SAMPLER
    sampler = make_sampler(chosen, options.bandwidth, options.bandwidth_unit)
    model = load_trained_generator(options.model)
    train = train_rows(model, options.model, options.zoo)
    draw_options: dict[str, Any] = {"draws": options.draws, "seed": options.seed}
    shown = {"progress": options.progress}
    if isinstance(model, WeightFlow):
        _check_flow_options(options)
        model.canonical.check(train)
        weights = draw_networks(
            model.sample, lambda weights: weights, train, options.count, **draw_options, **shown
        )
        drawn: dict[str, Any] = {"sampler": "flow-matching"}
    else:
        draw_options["top"] = TOP_SHARE if options.top is None else options.top
        weights = generate(model, train, options.count, sampler=sampler, **draw_options, **shown)
        drawn = {"sampler": chosen} | bandwidth_of(sampler)
    made = write_generated_zoo(
        options.out,
        weights,
        train,
        {"name": options.out.name, "generator": str(options.model)} | drawn | draw_options,
        seed=options.seed,
        overwrite=options.overwrite,
        progress=options.progress,
    )
    found = {name: getattr(made, name) for name in ("models", "diverged", "test_accuracy")}
    return {"path": str(options.out)} | found | drawn


def _check_flow_options(options: SampleOptions) -> None:
    """Reject options of samplers of latent vectors."""
    names = ("sampler", "bandwidth", "bandwidth_unit", "top")
    if odd := [name for name in names if getattr(options, name) is not None]:
        raise ValueError(
            f"{options.model} holds a flow, which draws networks without a sampler of latent "
            f"vectors: leave out {odd}"
        )


def train_rows(generator: Generator, model: str | Path, zoo: str | Path | None) -> ZooDataset:
    """The train rows of a generator, or the same rows of another zoo.

    Args:
        generator: trained autoencoder or flow.
        model: folder or repository of the generator, for messages.
        zoo: zoo to read; None takes the zoo that the generator was trained on.

    Raises:
        ValueError: if the generator does not name its zoo, or the rows are missing.
        ZooNotFoundError: if there is no such zoo.
    """
    origin = generator.origin
    if origin is None and zoo is None:
        raise ValueError(f"{model} does not name its train zoo: give one with --zoo")
    try:
        rows = load_zoo(zoo or origin.zoo, split="train")  # type: ignore[union-attr]
    except ZooNotFoundError as error:
        if zoo is not None:
            raise
        raise ZooNotFoundError(
            f"{model} was trained on a zoo that is not there any more ({error}): give one of the "
            "same architecture with --zoo"
        ) from error
    return homogeneous(rows, 0 if origin is None else origin.least_epoch)
