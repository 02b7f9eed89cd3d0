"""SANE of a zoo: autoencoders of windows of tokens, for models of any size.

SANE is the sequential autoencoder for neural embeddings, arXiv 2406.09997; see encoders/sane.py.
Small zoos are trained from memory, with alignment to one reference and permuted views. From large
zoos only windows are read (`loaders.batching.window_reader`), with the units in the file's order.

Shape letters: B windows in the batch, N rows, D length of the flat weight vector, T tokens of a
model, W tokens of a window, S values per token, Z latent size per token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...encoders.losses import reconstruction_loss
from ...encoders.sane import SANE
from ...loaders import MultiplicativeNoise, RowChunks, Windows, ZooDataset
from ...loaders.batching.window_reader import WindowReader
from ...loaders.dataset.checks import check_dataset
from ...zoos.networks.layer_table import LayerTable
from ...zoos.tokens.tokenizers import POSITIONS
from ..processes import threads
from ..random_states import own_random_numbers
from ..training.encoder_reader import training_mode
from .autoencoder_training import AutoencoderTraining, checkpoint_in
from .behaviour import Behaviour
from .canonical import Canonical
from .canonical_rows import CanonicalRows
from .settings import AutoencoderSettings
from .token_autoencoder import TokenAutoencoder
from .views import ModelViews, deviations, on_host, train_rows


@dataclass(frozen=True, kw_only=True)
class SequenceSettings(AutoencoderSettings):
    """Architecture and training settings of SANE.

    Attributes:
        token_size: values per token, S; in the paper the longest row of small networks, and 288
            for ResNets.
        window: tokens per window, W; all tokens of a model with fewer.
        halo: extra tokens on each side of a window when complete models are encoded and decoded.
        from_files: whether to read windows from the files, never a complete row; this excludes
            alignment, permuted views and the behavioural loss.
        positions: position code of a token: "running" is its index among all tokens and in its
            layer, "published" is its neuron, as in the published code; see `RowChunks`.
    """

    token_size: int = 64
    window: int = 32
    halo: int = 8
    from_files: bool = False
    positions: str = "running"

    def __post_init__(self) -> None:
        """Check choices and ranges.

        Raises:
            ValueError: if a choice is unknown, a number is out of range, or a setting needs
                complete models with `from_files`.
        """
        super().__post_init__()
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, got {self.positions!r}")
        whole = self.aligned or "permuted" in self.views or self.structure < 1
        if self.from_files and whole:
            raise ValueError(
                "from_files reads only windows: set aligned=False, views=('canonical', "
                "'canonical') and structure=1"
            )


class SequenceAutoencoder(TokenAutoencoder):
    """A trained SANE; a model's latent vector joins those of all its tokens, (N, T * Z).

    Attributes:
        windows: windows that cover a model.
    """

    module: SANE
    settings: SequenceSettings
    tokenizer: RowChunks
    rows_at_once = 16

    def __init__(
        self, canonical: Canonical, module: SANE, settings: SequenceSettings, mean: Tensor
    ) -> None:
        """Join the parts.

        Args:
            canonical: alignment and standardisation of rows.
            module: encoder and decoder.
            settings: training settings.
            mean: mean of the standardised train rows, (D,).
        """
        tokenizer = _row_chunks(canonical.standardization.layer_table, settings)
        super().__init__(canonical, module, settings, mean, tokenizer)
        self.windows = Windows(tokenizer, min(settings.window, tokenizer.shape[0]), settings.halo)

    def embed(self, rows: Tensor | ZooDataset, progress: bool = False) -> Tensor:
        """The mean of the latent vectors of all tokens, (N, Z); arguments are those of `encode`.

        Args:
            rows: rows of a zoo, or canonical flat weights (N, D).
            progress: whether to show a progress bar on stderr.
        """
        return self._mapped(self._mean_latent, self._blocks(rows), progress)

    def _mean_latent(self, weights: Tensor) -> Tensor:
        return self.latent_of(weights).unflatten(1, (-1, self.module.latent)).mean(1)

    def latent_of(self, weights: Tensor) -> Tensor:
        """See `TokenAutoencoder`."""
        cut = self.windows.split(self.canonical.standardization.apply(weights))
        values, position, mask = (cut[key].flatten(0, 1) for key in ("values", "position", "mask"))
        latent = self.module.encode(values, position, mask)
        return self._core(latent.unflatten(0, (len(weights), -1))).flatten(1)

    def weights_of(self, latent: Tensor) -> Tensor:
        """See `TokenAutoencoder`; each window has a halo of adjacent latent vectors."""
        tokens, windows = self.tokenizer.shape[0], self.windows
        reach = torch.arange(-windows.halo, windows.length + windows.halo, device=latent.device)
        wanted = torch.arange(windows.count, device=latent.device)[:, None] * windows.length + reach
        index = wanted.clamp(0, tokens - 1)  # (K, W)
        shared = self.tokenizer.shared_on(latent.device)
        mask = shared["mask"][index] & (wanted == index)[..., None]
        cut = latent.unflatten(1, (tokens, -1))[:, index].flatten(0, 1)
        every = (len(latent), 1, 1, 1)
        made = self.module.decode(
            cut,
            shared["position"][index].repeat(every).flatten(0, 1),
            mask.repeat(every).flatten(0, 1),
        )
        values = self._core(made.unflatten(0, (len(latent), -1)))
        return self.canonical.standardization.inverse(self.tokenizer.inverse(values.contiguous()))

    def _core(self, windows: Tensor) -> Tensor:
        """Remove the halos of K windows: (B, K, W, X) to (B, T, X)."""
        halo, length = self.windows.halo, self.windows.length
        return windows[:, :, halo : halo + length].flatten(1, 2)[:, : self.tokenizer.shape[0]]


def train_sane(
    train: ZooDataset,
    val: ZooDataset,
    settings: SequenceSettings | None = None,
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = True,
) -> SequenceAutoencoder:
    """Train SANE on windows; keep the weights of the epoch with the best R2 on the val split.

    Args:
        train: rows of the train split, a dataset or a stream of `load_zoo`.
        val: rows of the val split.
        settings: training settings; None takes the defaults.
        seed: seed of initial weights, order, windows and views.
        folder: folder for a checkpoint after every epoch; None writes no checkpoint.
        resume: whether to continue from a checkpoint in the folder.

    Raises:
        ZooFormatError: if the zoo holds no architecture, or the val rows have another one.
        ValueError: if there are no rows, if a row is not finite, or if the checkpoint in the
            folder belongs to another training run.
        DivergedError: if training diverged in its first epoch.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import train_sane
        >>> from weightzoo.tasks.autoencoding.sane import SequenceSettings
        >>> shape = {"latent": 2, "width": 8, "heads": 2, "blocks": 1}
        >>> settings = SequenceSettings(shape=shape, token_size=8, epochs=1, progress=False)
        >>> zoo = load_zoo(ZOO)
        >>> autoencoder = train_sane(zoo["train"], zoo["val"], settings)
        >>> autoencoder.embed(zoo["test"]).shape, autoencoder.encode(zoo["test"]).shape
        (torch.Size([3, 2]), torch.Size([3, 30]))
    """
    settings = settings or SequenceSettings()
    train, val = (check_dataset(rows, "train_sane") for rows in (train, val))
    with own_random_numbers(seed, settings.device), threads(settings.threads):
        canonical = Canonical.fit(train, settings.aligned)
        module = make_sane(train.layer_table, settings)
        rows = train_rows(canonical, train, settings)
        mean = canonical.standardization.apply(rows.mean()[None])[0]
        autoencoder = SequenceAutoencoder(canonical, module, settings, mean)
        training = SequenceTraining(autoencoder, rows, val, seed)
        try:
            autoencoder.history = training.run(checkpoint_in(folder, resume))
        finally:
            training.close()
        autoencoder.kept_epoch, autoencoder.note = training.kept_epoch, training.note
    return autoencoder


def _row_chunks(table: LayerTable, settings: SequenceSettings) -> RowChunks:
    """The tokenizer of an architecture."""
    return SANE.tokenizer(table, settings.token_size, settings.positions)


def make_sane(table: LayerTable, settings: SequenceSettings) -> SANE:
    """The untrained encoder and decoder, with weights drawn from torch's global generator.

    Args:
        table: layer table of the zoo.
        settings: architecture and device.
    """
    position = _row_chunks(table, settings).shared["position"]
    n, level, k = (int(most) + 1 for most in position.amax(0))
    return SANE(settings.token_size, (n, level, k), **settings.shape).to(settings.device)


class SequenceTraining(AutoencoderTraining):
    """Training on windows: a batch has a random window per row, equal in both views up to noise."""

    def __init__(
        self, autoencoder: SequenceAutoencoder, train: CanonicalRows, val: ZooDataset, seed: int
    ) -> None:
        """Read complete train rows, or open their files to read windows.

        Args:
            autoencoder: autoencoder to train.
            train: train rows.
            val: val rows.
            seed: seed of the order, windows and views.
        """
        settings, canonical = autoencoder.settings, autoencoder.canonical
        window = autoencoder.windows.length
        projected = window * autoencoder.module.latent
        super().__init__(autoencoder.module, projected, (train.dataset, val), settings, seed)
        self._autoencoder, self._train = autoencoder, train
        self._val = autoencoder.canonical_rows(val, training_mode([val], "cpu"))
        self._views = ModelViews(canonical, settings)
        self._noise = MultiplicativeNoise(settings.noise)
        self._windows = Windows(autoencoder.tokenizer, window)
        self.reader: WindowReader | None = None
        self._behaviour: Behaviour | None = None
        if settings.from_files:
            size, positions = settings.token_size, settings.positions
            self.reader = WindowReader(train.dataset, size, window, positions)
            self._host = torch.Generator().manual_seed(seed)
        if settings.structure < 1:
            self._behaviour = Behaviour(train.dataset, canonical, settings)
        scale, width = canonical.standardization, train.dataset.layer_table.width
        mean = scale.inverse(torch.zeros(1, width))
        unit = scale.inverse(torch.ones(1, width)) - mean
        self._token_mean, self._token_unit, self._token_deviation = (
            autoencoder.tokenizer(values)["values"][
                0, :, :1
            ].clone()  # equal for all values of a token
            for values in (mean, unit, deviations(scale))
        )
        self._token_deviation = self._token_deviation.to(self.device)

    def generators(self) -> dict[str, torch.Generator]:
        """See `AutoencoderTraining`."""
        host = {"host": self._host} if self.reader is not None else {}
        return super().generators() | host

    def close(self) -> None:
        """Close the files."""
        if self.reader is not None:
            self.reader.close()

    def read(self, batches: Sequence[Tensor]) -> Iterator[Tensor | None]:
        """See `AutoencoderTraining`; windows are read from the files without it."""
        if self.reader is not None:
            return (None for _ in batches)
        return self._train.read(on_host(batches))

    def losses(self, rows: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        """See `AutoencoderTraining`.

        Args:
            rows: row numbers, (B,).
            weights: result of `read` for them.
        """
        cut, clean = self.cut(rows, weights)
        target, mask, position = cut["values"], cut["mask"], cut["position"]
        seen = self.share.changed(self._noise, target, self.generator, mask)
        latent, made = self.module(seen, position, mask)
        errors = made - target
        if not self.settings.normalised:
            errors = errors * self._token_deviation[position[..., 0]]
        structure = reconstruction_loss(errors, mask, cut["level"], self.settings.reduction)
        behaviour = None
        if self._behaviour is not None and clean is not None:
            behaviour = self._spliced(rows, clean[: len(rows)], made[: len(rows)], position)
        return self.combined(structure, behaviour, latent.flatten(1))

    def val_r2(self) -> float:
        """See `AutoencoderTraining`."""
        return self._autoencoder.r2(self._val)["all"]

    def cut(self, rows: Tensor, weights: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """Windows of both views, (2 B, W, ...), and the standardised models that they come from.

        Args:
            rows: row numbers, (B,).
            weights: canonical weights (B, D) in their own units; None reads windows from the files.
        """
        if self.reader is not None:
            return self._read(rows.cpu(), self.reader), None
        assert weights is not None
        clean = self._views.draw(weights, self.share, self.generator)
        starts = self._windows.random_starts(self.share.total, self.generator)
        return self._windows(clean, self.share.of_rows(starts).repeat(2)), clean

    def _read(self, rows: Tensor, reader: WindowReader) -> dict[str, Tensor]:
        """Read windows from the files and standardise them; both views have the same window."""
        starts = reader.random_starts(self.share.total, self._host)
        cut = reader.read(rows, self.share.of_rows(starts))
        index = cut["position"][..., 0]
        values = (cut["values"] - self._token_mean[index]) / self._token_unit[index]
        cut["values"] = values.masked_fill_(~cut["mask"], 0)
        return {key: torch.cat([part, part]).to(self.device) for key, part in cut.items()}

    def _spliced(self, rows: Tensor, clean: Tensor, made: Tensor, position: Tensor) -> Tensor:
        """Behavioural loss of models with one window replaced by its reconstruction."""
        assert self._behaviour is not None
        tokens = self._autoencoder.tokenizer
        values = tokens(clean)["values"].clone()
        index = position[: len(rows), :, 0, None].expand_as(made)
        flat = tokens.inverse(values.scatter(1, index, made))
        return self._behaviour.loss(rows, flat, clean, self.generator)
