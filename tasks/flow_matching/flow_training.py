"""Training of a flow on the aligned weights of a zoo.

Source: DeepWeightFlow, arXiv 2601.05052; see encoders/flow_matching.py.

Shape letters: B rows in the batch, N rows, D length of the flat weight vector, Z values of a point.
"""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...encoders.flow_matching import VelocityField, flow_loss
from ...loaders import ZooDataset
from ...loaders.dataset.checks import check_dataset
from ...zoos.errors import DivergedError
from ...zoos.provenance import package_version
from ..autoencoding.autoencoder_training import checkpoint_in
from ..autoencoding.canonical import Canonical
from ..autoencoding.learnable_rows import top_rows
from ..processes import step_on, threads
from ..random_states import own_random_numbers, random_state, restore_random_state
from ..training.averaging import ExponentialAverage
from ..training.checkpoints import TrainingCheckpoint, zoo_identity
from ..training.settings import warmup_cosine
from .settings import FlowSettings
from .weight_flow import Coordinates, WeightFlow

CHECKPOINT_SECONDS = 60.0  # least time between two checkpoints
VAL_DRAWS = 8  # noises and times of every val row; the same in every epoch


def train_flow_matching(
    train: ZooDataset,
    val: ZooDataset,
    settings: FlowSettings | None = None,
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = True,
) -> WeightFlow:
    """Train a flow on the best rows; keep the weights of the epoch with the lowest val loss.

    Rows are aligned, and kept in memory as points.

    Args:
        train: rows of the train split, a dataset or a stream of `load_zoo`.
        val: rows of the val split.
        settings: training settings; None takes the defaults.
        seed: seed of initial weights, order, noise and times.
        folder: folder for a checkpoint after epochs, at most one a minute; None writes none.
        resume: whether to continue from a checkpoint in the folder. The result equals that of an
            uninterrupted run.

    Returns:
        The flow, with losses by epoch in its `history`.

    Raises:
        ZooFormatError: if the zoo holds no architecture, or the val rows have another one.
        ValueError: if there are too few rows, or the checkpoint in the folder belongs to another
            training run.
        DivergedError: if training diverged in its first epoch.

    Example:
        >>> import torch
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import train_flow_matching
        >>> from weightzoo.tasks.flow_matching.settings import FlowSettings
        >>> zoo, settings = load_zoo(ZOO), FlowSettings(widths=(8,), epochs=1, progress=False)
        >>> flow = train_flow_matching(zoo["train"], zoo["val"], settings)
        >>> flow.sample(3, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 71])
    """
    settings = settings or FlowSettings()
    train, val = (
        _best(check_dataset(rows, "train_flow_matching"), settings.top) for rows in (train, val)
    )
    canonical = Canonical.fit(train, settings.aligned)
    standardised = [
        canonical.standardization.apply(canonical.weights(rows)) for rows in (train, val)
    ]
    coordinates = Coordinates.fit(standardised[0], settings.components)
    points, val_points = map(coordinates.apply, standardised)
    training = FieldTraining(points, val_points, settings, seed)
    zoos = [zoo_identity(rows) for rows in (train, val)]
    history = training.run(checkpoint_in(folder, resume), {"zoos": zoos})
    flow = WeightFlow(canonical, coordinates, training.field, settings)
    flow.history, flow.kept_epoch, flow.note = history, training.kept_epoch, training.note
    return flow


def make_field(values: int, settings: FlowSettings) -> VelocityField:
    """The untrained velocity field, with weights drawn from torch's global generator.

    Args:
        values: Z, number of values of a point.
        settings: architecture of the field.
    """
    return VelocityField(values, widths=settings.widths, dropout=settings.dropout)


