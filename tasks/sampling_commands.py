"""What `weightzoo sample` does: draw models from a trained autoencoder, and write them as a zoo."""

from dataclasses import dataclass
from pathlib import Path

from ..loaders import ZooDataset, load_zoo
from .generated_zoo import GeneratedZoo, generate, write_generated_zoo
from .learnable_rows import homogeneous
from .saved_autoencoders import load_autoencoder


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What the user asks of sampling.

    Attributes:
        model: folder of a trained autoencoder, or its file.
        out: zoo folder to make.
        zoo: whose rows the sampler is fitted to; None takes those it was trained on.
        count: models to draw.
        sampler: a name in `SAMPLERS`.
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
    top: float = 0.3
    draws: int = 1
    seed: int = 0
    overwrite: bool = False


def sample_zoo(options: SampleOptions) -> GeneratedZoo:
    """Draw models from a trained autoencoder and write them as a zoo.

    Raises:
        ValueError: if the file is no autoencoder or does not say its zoo, or as `generate`.
        BuildError: if the folder is taken.
    """
    autoencoder, origin = load_autoencoder(options.model)
    if origin is None and options.zoo is None:
        raise ValueError(f"{options.model} does not say what zoo it was trained on: pass --zoo")
    zoo = load_zoo(options.zoo or origin.zoo, split="train")  # type: ignore[union-attr]
    assert isinstance(zoo, ZooDataset)
    train = homogeneous(zoo, 0 if origin is None else origin.least_epoch)
    how = {name: getattr(options, name) for name in ("sampler", "top", "draws", "seed")}
    weights = generate(autoencoder, train, options.count, **how)
    description = {"name": options.out.name, "generator": str(options.model)} | how
    return write_generated_zoo(
        options.out,
        weights,
        train,
        description,
        seed=options.seed,
        overwrite=options.overwrite,
    )
