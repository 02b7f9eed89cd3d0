"""Hyper-representations of a zoo: autoencoders of whole models, trained without labels.

Sources: arXiv 2110.15288 and 2209.14733; see encoders/hyper_representation.py.

Shape letters: B models in the batch, N rows, D length of the flat weight vector, Z latent size.
"""

import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..encoders.contrastive import layer_errors, reconstruction_loss
from ..encoders.hyper_representation import HyperRepresentation
from ..loaders import AdditiveNoise, Compose, Erasing, LayerStandardization, Neurons, ZooDataset
from ..loaders.tokenizers import Tokenizer
from ..zoos.architectures import Architecture
from .autoencoder_training import (
    AutoencoderSettings,
    AutoencoderTraining,
    Behaviour,
    ModelViews,
    check_rows,
    deviations,
    threads,
)
from .canonical import Canonical

ENCODED_ROWS = 256


class ZooAutoencoder:
    """A trained autoencoder with all that turns weights into its tokens and back.

    Attributes:
        canonical: how rows are aligned and standardised.
        module: the encoder and decoder.
        settings: how it was trained.
        mean: (D,), the mean of the standardised train rows, which R2 compares with.
        history: numbers by epoch.
    """

    def __init__(
        self,
        canonical: Canonical,
        module: HyperRepresentation,
        settings: AutoencoderSettings,
        mean: Tensor,
    ) -> None:
        """Join the parts."""
        self.canonical, self.module, self.settings, self.mean = canonical, module, settings, mean
        self.tokenizer = Neurons(canonical.standardization.layer_table)
        self.history: list[dict[str, float]] = []

    def encode(self, weights: Tensor) -> Tensor:
        """Latent vectors (N, Z) of canonical flat weights (N, D)."""
        return self._mapped(self._encode, weights)

    def decode(self, latent: Tensor) -> Tensor:
        """Flat weights (N, D) of latent vectors (N, Z)."""
        return self._mapped(self._decode, latent)

    def embed(self, weights: Tensor) -> Tensor:
        """What probes read, (N, Z): the latent vectors."""
        return self.encode(weights)

    def r2(self, weights: Tensor) -> dict[str, float]:
        """Share of the variance that reconstruction explains, 1 - L / L(mean predictor).

        L is the error by layer deviation, as in arXiv 2209.14733, whatever the model was trained
        for.

        Args:
            weights: (N, D), canonical.

        Returns:
            By layer, and "all", each at most 1 and 0 for the mean of the train rows.
        """
        true = self.canonical.standardization.apply(weights)
        made = self.canonical.standardization.apply(self.decode(self.encode(weights)))
        return explained(self.tokenizer, made - true, self.mean.cpu() - true)

    def save(self, path: Path) -> None:
        """Write everything to one file, whole or not at all."""
        partial = path.with_name(path.name + ".tmp")
        torch.save(
            {
                "settings": asdict(self.settings),
                "architecture": self.canonical.architecture.to_json(),
                "standardization": self.canonical.standardization.to_json(),
                "reference": self.canonical.reference,
                "mean": self.mean,
                "history": self.history,
                "module": self.module.state_dict(),
            },
            partial,
        )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "ZooAutoencoder":
        """Read what `save` wrote; no code in the file is run.

        Raises:
            ValueError: if the file is none.
        """
        try:
            data = torch.load(path, map_location="cpu", weights_only=True)
            architecture = Architecture.from_json(data["architecture"])
            table = architecture.layer_table()
            standardization = LayerStandardization.from_json(table, data["standardization"])
            settings = AutoencoderSettings(
                **data["settings"] | {"views": tuple(data["settings"]["views"])}
            )
        except (KeyError, TypeError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"{path} holds no autoencoder of this version: train one with "
                f"`weightzoo train hyper-representation ZOO` ({error})"
            ) from error
        canonical = Canonical(architecture, standardization, data["reference"])
        module = make_module(Neurons(table), settings)
        module.load_state_dict(data["module"])
        autoencoder = cls(canonical, module.eval(), settings, data["mean"])
        autoencoder.history = data["history"]
        return autoencoder

    def _encode(self, weights: Tensor) -> Tensor:
        standardised = self.canonical.standardization.apply(weights)
        return self.module.encode(self.tokenizer(standardised)["values"])

    def _decode(self, latent: Tensor) -> Tensor:
        values = self.tokenizer.inverse(self.module.decode(latent))
        return self.canonical.standardization.inverse(values)

    def _mapped(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        self.module.eval()
        device = next(self.module.parameters()).device
        with torch.no_grad(), threads(self.settings.threads):
            parts = [function(part.to(device)).clone().cpu() for part in rows.split(ENCODED_ROWS)]
        return torch.cat(parts)


def train_hyper_representation(
    train: ZooDataset,
    val: ZooDataset,
    settings: AutoencoderSettings | None = None,
    seed: int = 0,
) -> ZooAutoencoder:
    """Train an autoencoder on the train rows.

    Args:
        train: rows of the train split.
        val: rows of the val split, on which R2 is logged.
        settings: how; None takes the defaults.
        seed: fixes initial weights, order and views.

    Returns:
        The autoencoder, with losses and R2 by epoch in its `history`.

    Raises:
        ZooFormatError: if the zoo holds no architecture, or val is of another one.
        ValueError: if the train split has no more rows than the latent vector has values.
        RuntimeError: if training diverged.
    """
    settings = settings or AutoencoderSettings()
    with torch.random.fork_rng(devices=[]), threads(settings.threads):
        torch.manual_seed(seed)
        canonical = Canonical.fit(train, settings.aligned)
        module = make_module(Neurons(train.layer_table), settings)
        check_rows(len(train), module.latent)
        weights = canonical.weights(train)
        mean = canonical.standardization.apply(weights).mean(0)
        autoencoder = ZooAutoencoder(canonical, module, settings, mean)
        training = _Training(autoencoder, train, weights, canonical.weights(val), seed)
        autoencoder.history = training.run()
    return autoencoder


def make_module(tokenizer: Neurons, settings: AutoencoderSettings) -> HyperRepresentation:
    """The untrained encoder and decoder, drawn from torch's generator."""
    shared = tokenizer.shared
    module = HyperRepresentation(shared["mask"], shared["tensor"], **settings.shape)
    return module.to(settings.device)


def explained(tokenizer: Tokenizer, errors: Tensor, spread: Tensor) -> dict[str, float]:
    """1 - |errors|^2 / |spread|^2 by layer and for "all", of flat differences (N, D)."""
    shared = tokenizer.shared
    table = tokenizer.layer_table
    sums = [
        layer_errors(tokenizer(part)["values"].clone(), shared["mask"], shared["level"])[0]
        for part in (errors, spread)
    ]
    names = list(dict.fromkeys(spec.layer for spec in sorted(table, key=lambda spec: spec.depth)))
    shares = 1 - sums[0] / sums[1]
    return dict(zip(names, shares.tolist(), strict=True)) | {
        "all": float(1 - sums[0].sum() / sums[1].sum())
    }


class _Training(AutoencoderTraining):
    """A batch is two views of whole models, each seen with a span erased and noise."""

    def __init__(
        self,
        autoencoder: ZooAutoencoder,
        train: ZooDataset,
        weights: Tensor,
        val: Tensor,
        seed: int,
    ) -> None:
        settings, canonical = autoencoder.settings, autoencoder.canonical
        super().__init__(
            autoencoder.module, autoencoder.module.latent, len(weights), settings, seed
        )
        self._autoencoder, self._tokenizer, self._val = autoencoder, autoencoder.tokenizer, val
        self._views = ModelViews(canonical, weights, settings)
        self._augment = Compose([Erasing(settings.erasing), AdditiveNoise(settings.noise)])
        self._behaviour = Behaviour(train, canonical, settings) if settings.structure < 1 else None
        self._scale: Tensor | float = 1.0
        if not settings.normalised:
            scale = deviations(canonical.standardization).to(self.device)
            self._scale = self._tokenizer(scale)["values"].clone()

    def losses(self, rows: Tensor) -> dict[str, Tensor]:
        settings, shared = self.settings, self._tokenizer.shared_on(self.device)
        clean = self._views.draw(rows, self.generator)
        target = self._tokenizer(clean)["values"]
        seen = self._augment(clean, self.generator)
        latent, made = self.module(self._tokenizer(seen)["values"])
        errors = (made - target) * self._scale
        structure = reconstruction_loss(errors, shared["mask"], shared["level"], settings.reduction)
        behaviour = None
        if self._behaviour is not None:  # of the first views, which behave as the second ones do
            flat = self._tokenizer.inverse(made[: len(rows)])
            behaviour = self._behaviour.loss(rows, flat, clean[: len(rows)], self.generator)
        return self.combined(structure, behaviour, latent)

    def val_r2(self) -> float:
        return self._autoencoder.r2(self._val)["all"]