class FieldTraining:
    """One training run on points.

    Attributes:
        settings: training settings.
        field: velocity field; after `run` it has the kept weights.
        history: mean train loss and val loss of every epoch so far.
        kept_epoch: epoch whose weights are kept; None before the first.
        note: warning about the result for the user, or None.
    """

    def __init__(self, points: Tensor, val: Tensor, settings: FlowSettings, seed: int = 0) -> None:
        """Set up field, average and optimizer.

        Args:
            points: points of the train rows, (N, Z).
            val: points of the val rows.
            settings: training settings.
            seed: seed of initial weights, order, noise and times.
        """
        self.settings, self.seed = settings, seed
        self._points, self._val = points.to(settings.device), val.to(settings.device)
        with own_random_numbers(seed, settings.device):
            self.field = make_field(points.shape[1], settings).to(settings.device)
        self._average = ExponentialAverage(self.field, settings.averaging)
        self._optimizer = torch.optim.AdamW(
            self.field.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self._steps_per_epoch = math.ceil(len(points) / settings.batch_size)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, warmup_cosine(settings.epochs * self._steps_per_epoch)
        )
        self._generator = torch.Generator(settings.device).manual_seed(seed)
        self._kept: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.kept_epoch: int | None = None
        self.note: str | None = None

    def run(
        self,
        checkpoint: TrainingCheckpoint | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> list[dict[str, float]]:
        """Train to the last epoch, starting at the checkpoint if any, and load the kept weights.

        Args:
            checkpoint: checkpoint to write after epochs, at most every `CHECKPOINT_SECONDS`, and
                after the last; None writes none.
            identity: plain data about the rows that must be equal in the checkpoint.

        Returns:
            Mean train loss and val loss by epoch.

        Raises:
            DivergedError: if training diverged in its first epoch. After a later divergence the
                weights kept so far are the result, with a note.
            ValueError: if the checkpoint belongs to another training run.
        """
        whole = self._identity() | dict(identity or {})
        device = self.settings.device
        with own_random_numbers(self.seed, device), threads(self.settings.threads):  # dropout
            if checkpoint is not None and (state := checkpoint.read(whole)):
                self.load_state_dict(state)
            self._epochs(checkpoint, whole)
        self.field.load_state_dict(self._kept)
        return self.history

    def state_dict(self) -> dict[str, Any]:
        """The complete state of the training after an epoch."""
        parts = {name: getattr(self, f"_{name}").state_dict() for name in STATEFUL}
        return (
            random_state(self.settings.device)
            | parts
            | {
                "field": self.field.state_dict(),
                "kept": self._kept,
                "kept_epoch": self.kept_epoch,
                "history": self.history,
                "generator": self._generator.get_state(),
            }
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        for name in STATEFUL:
            getattr(self, f"_{name}").load_state_dict(state[name])
        self.field.load_state_dict(state["field"])
        self._kept, self.kept_epoch = state["kept"], state["kept_epoch"]
        self.history = list(state["history"])
        restore_random_state(state, self.settings.device)
        self._generator.set_state(state["generator"])

    def _identity(self) -> dict[str, Any]:
        irrelevant = ("progress", "threads", "steps")
        settings = {k: v for k, v in asdict(self.settings).items() if k not in irrelevant}
        settings["widths"] = list(self.settings.widths)
        return {"weightzoo": package_version(), "settings": settings, "seed": self.seed}

    def _epochs(self, checkpoint: TrainingCheckpoint | None, identity: Mapping[str, Any]) -> None:
        epochs, quiet = self.settings.epochs, not self.settings.progress
        written = time.monotonic()
        with tqdm(total=epochs, initial=len(self.history), disable=quiet, leave=False) as bar:
            while len(self.history) < epochs:
                losses = {"loss": self._epoch(), "val_loss": self._val_loss()}
                if not math.isfinite(sum(losses.values())):
                    self._diverged()
                    break
                self._keep(losses)
                bar.set_postfix(losses)
                bar.update()
                is_due = time.monotonic() - written >= CHECKPOINT_SECONDS
                if checkpoint is not None and (is_due or len(self.history) == epochs):
                    checkpoint.write(identity, self.state_dict())
                    written = time.monotonic()

    def _epoch(self) -> float:
        """Train for one epoch and return the mean loss."""
        self.field.train()
        rows, losses = len(self._points), list[Tensor]()
        order = torch.randperm(rows, generator=self._generator, device=self._points.device)
        batches = order.split(self.settings.batch_size)
        for numbers in batches:
            with step_on(self.settings.device, len(numbers)):
                loss = flow_loss(self.field, self._points[numbers], self._generator)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.field.parameters(), self.settings.clip)
                self._optimizer.step()
            self._schedule.step()
            self._average.update_parameters(self.field)
            losses.append(loss.detach())
        values = torch.stack(losses).tolist()  # the only wait for the device in an epoch
        return sum(v * len(one) for v, one in zip(values, batches, strict=True)) / rows

    def _val_loss(self) -> float:
        """Loss of the averaged field on the val rows, with the same noise in every epoch."""
        self._average.eval()
        generator = torch.Generator(self._val.device).manual_seed(self.seed)
        with torch.no_grad():
            losses = [flow_loss(self._average, self._val, generator) for _ in range(VAL_DRAWS)]
        return float(torch.stack(losses).mean())

    def _keep(self, losses: dict[str, float]) -> None:
        best = min((past["val_loss"] for past in self.history), default=math.inf)
        self.history.append(losses)
        if losses["val_loss"] < best or self.settings.keep == "last":
            self.kept_epoch = len(self.history) - 1
            self._kept = copy.deepcopy(self._average.module.state_dict())

    def _diverged(self) -> None:
        text = (
            f"training diverged in epoch {len(self.history)}: take a smaller lr than "
            f"{self.settings.lr!r}"
        )
        if self.kept_epoch is None:
            raise DivergedError(text)
        self.note = f"{text}; the weights of epoch {self.kept_epoch} are kept"


STATEFUL = ("average", "optimizer", "schedule")


def _best(rows: ZooDataset, share: float) -> ZooDataset:
    """The best rows by val accuracy; all rows for a share of 1."""
    if share == 1:
        return rows
    known = "val_accuracy" in rows.columns and np.isfinite(rows.columns["val_accuracy"]).all()
    if not known:
        raise ValueError(
            f"zoo {rows.name!r} has no val accuracy that chooses the best rows: take all rows with "
            "top=1"
        )
    return rows.select(top_rows(torch.tensor(rows.columns["val_accuracy"]), share).numpy())
