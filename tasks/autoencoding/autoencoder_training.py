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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...encoders.losses import ProjectionHead, contrast_loss
from ...loaders import ZooDataset
from ...loaders.batching.device import rank_and_world
from ...zoos.errors import DivergedError
from ...zoos.provenance import package_version
from ..processes import step_on
from ..random_states import random_state, restore_random_state
from ..training.checkpoints import TrainingCheckpoint, zoo_identity
from ..training.data_parallel import average_gradients, gather_rows
from ..training.settings import adamw, warmup_cosine
from .batch_share import BatchShare
from .settings import LEAST_ROWS_PER_BATCH, AutoencoderSettings

CHECKPOINT_SECONDS = 60.0  # time between two checkpoints within an epoch


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
