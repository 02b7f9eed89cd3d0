"""SANE of a zoo: autoencoders of windows of tokens, for models of any size.

Source: arXiv 2406.09997; see encoders/sane.py. Small zoos are trained from memory, aligned to one
reference and with permuted views; of large ones only the windows are read
(`loaders.window_reader`), in the order of units that the files have.

Shape letters: B windows in the batch, N rows, D length of the flat weight vector, T tokens of a
model, W tokens of a window, S values per token, Z latent size per token.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...encoders.losses import reconstruction_loss
from ...encoders.sane import SANE
from ...loaders import MultiplicativeNoise, RowChunks, Windows, ZooDataset
from ...loaders.batching.window_reader import WindowReader
from ...loaders.tokens.tokenizers import POSITIONS
from ...zoos.networks.layer_table import LayerTable
from ..processes import threads
from .autoencoder_training import (
    AutoencoderSettings,
    AutoencoderTraining,
    Behaviour,
    ModelViews,
    checkpoint_in,
    deviations,
)
from .canonical import Canonical
from .token_autoencoder import TokenAutoencoder


@dataclass(frozen=True, kw_only=True)
class SequenceSettings(AutoencoderSettings):
    """How SANE is made and trained.

    Attributes:
        token_size: S; the paper takes the longest row of small networks, 288 for ResNets.
        window: W; windows of all tokens if a model has fewer.
        halo: further tokens on each side of a window while encoding and decoding whole models.
        from_files: read windows from the files and never a whole row: no alignment, no permuted
            views, no behavioural loss.
        positions: what the code of a token says: "running", its place among all tokens and in its
            layer, or "published", its neuron, as in the published code; see `RowChunks`.
    """

    token_size: int = 64
    window: int = 32
    halo: int = 8
    from_files: bool = False
    positions: str = "running"

    def __post_init__(self) -> None:
        """Refuse what needs whole models while windows alone are read."""
        super().__post_init__()
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, got {self.positions!r}")
        whole = self.aligned or "permuted" in self.views or self.structure < 1
        if self.from_files and whole:
            raise ValueError(
                "from_files reads windows alone: set aligned=False, views=('canonical', "
                "'canonical') and structure=1"
            )


class SequenceAutoencoder(TokenAutoencoder):
    """A trained SANE; the latent vectors of all tokens side by side, (N, T * Z).

    Attributes:
        windows: that cover a model.
    """

    module: SANE
    settings: SequenceSettings
    tokenizer: RowChunks
    rows_at_once = 16

    def __init__(
        self, canonical: Canonical, module: SANE, settings: SequenceSettings, mean: Tensor
    ) -> None:
        """See `TokenAutoencoder`."""
        tokenizer = row_chunks(canonical.standardization.layer_table, settings)
        super().__init__(canonical, module, settings, mean, tokenizer)
        self.windows = Windows(tokenizer, min(settings.window, tokenizer.shape[0]), settings.halo)

    def embed(self, weights: Tensor) -> Tensor:
        """The mean over tokens of their latent vectors, (N, Z)."""
        return self.encode(weights).unflatten(1, (-1, self.module.latent)).mean(1)

    def latent_of(self, weights: Tensor) -> Tensor:
        """See `TokenAutoencoder`."""
        cut = self.windows.split(self.canonical.standardization.apply(weights))
        values, position, mask = (cut[key].flatten(0, 1) for key in ("values", "position", "mask"))
        latent = self.module.encode(values, position, mask)
        return self._core(latent.unflatten(0, (len(weights), -1))).flatten(1)

    def weights_of(self, latent: Tensor) -> Tensor:
        """See `TokenAutoencoder`; each window has a halo of its neighbours' latent vectors."""
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
        """(B, K, W, X) without halos as (B, T, X)."""
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
    """Train SANE on windows of the train rows; keep the weights of the epoch best on val.

    Args:
        train: rows of the train split.
        val: rows of the val split, whose R2 chooses the epoch.
        settings: how; None takes the defaults.
        seed: fixes initial weights, order, windows and views.
        folder: where a checkpoint is kept after every epoch; None keeps none.
        resume: go on from the checkpoint in the folder, if there is one.

    Raises:
        ZooFormatError: if the zoo holds no architecture, or val is of another one.
        ValueError: if there are no rows, some are not finite, or the folder holds the checkpoint
            of another training.
        DivergedError: if training diverged in its first epoch.
    """
    settings = settings or SequenceSettings()
    with torch.random.fork_rng(devices=[]), threads(settings.threads):
        torch.manual_seed(seed)
        canonical = Canonical.fit(train, settings.aligned)
        module = make_sane(train.layer_table, settings)
        mean = _mean(canonical, train)
        autoencoder = SequenceAutoencoder(canonical, module, settings, mean)
        training = SequenceTraining(autoencoder, train, val, seed)
        try:
            autoencoder.history = training.run(checkpoint_in(folder, resume))
        finally:
            training.close()
        autoencoder.kept_epoch, autoencoder.note = training.kept_epoch, training.note
    return autoencoder


