"""The command `weightzoo sample`: draws models from an autoencoder and writes them as a zoo."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...loaders import ZooDataset, load_zoo
from ...zoos.errors import ZooNotFoundError
from ..autoencoding.learnable_rows import homogeneous
from ..autoencoding.token_autoencoder import TokenAutoencoder
from ..pretrained import load_trained_autoencoder
from .generated_zoo import generate, write_generated_zoo
from .sampling import bandwidth_of, make_sampler


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of the command.

    Attributes:
        model: folder or Hub repository of a trained autoencoder.
        out: zoo folder to create.
        zoo: zoo whose rows the sampler is fitted to; None takes the autoencoder's train zoo.
        count: number of models to keep.
        sampler: name in `SAMPLERS`.
        bandwidth: bandwidth of a kernel density; None takes the default.
        bandwidth_unit: "relative" or "absolute"; None takes the sampler's default.
        top: share of rows that the sampler is fitted to, the best by val accuracy.
        draws: number of draws for each model that is kept.
        seed: seed of the draws.
        overwrite: whether to replace an existing zoo.
        progress: whether to show progress bars on stderr.
    """

    model: str | Path
    out: Path
    zoo: str | Path | None = None
    count: int = 100
    sampler: str = "kde"
    bandwidth: float | None = None
    bandwidth_unit: str | None = None
    top: float = 0.3
    draws: int = 1
    seed: int = 0
    overwrite: bool = False
    progress: bool = False


def sample_zoo(options: SampleOptions) -> dict[str, Any]:
    """Draw models from a trained autoencoder and write them as a zoo.

    Returns:
        Results to print.

    Raises:
        ValueError: if the file holds no autoencoder or does not name its zoo, or for the reasons
            in `generate`.
        BuildError: if the folder exists already.
    """
    sampler = make_sampler(options.sampler, options.bandwidth, options.bandwidth_unit)
    autoencoder = load_trained_autoencoder(options.model)
    train = train_rows(autoencoder, options.model, options.zoo)
    draw_options = {name: getattr(options, name) for name in ("top", "draws", "seed")}
    weights = generate(
        autoencoder,
        train,
        options.count,
        sampler=sampler,
        progress=options.progress,
        **draw_options,
    )
    drawn = {"sampler": options.sampler} | bandwidth_of(sampler)
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


def train_rows(
    autoencoder: TokenAutoencoder, model: str | Path, zoo: str | Path | None
) -> ZooDataset:
    """The train rows of an autoencoder, or the same rows of another zoo.

    Args:
        autoencoder: trained autoencoder.
        model: folder or repository of the autoencoder, for messages.
        zoo: zoo to read; None takes the zoo that the autoencoder was trained on.

    Raises:
        ValueError: if the autoencoder does not name its zoo, or the rows are missing.
        ZooNotFoundError: if there is no such zoo.
    """
    origin = autoencoder.origin
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
