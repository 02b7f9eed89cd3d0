"""Common base of trained autoencoders of weights, for any kind of tokens.

Shape letters: N rows, D length of the flat weight vector, Z values of a latent vector.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...encoders.losses import layer_errors
from ...loaders import ZooDataset
from ...loaders.dataset.checks import check_dataset
from ...zoos.tokens.tokenizers import Tokenizer
from ..processes import threads
from ..training.checks import check_target
from ..training.property_predictor import check_finite
from .canonical import Canonical
from .canonical_rows import CanonicalRows
from .probe import EmbeddingProbe
from .settings import AutoencoderSettings


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Reference to the rows that an autoencoder was trained on.

    Attributes:
        zoo: path of the zoo.
        least_epoch: first epoch of the rows taken.
    """

    zoo: str
    least_epoch: int


class TokenAutoencoder:
    """A trained encoder and decoder, with the mapping between weights and tokens.

    Attributes:
        canonical: alignment and standardisation of rows.
        module: encoder and decoder.
        settings: training settings.
        mean: mean of the standardised train rows, (D,), the baseline of R2.
        tokenizer: tokenizer of the weights.
        history: losses and val R2 by epoch.
        kept_epoch: epoch of the module's weights; None if it is unknown.
        note: warning about the training for the user, or None.
        origin: reference to its train rows; None if they are unknown.
        probe: linear probe of the embedding, which `predict` uses; None before `fit_probe`.
        rows_at_once: number of rows encoded together.
    """

    rows_at_once = 256

    def __init__(
        self,
        canonical: Canonical,
        module: nn.Module,
        settings: AutoencoderSettings,
        mean: Tensor,
        tokenizer: Tokenizer,
    ) -> None:
        """Join the parts.

        Args:
            canonical: alignment and standardisation of rows.
            module: encoder and decoder.
            settings: training settings.
            mean: mean of the standardised train rows, (D,).
            tokenizer: tokenizer of the weights.
        """
        self.canonical, self.module, self.settings, self.mean = canonical, module, settings, mean
        self.tokenizer = tokenizer
        self.history: list[dict[str, float]] = []
        self.kept_epoch: int | None = None
        self.note: str | None = None
        self.origin: Origin | None = None
        self.probe: EmbeddingProbe | None = None

    @property
    def device(self) -> torch.device:
        """Device of the encoder and decoder."""
        return next(self.module.parameters()).device

    def to(self, device: str) -> Self:
        """Move encoder and decoder to a device, and return the autoencoder."""
        self.module.to(device)
        return self

    def without_origin(self) -> Self:
        """The same autoencoder without the path of its train zoo."""
        other = copy.copy(self)
        other.origin = None
        return other

    def encode(self, rows: Tensor | ZooDataset, progress: bool = False) -> Tensor:
        """Latent vectors (N, Z).

        Args:
            rows: rows of a zoo, or canonical flat weights (N, D).
            progress: whether to show a progress bar on stderr.
        """
        return self._mapped(self.latent_of, self._blocks(rows), progress)

    def decode(self, latent: Tensor) -> Tensor:
        """Flat weights (N, D) of latent vectors (N, Z)."""
        return self._mapped(self.weights_of, self._blocks(latent))

    def embed(self, rows: Tensor | ZooDataset, progress: bool = False) -> Tensor:
        """The embedding, (N, H).

        Args:
            rows: rows of a zoo, or canonical flat weights (N, D).
            progress: whether to show a progress bar on stderr.
        """
        return self.encode(rows, progress)

    @property
    def target(self) -> str | None:
        """Name of the column that `predict` predicts; None without a probe."""
        return self.probe.mapping.target if self.probe else None

    def fit_probe(self, train: ZooDataset, val: ZooDataset, target: str, seed: int = 0) -> Self:
        """Fit a linear probe of the embedding, which `predict` uses from then on.

        Args:
            train: train rows.
            val: val rows, which choose the regularisation.
            target: name of the column to predict.
            seed: seed of the training for categories.

        Returns:
            The autoencoder.

        Raises:
            ValueError: if the column is missing, constant or not finite.
        """
        for zoo in (train, val):
            check_target(zoo, target)
        parts = [(self.embed(zoo), zoo.columns[target]) for zoo in (train, val)]
        self.probe = EmbeddingProbe.fit(parts[0], parts[1], target, seed)
        return self

    def predict(self, dataset: ZooDataset, progress: bool = False) -> np.ndarray:
        """Predict the probe's target for every row: (N,) numbers, or categories.

        Args:
            dataset: rows to predict.
            progress: whether to show a progress bar on stderr.

        Raises:
            ValueError: if no probe was fitted, or for the reasons in `encode`.
        """
        if self.probe is None:
            raise ValueError(
                "the autoencoder has no probe, so that it predicts no column: call "
                "fit_probe(train, val, 'test_accuracy') first, or give --target COLUMN"
            )
        return self.probe.predict(self.embed(dataset, progress))

    def latent_of(self, weights: Tensor) -> Tensor:
        """Latent vectors of one block of rows, on the module's device.

        Raises:
            NotImplementedError: unless a subclass defines it.
        """
        raise NotImplementedError

    def weights_of(self, latent: Tensor) -> Tensor:
        """Flat weights of one block of latent vectors, on the module's device.

        Raises:
            NotImplementedError: unless a subclass defines it.
        """
        raise NotImplementedError

    def r2(self, rows: Tensor | ZooDataset | CanonicalRows) -> dict[str, float]:
        """Share of the variance that reconstruction explains, 1 - L / L(mean predictor).

        L is the error divided by the layer's deviation, as in arXiv 2209.14733, for any training
        loss.

        Args:
            rows: rows of a zoo, or canonical weights (N, D).

        Returns:
            R2 by layer, and under "all"; at most 1, and 0 for the mean of the train rows.
        """
        errors, spread = (torch.zeros((), dtype=torch.float64) for _ in range(2))
        for block in self._blocks(rows):
            block = block.cpu()
            true = self.canonical.standardization.apply(block)
            made = self.canonical.standardization.apply(self.decode(self.encode(block)))
            errors = errors + squares_by_layer(self.tokenizer, made - true)
            spread = spread + squares_by_layer(self.tokenizer, self.mean.cpu() - true)
        return explained(self.tokenizer, errors, spread)

    def canonical_rows(self, dataset: ZooDataset, mode: str = "streaming") -> CanonicalRows:
        """Reader of canonical rows, in blocks of `rows_at_once`.

        Args:
            dataset: rows as stored.
            mode: mode of the `DeviceLoader`; "resident" for rows that are read several times.

        Raises:
            ValueError: if there are no rows, or a row is not finite.
        """
        dataset = check_dataset(dataset, type(self).__name__)
        if not len(dataset):
            raise ValueError(f"zoo {dataset.name!r} has no rows to encode: choose another split")
        first = 0
        for block in dataset.weight_blocks():
            check_finite(block, dataset.name, first)
            first += len(block)
        return CanonicalRows(self.canonical, dataset, self.rows_at_once, mode=mode)

    def _blocks(self, rows: Tensor | ZooDataset | CanonicalRows) -> Iterable[Tensor]:
        """Blocks of canonical weights, or of latent vectors."""
        if isinstance(rows, Tensor):
            return rows.split(self.rows_at_once)
        return (rows if isinstance(rows, CanonicalRows) else self.canonical_rows(rows)).blocks()

    def _mapped(
        self, function: Callable[[Tensor], Tensor], blocks: Iterable[Tensor], progress: bool = False
    ) -> Tensor:
        """Apply a function to blocks of rows without gradients; results are on the CPU."""
        self.module.eval()
        device = self.device
        with torch.no_grad(), threads(self.settings.threads):
            shown = tqdm(blocks, unit="block", disable=not progress, leave=False)
            return torch.cat([function(block.to(device)).clone().cpu() for block in shown])


def squares_by_layer(tokenizer: Tokenizer, errors: Tensor) -> Tensor:
    """Sum of the squared errors of each layer, (L,), float64.

    Args:
        tokenizer: tokenizer of the weights.
        errors: differences of weights, (N, D).
    """
    shared = tokenizer.shared
    return layer_errors(tokenizer(errors)["values"], shared["mask"], shared["level"])[0].double()


def explained(tokenizer: Tokenizer, errors: Tensor, spread: Tensor) -> dict[str, float]:
    """Explained variance 1 - |errors|^2 / |spread|^2, by layer and under "all".

    Args:
        tokenizer: tokenizer of the weights.
        errors: squared errors of reconstructed weights by layer, (L,).
        spread: squared errors of the mean by layer, (L,).
    """
    table = tokenizer.layer_table
    names = list(dict.fromkeys(spec.layer for spec in sorted(table, key=lambda spec: spec.depth)))
    shares = dict(zip(names, (1 - errors / spread).tolist(), strict=True))
    return shares | {"all": float(1 - errors.sum() / spread.sum())}