def row_chunks(table: LayerTable, settings: SequenceSettings) -> RowChunks:
    """The tokens of an architecture."""
    return RowChunks(table, settings.token_size, settings.positions)


def make_sane(table: LayerTable, settings: SequenceSettings) -> SANE:
    """The untrained encoder and decoder, drawn from torch's generator."""
    position = row_chunks(table, settings).shared["position"]
    n, level, k = (int(most) + 1 for most in position.amax(0))
    return SANE(settings.token_size, (n, level, k), **settings.shape).to(settings.device)


class SequenceTraining(AutoencoderTraining):
    """A batch is one random window of every row, the same in both views, each with noise."""

    def __init__(
        self, autoencoder: SequenceAutoencoder, train: ZooDataset, val: ZooDataset, seed: int
    ) -> None:
        """Hold the train rows in memory, or open their files."""
        settings, canonical = autoencoder.settings, autoencoder.canonical
        window = autoencoder.windows.length
        projected = window * autoencoder.module.latent
        super().__init__(autoencoder.module, projected, (train, val), settings, seed)
        self._autoencoder, self._val = autoencoder, canonical.weights(val)
        self._noise = MultiplicativeNoise(settings.noise)
        self._windows = Windows(autoencoder.tokenizer, window)
        self.reader: WindowReader | None = None
        self._behaviour: Behaviour | None = None
        if settings.from_files:
            size, positions = settings.token_size, settings.positions
            self.reader = WindowReader(train, size, window, positions)
            self._host = torch.Generator().manual_seed(seed)
        else:
            self._views = ModelViews(canonical, canonical.weights(train), settings)
        if settings.structure < 1:
            self._behaviour = Behaviour(train, canonical, settings)
        scale, width = canonical.standardization, train.layer_table.width
        mean = scale.inverse(torch.zeros(1, width))
        unit = scale.inverse(torch.ones(1, width)) - mean
        self._token_mean, self._token_unit, self._token_deviation = (
            autoencoder.tokenizer(values)["values"][0, :, :1].clone()  # alike in all of a token
            for values in (mean, unit, deviations(scale))
        )

    def generators(self) -> dict[str, torch.Generator]:
        """See `AutoencoderTraining`."""
        host = {"host": self._host} if self.reader is not None else {}
        return super().generators() | host

    def close(self) -> None:
        """Close the files."""
        if self.reader is not None:
            self.reader.close()

    def losses(self, rows: Tensor) -> dict[str, Tensor]:
        """See `AutoencoderTraining`."""
        cut, clean = self.cut(rows)
        target, mask, position = cut["values"], cut["mask"], cut["position"]
        seen = self._noise(target, self.generator, mask)
        latent, made = self.module(seen, position, mask)
        errors = made - target
        if not self.settings.normalised:
            errors = errors * self._token_deviation.to(self.device)[position[..., 0]]
        structure = reconstruction_loss(errors, mask, cut["level"], self.settings.reduction)
        behaviour = None
        if self._behaviour is not None and clean is not None:
            behaviour = self._spliced(rows, clean[: len(rows)], made[: len(rows)], position)
        return self.combined(structure, behaviour, latent.flatten(1))

    def val_r2(self) -> float:
        """See `AutoencoderTraining`."""
        return self._autoencoder.r2(self._val)["all"]

    def cut(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Both views' windows, (2 B, W, ...), and the standardised models they are of."""
        if self.reader is not None:
            return self._read(rows.cpu(), self.reader), None
        clean = self._views.draw(rows, self.generator)
        starts = self._windows.random_starts(len(rows), self.generator).repeat(2)
        return self._windows(clean, starts), clean

    def _read(self, rows: Tensor, reader: WindowReader) -> dict[str, Tensor]:
        """Windows from the files, standardised here; both views are of the same one."""
        cut = reader.read(rows, reader.random_starts(len(rows), self._host))
        place = cut["position"][..., 0]
        values = (cut["values"] - self._token_mean[place]) / self._token_unit[place]
        cut["values"] = values.masked_fill_(~cut["mask"], 0)
        return {key: torch.cat([part, part]).to(self.device) for key, part in cut.items()}

    def _spliced(self, rows: Tensor, clean: Tensor, made: Tensor, position: Tensor) -> Tensor:
        """Behaviour of models whose window is replaced by its reconstruction."""
        assert self._behaviour is not None
        tokens = self._autoencoder.tokenizer
        values = tokens(clean)["values"].clone()
        index = position[: len(rows), :, 0, None].expand_as(made)
        flat = tokens.inverse(values.scatter(1, index, made))
        return self._behaviour.loss(rows, flat, clean, self.generator)


def _mean(canonical: Canonical, train: ZooDataset, block: int = 64) -> Tensor:
    """(D,): mean of the standardised train rows, block by block."""
    if canonical.reference is not None:
        return canonical.standardization.apply(canonical.weights(train)).mean(0)
    total = torch.zeros(train.layer_table.width, dtype=torch.float64)
    for start in range(0, len(train), block):
        rows = range(start, min(start + block, len(train)))
        total += train.weights(rows).double().sum(0)
    return canonical.standardization.apply((total / len(train)).float()[None])[0]
