"""Hyper-representations of a zoo: autoencoders of complete models, trained without labels.

Sources: arXiv 2110.15288 and 2209.14733; see encoders/hyper_representation.py.

Shape letters: B models in the batch, N rows, D length of the flat weight vector, Z latent size.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from ...encoders.hyper_representation import HyperRepresentation
from ...encoders.losses import reconstruction_loss
from ...loaders import AdditiveNoise, Compose, Erasing, ZooDataset
from ...loaders.dataset.checks import check_dataset
from ...zoos.networks.layer_table import LayerTable
from ..processes import threads
from ..random_states import own_random_numbers
from ..training.encoder_reader import training_mode
from .autoencoder_training import AutoencoderTraining, checkpoint_in
from .behaviour import Behaviour
from .canonical import Canonical
from .canonical_rows import CanonicalRows
from .settings import AutoencoderSettings
from .token_autoencoder import TokenAutoencoder
from .views import ModelViews, check_rows, deviations, on_host, train_rows


class ZooAutoencoder(TokenAutoencoder):
    """A trained hyper-representation; one latent vector per model."""

    module: HyperRepresentation

    def __init__(
        self,
        canonical: Canonical,
        module: HyperRepresentation,
        settings: AutoencoderSettings,
        mean: Tensor,
    ) -> None:
        """Join the parts.

        Args:
            canonical: alignment and standardisation of rows.
            module: encoder and decoder.
            settings: training settings.
            mean: mean of the standardised train rows, (D,).
        """
        tokenizer = HyperRepresentation.tokenizer(canonical.standardization.layer_table)
        super().__init__(canonical, module, settings, mean, tokenizer)

    def latent_of(self, weights: Tensor) -> Tensor:
        """See `TokenAutoencoder`."""
        standardised = self.canonical.standardization.apply(weights)
        return self.module.encode(self.tokenizer(standardised)["values"])

    def weights_of(self, latent: Tensor) -> Tensor:
        """See `TokenAutoencoder`."""
        values = self.tokenizer.inverse(self.module.decode(latent))
        return self.canonical.standardization.inverse(values)


def train_hyper_representation(
    train: ZooDataset,
    val: ZooDataset,
    settings: AutoencoderSettings | None = None,
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = True,
) -> ZooAutoencoder:
    """Train an autoencoder; keep the weights of the epoch with the best R2 on the val split.

    Args:
        train: rows of the train split, a dataset or a stream of `load_zoo`.
        val: rows of the val split.
        settings: training settings; None takes the defaults.
        seed: seed of initial weights, order and views.
        folder: folder for a checkpoint after every epoch; None writes no checkpoint.
        resume: whether to continue from a checkpoint in the folder. The result equals that of an
            uninterrupted run.

    Returns:
        The autoencoder, with losses and R2 by epoch in its `history`.

    Raises:
        ZooFormatError: if the zoo holds no architecture, or the val rows have another one.
        ValueError: if the train split has no more rows than the latent vector has values, or the
            checkpoint in the folder belongs to another training run.
        DivergedError: if training diverged in its first epoch.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import train_hyper_representation
        >>> from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
        >>> shape = {"latent": 2, "width": 8, "heads": 2, "blocks": 1}
        >>> settings = AutoencoderSettings(shape=shape, epochs=1, progress=False)
        >>> zoo = load_zoo(ZOO)
        >>> autoencoder = train_hyper_representation(zoo["train"], zoo["val"], settings)
        >>> autoencoder.embed(zoo["test"]).shape
        torch.Size([3, 2])
    """
    settings = settings or AutoencoderSettings()
    train, val = (check_dataset(rows, "train_hyper_representation") for rows in (train, val))
    with own_random_numbers(seed, settings.device), threads(settings.threads):
        canonical = Canonical.fit(train, settings.aligned)
        module = make_module(train.layer_table, settings)
        check_rows(len(train), module.latent)
        rows = train_rows(canonical, train, settings)
        mean = canonical.standardization.apply(rows.mean()[None])[0]
        autoencoder = ZooAutoencoder(canonical, module, settings, mean)
        training = ModelTraining(autoencoder, rows, val, seed)
        autoencoder.history = training.run(checkpoint_in(folder, resume))
        autoencoder.kept_epoch, autoencoder.note = training.kept_epoch, training.note
    return autoencoder


def make_module(table: LayerTable, settings: AutoencoderSettings) -> HyperRepresentation:
    """The untrained encoder and decoder, with weights drawn from torch's global generator.

    Args:
        table: layer table of the zoo.
        settings: architecture and device.
    """
    shared = HyperRepresentation.tokenizer(table).shared
    module = HyperRepresentation(shared["mask"], shared["tensor"], **settings.shape)
    return module.to(settings.device)


class ModelTraining(AutoencoderTraining):
    """Training on complete models: a batch has two views, each with noise and an erased span."""

    def __init__(
        self,
        autoencoder: ZooAutoencoder,
        train: CanonicalRows,
        val: ZooDataset,
        seed: int,
    ) -> None:
        """Prepare the views of the train rows, and the val rows.

        Args:
            autoencoder: autoencoder to train.
            train: train rows.
            val: val rows.
            seed: seed of the order and the views.
        """
        settings, canonical = autoencoder.settings, autoencoder.canonical
        module = autoencoder.module
        super().__init__(module, module.latent, (train.dataset, val), settings, seed)
        self._autoencoder, self._tokenizer = autoencoder, autoencoder.tokenizer
        self._train, self._val = train, autoencoder.canonical_rows(val, training_mode([val], "cpu"))
        self._views = ModelViews(canonical, settings)
        self._augment = Compose([Erasing(settings.erasing), AdditiveNoise(settings.noise)])
        self._behaviour: Behaviour | None = None
        if settings.structure < 1:
            self._behaviour = Behaviour(train.dataset, canonical, settings)
        self._scale: Tensor | float = 1.0
        if not settings.normalised:
            scale = deviations(canonical.standardization).to(self.device)
            self._scale = self._tokenizer(scale)["values"].clone()

    def read(self, batches: Sequence[Tensor]) -> Iterator[Tensor | None]:
        """See `AutoencoderTraining`."""
        return self._train.read(on_host(batches))

    def losses(self, rows: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        """See `AutoencoderTraining`.

        Args:
            rows: row numbers, (B,).
            weights: result of `read` for them.
        """
        assert weights is not None
        settings, shared = self.settings, self._tokenizer.shared_on(self.device)
        clean = self._views.draw(weights, self.share, self.generator)
        target = self._tokenizer(clean)["values"]
        seen = self.share.changed(self._augment, clean, self.generator)
        latent, made = self.module(self._tokenizer(seen)["values"])
        errors = (made - target) * self._scale
        structure = reconstruction_loss(errors, shared["mask"], shared["level"], settings.reduction)
        behaviour = None
        if self._behaviour is not None:  # first views only: the second compute the same function
            flat = self._tokenizer.inverse(made[: len(rows)])
            behaviour = self._behaviour.loss(rows, flat, clean[: len(rows)], self.generator)
        return self.combined(structure, behaviour, latent)

    def val_r2(self) -> float:
        """See `AutoencoderTraining`."""
        return self._autoencoder.r2(self._val)["all"]
