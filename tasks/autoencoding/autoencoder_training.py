"""Training of autoencoders of weights, for any kind of tokens.

Sources: hyper-representations, arXiv 2110.15288 and 2209.14733, and the behavioural loss of arXiv
2503.17138: L = gamma L_contrast + (1 - gamma) (s L_structure + (1 - s) L_behaviour).

Shape letters: B models in the batch of this process, R of all processes, N rows, D length of the
flat weight vector.
"""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...encoders.losses import CONTRASTS, REDUCTIONS, ProjectionHead, contrast_loss
from ...loaders import HiddenPermutations, LayerStandardization, ZooDataset
from ...loaders.batching.device import rank_and_world
from ...zoos.errors import DivergedError
from ...zoos.images.catalog import Images, load_images
from ...zoos.provenance import package_version
from ..processes import step_on
from ..random_states import random_state, restore_random_state
from ..training.checkpoints import TrainingCheckpoint, zoo_identity
from ..training.data_parallel import average_gradients, gather_rows
from ..training.encoder_reader import training_mode
from ..training.settings import adamw, check_least, check_positive, warmup_cosine
from .batch_share import BatchShare
from .behaviour import behaviour_loss
from .canonical import Canonical
from .canonical_rows import CanonicalRows

VIEWS = ("canonical", "permuted")
KEPT = ("best", "last")
LEAST_ROWS_PER_BATCH = 2  # nt_xent compares with another model
CHECKPOINT_SECONDS = 60.0  # time between two checkpoints within an epoch


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings:
    """Architecture and training settings of an autoencoder.

    Attributes:
        shape: keyword arguments of the encoder, e.g. {"latent": 64, "width": 64}.
        aligned: whether every model is first aligned to one reference model, as in SANE
            (sequential autoencoder for neural embeddings), so that corresponding neurons have
            equal indices.
        views: the two views of every model that are encoded. "canonical" is the model itself,
            "permuted" has its hidden units in random order, drawn for each model and view.
        erasing: probability that a span of a view is erased; the target is the complete view.
        noise: deviation of gaussian noise on a view, in units of the layer's deviation.
        gamma: weight of the contrastive loss between the two views; 0 leaves it out.
        contrast: contrastive loss, "nt_xent" or "positive".
        temperature: temperature of nt_xent.
        normalised: whether errors are divided by the deviation of their layer. Otherwise the loss
            is on the original weights, and layers with small weights hardly contribute.
        reduction: mean of the errors, "global_mean" over values or "layer_mean" over layers.
        structure: weight s of the reconstruction loss on weights; 1 - s is that on logits.
        queries: number of images drawn for the logits of a step.
        epochs: passes over the train rows.
        batch_size: rows per step, each encoded in two views.
        lr: peak learning rate of AdamW; it rises linearly, then falls as a cosine to 0.
        weight_decay: weight decay of AdamW.
        clip: largest norm of the gradient.
        keep: epoch whose weights are kept: "best" by R2 on the val rows, or "last". R2 measures
            weights only and ignores the gains of the behavioural loss.
        device: training device; equal seeds give equal results on a CPU.
        threads: number of torch threads on the CPU.
        progress: whether to show progress on stderr.
    """

    shape: dict[str, Any] = field(default_factory=dict)
    aligned: bool = True
    views: tuple[str, str] = ("canonical", "canonical")
    erasing: float = 0.5
    noise: float = 0.1
    gamma: float = 0.05
    contrast: str = "nt_xent"
    temperature: float = 0.1
    normalised: bool = True
    reduction: str = "global_mean"
    structure: float = 1.0
    queries: int = 64
    epochs: int = 50
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    keep: str = "best"
    device: str = "cpu"
    threads: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        """Check choices and ranges.

        Raises:
            ValueError: if a choice is unknown or a number is out of range.
        """
        if len(self.views) != 2 or isinstance(self.views, str):
            raise ValueError(f"views must be two of {VIEWS}, got {self.views!r}")
        for name, value, allowed in (
            ("contrast", self.contrast, CONTRASTS),
            ("keep", self.keep, KEPT),
            ("reduction", self.reduction, REDUCTIONS),
            ("views", self.views[0], VIEWS),
            ("views", self.views[1], VIEWS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        shares = (self.gamma, self.erasing, self.structure)
        if min(shares) < 0 or max(shares) > 1 or self.noise < 0:
            raise ValueError(
                "gamma, erasing and structure must lie in [0, 1] and noise must be at least 0, got "
                f"{self.gamma!r}, {self.erasing!r}, {self.structure!r} and {self.noise!r}"
            )
        least = {"epochs": 1, "threads": 1, "queries": 1, "batch_size": LEAST_ROWS_PER_BATCH}
        check_least(self, least)
        check_positive(self, "lr")


class AutoencoderTraining:
    """One training run; a subclass defines batches and their losses.

    Every process of `torch.distributed` takes its run of a batch of all processes; random draws are
    those for the whole batch. The steps are those of one process with the whole batch, except for
    means over values in windows that the models fill unequally, and for the behavioural loss, which
    is scaled by the logits of the process's own models.

    Attributes:
        settings: training settings.
        module: encoder and decoder.
        zoos: train and val rows.
        rows: number of train rows, N.
        batch_rows: largest number of rows in a step of all processes together.
        share: rows of the present batch that this process computes.
        device: training device.
        generator: random generator of the order and the views, on the device.
        history: mean losses and val R2 of every epoch so far.
        kept_epoch: epoch whose weights are kept; None before the first.
        note: warning about the result for the user, or None.
    """

    note: str | None = None

    def __init__(
        self,
        module: nn.Module,
        projected: int,
        zoos: tuple[ZooDataset, ZooDataset],
        settings: AutoencoderSettings,
        seed: int,
    ) -> None:
        """Set up the optimizer and the projection head.

        Args:
            module: encoder and decoder.
            projected: length of the vectors that the projection head takes.
            zoos: train and val rows.
            settings: training settings.
            seed: seed of the order and the views.
        """
        self.settings, self.module, self.zoos, self.seed = settings, module, zoos, seed
        rows = self.rows = len(zoos[0])
        self.device = torch.device(settings.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.head = ProjectionHead(projected).to(self.device)
        self.parameters = [*module.parameters(), *self.head.parameters()]
        self.optimizer = adamw(self.parameters, settings.lr, settings.weight_decay)
        self.batch_rows = settings.batch_size * rank_and_world()[1]
        self.steps_per_epoch = math.ceil(rows / self.batch_rows)
        self.steps = settings.epochs * self.steps_per_epoch
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, warmup_cosine(self.steps))
        self.history = list[dict[str, float]]()
        self.kept_epoch: int | None = None
        self.kept: dict[str, Tensor] = {}
        self.share = BatchShare(0, settings.batch_size, settings.batch_size)
        self._order: Tensor | None = None  # of the epoch that has begun
        self._totals = dict[str, float]()  # sums of the epoch's mean losses, by name
        self._unsettled = list[dict[str, Tensor]]()  # losses of steps that are not in them yet
        self._counted = 1  # steps of the epoch
        self._done = 0  # steps of that epoch
        self._checkpoint: TrainingCheckpoint | None = None
        self._written = time.monotonic()

    def losses(self, rows: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        """Losses by name of a batch; "loss" is the one to minimise.

        Args:
            rows: row numbers, (B,).
            weights: result of `read` for them.

        Raises:
            NotImplementedError: unless a subclass defines it.
        """
        raise NotImplementedError

    def read(self, batches: Sequence[Tensor]) -> Iterator[Tensor | None]:
        """Canonical weights (B, D) of batches of row numbers; None for one that needs no models.

        Raises:
            NotImplementedError: unless a subclass defines it.
        """
        raise NotImplementedError

    def val_r2(self) -> float:
        """Explained variance on the val rows.

        Raises:
            NotImplementedError: unless a subclass defines it.
        """
        raise NotImplementedError

    def generators(self) -> dict[str, torch.Generator]:
        """Random generators by name; a checkpoint holds their states."""
        return {"device": self.generator}

    def run(self, checkpoint: TrainingCheckpoint | None = None) -> list[dict[str, float]]:
        """Train to the last epoch, starting at the checkpoint if any, and load the kept weights.

        Args:
            checkpoint: checkpoint to write after every epoch, and within an epoch every
                `CHECKPOINT_SECONDS`; None writes none.

        Returns:
            Mean losses and val R2 by epoch.

        Raises:
            DeviceMemoryError: if a step does not fit the memory of the device.
            DivergedError: if training diverged in its first epoch. After a later divergence the
                weights kept so far are the result, with a note.
            ValueError: if the checkpoint belongs to another training run.
        """
        self._checkpoint = checkpoint
        if checkpoint is not None and (state := checkpoint.read(self.identity())):
            self.load_state_dict(state)
        done = len(self.history) * self.steps_per_epoch + self._done
        quiet = not self.settings.progress or rank_and_world()[0] > 0
        with tqdm(total=self.steps, initial=done, unit="step", disable=quiet, leave=False) as bar:
            while len(self.history) < self.settings.epochs:
                try:
                    self._next(bar)
                except DivergedError as error:
                    if self.kept_epoch is None:
                        raise
                    self.note = f"{error}; the weights of epoch {self.kept_epoch} are kept"
                    break
                self._save()
        self.module.load_state_dict(self.kept)
        return self.history

    def identity(self) -> dict[str, Any]:
        """Plain data that must be equal in a checkpoint of this training."""
        irrelevant = ("progress", "threads")
        settings = {k: v for k, v in asdict(self.settings).items() if k not in irrelevant}
        return {
            "weightzoo": package_version(),
            "kind": type(self).__name__,
            "settings": settings,
            "seed": self.seed,
            "zoos": [zoo_identity(zoo) for zoo in self.zoos],
        }

    def state_dict(self) -> dict[str, Any]:
        """The complete state of the training after a step or an epoch."""
        return random_state(self.device) | {
            "order": self._order,
            "totals": self._settled(),
            "done": self._done,
            "module": self.module.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "kept": self.kept,
            "kept_epoch": self.kept_epoch,
            "history": self.history,
            "generators": {name: one.get_state() for name, one in self.generators().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        for name in ("module", "head", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.kept, self.kept_epoch = state["kept"], state["kept_epoch"]
        self.history = list(state["history"])
        if state.get("order") is not None:  # within an epoch
            self._order, self._totals, self._done = state["order"], state["totals"], state["done"]
        restore_random_state(state, self.device)
        for name, generator in self.generators().items():
            generator.set_state(state["generators"][name])

    def _next(self, bar: Any) -> None:
        """Train for one epoch, then compute R2 on the val rows."""
        means = self._epoch(bar) | {"val_r2": self.val_r2()}
        if not math.isfinite(means["val_r2"] + means["loss"]):
            raise DivergedError(
                f"training diverged in epoch {len(self.history)}: take a smaller lr than "
                f"{self.settings.lr!r}"
            )
        bar.set_postfix(loss=f"{means['loss']:.3f}", val_r2=f"{means['val_r2']:.3f}")
        self.history.append(means)
        best = self.kept_epoch is None or means["val_r2"] > self.history[self.kept_epoch]["val_r2"]
        if best or self.settings.keep == "last":
            self.kept_epoch = len(self.history) - 1
            self.kept = copy.deepcopy(self.module.state_dict())

    def step(
        self, rows: Tensor, weights: Tensor | None, share: BatchShare | None = None
    ) -> dict[str, Tensor]:
        """Take one step on a batch and return its losses, which stay on the device.

        Args:
            rows: row numbers, (B,).
            weights: result of `read` for them.
            share: share of the batch that the rows are; None takes them as the whole batch.
        """
        self.share = share or BatchShare(0, len(rows), len(rows))
        parts = self.losses(rows, weights)
        self.optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        values = torch.stack([value.detach() for value in parts.values()])
        values = average_gradients(self.parameters, values, len(rows))
        nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimizer.step()
        self.schedule.step()
        return dict(zip(parts, values, strict=True))

    def combined(
        self, structure: Tensor, behaviour: Tensor | None, latent: Tensor
    ) -> dict[str, Tensor]:
        """All losses of a batch, and their weighted sum as "loss".

        Args:
            structure: reconstruction loss on weights.
            behaviour: reconstruction loss on logits; None leaves it out.
            latent: latent vectors of the first views, then of the second, (2 B, ...).
        """
        settings, parts = self.settings, {"structure": structure}
        loss = structure
        if behaviour is not None:
            parts["behaviour"] = behaviour
            loss = settings.structure * structure + (1 - settings.structure) * behaviour
        if settings.gamma:
            one, other = (gather_rows(views) for views in self.head(latent).chunk(2))
            contrast = contrast_loss(one, other, settings.contrast, settings.temperature)
            parts["contrast"] = self.share.of_all(contrast)
            loss = settings.gamma * parts["contrast"] + (1 - settings.gamma) * loss
        return {"loss": loss} | parts

    def _epoch(self, bar: Any) -> dict[str, float]:
        """Train for one pass in random order, or its rest, and return the mean losses."""
        self.module.train()
        if self._order is None:
            self._order = torch.randperm(self.rows, generator=self.generator, device=self.device)
            self._totals, self._done = {}, 0
        batches = self._order.to(self.device).split(self.batch_rows)
        least = max(LEAST_ROWS_PER_BATCH, rank_and_world()[1])
        counted = [rows for rows in batches if len(rows) >= least]
        self._counted = len(counted)
        shares = [BatchShare.of(len(rows)) for rows in counted[self._done :]]
        own = [
            share.of_rows(rows) for share, rows in zip(shares, counted[self._done :], strict=True)
        ]
        for share, rows, weights in zip(shares, own, self.read(own), strict=True):
            with step_on(self.device, len(rows)):
                self._unsettled.append(self.step(rows, weights, share))
            self._done += 1
            bar.update()
            if time.monotonic() - self._written >= CHECKPOINT_SECONDS:
                self._save()
        totals = self._settled()
        self._order, self._totals, self._done = None, {}, 0
        return totals

    def _settled(self) -> dict[str, float]:
        """The totals with the losses of all steps; one copy from the device for all of them."""
        values = [value for step in self._unsettled for value in step.values()]
        numbers = iter(torch.stack(values).tolist() if values else ())
        for step in self._unsettled:
            for name in step:
                self._totals[name] = self._totals.get(name, 0.0) + next(numbers) / self._counted
        self._unsettled = []
        return self._totals

    def _save(self) -> None:
        """Write the checkpoint; the processes are in step, so the first one writes for all."""
        self._written = time.monotonic()
        if self._checkpoint is not None and rank_and_world()[0] == 0:
            self._checkpoint.write(self.identity(), self.state_dict())


def on_host(batches: Sequence[Tensor]) -> list[np.ndarray]:
    """Row numbers of batches as arrays, by one copy from the device."""
    if not batches:
        return []
    numbers = torch.cat(list(batches)).cpu().numpy()
    return np.split(numbers, np.cumsum([len(rows) for rows in batches])[:-1])


class ModelViews:
    """Views of whole models."""

    def __init__(self, canonical: Canonical, settings: AutoencoderSettings) -> None:
        """Prepare the views.

        Args:
            canonical: alignment and standardisation of the rows.
            settings: training settings.
        """
        self._standardise, self._kinds = canonical.standardization.apply, settings.views
        self._permutations = None
        if "permuted" in settings.views:
            self._permutations = HiddenPermutations.of(canonical.architecture)

    def draw(self, weights: Tensor, share: BatchShare, generator: torch.Generator) -> Tensor:
        """Draw the standardised first view of every row, then the second, (2 B, D).

        Args:
            weights: canonical weights in their own units, (B, D).
            share: share of the batch that these rows are.
            generator: random generator of the permutations.
        """
        standard = self._standardise(weights)
        return torch.cat([self._view(standard, kind, share, generator) for kind in self._kinds])

    def _view(
        self, weights: Tensor, kind: str, share: BatchShare, generator: torch.Generator
    ) -> Tensor:
        if kind == "canonical" or self._permutations is None:
            return weights
        drawn = self._permutations.random_permutations(generator, share.total)
        return self._permutations.apply(weights, [share.of_rows(one) for one in drawn])


def train_rows(
    canonical: Canonical, train: ZooDataset, settings: AutoencoderSettings
) -> CanonicalRows:
    """Reader of the train rows, on the training device.

    Args:
        canonical: alignment and standardisation of the rows.
        train: train rows.
        settings: training settings.
    """
    mode = training_mode([train], settings.device)
    return CanonicalRows(canonical, train, settings.batch_size, settings.device, mode)


class Behaviour:
    """The behavioural loss, on images of the zoo's own image set."""

    def __init__(
        self, train: ZooDataset, canonical: Canonical, settings: AutoencoderSettings
    ) -> None:
        """Load the images.

        Args:
            train: train rows.
            canonical: alignment and standardisation of the rows.
            settings: training settings.

        Raises:
            ValueError: if the zoo does not name its image set.
        """
        name = train.header.recipe.get("images")
        if not isinstance(name, str):
            raise ValueError(
                f"zoo {train.name!r} does not name the image set of its models, which the "
                "behavioural loss needs: train with structure=1"
            )
        self._images, self._canonical = load_images(name).train, canonical
        self._count = settings.queries
        self._activations = train.hidden_column("activation", "the behavioural loss").tolist()

    def loss(self, rows: Tensor, made: Tensor, true: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of a batch, see `behaviour_loss`.

        Args:
            rows: row numbers, (B,).
            made: reconstructed standardised weights, (B, D).
            true: true standardised weights, (B, D).
            generator: random generator of the query images.
        """
        inverse = self._canonical.standardization.inverse
        activations = [self._activations[row] for row in rows.tolist()]
        return behaviour_loss(
            self._canonical.architecture,
            inverse(made),
            inverse(true),
            activations,
            self._draw(generator),
        )

    def _draw(self, generator: torch.Generator) -> Images:
        """Draw random query images."""
        device, count = generator.device, len(self._images)
        index = torch.randint(count, (self._count,), generator=generator, device=device).cpu()
        pixels, labels = self._images.pixels[index], self._images.labels[index]
        return Images(pixels.to(device), labels.to(device))


def deviations(standardization: LayerStandardization) -> Tensor:
    """The deviation of every value's layer, divided by the root mean square of all, (1, D).

    The product with errors of standardised weights gives errors of the original weights in a
    common unit.
    """
    ones = torch.ones(1, standardization.layer_table.width)
    deviation = standardization.inverse(ones) - standardization.inverse(torch.zeros_like(ones))
    return deviation / deviation.square().mean().sqrt()


def checkpoint_in(folder: Path | None, resume: bool) -> TrainingCheckpoint | None:
    """The checkpoint of a training in a folder.

    Args:
        folder: folder of the checkpoint; None means no checkpoint.
        resume: whether to continue from an existing checkpoint; otherwise it is removed.
    """
    checkpoint = TrainingCheckpoint(folder) if folder is not None else None
    if checkpoint is not None and not resume:
        checkpoint.discard()
    return checkpoint


def check_rows(rows: int, latent: int) -> None:
    """Reject a zoo small enough for the latent vectors to memorise.

    Args:
        rows: number of train rows.
        latent: length of a latent vector.

    Raises:
        ValueError: if there are no more rows than latent values.
    """
    if rows <= latent:
        raise ValueError(
            f"{rows} train rows are too few for a latent vector of {latent} values, which could "
            "memorise them: take a larger zoo or a smaller latent"
        )
