"""One training of an encoder, end to end, to predict one target column from weights.

An encoder is any module that maps (weights, layer table) to (B, K). It is trained on one zoo, or
on several zoos of mixed architectures with alternating batches.

Shape letters: B models in the batch, N rows, D length of the flat weight vector, K outputs.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...encoders.losses import half_squared_distance
from ...encoders.parts.planning import compiled
from ...loaders import MixedLoader, ZooDataset
from ...loaders.batching.device import rank_and_world
from ...loaders.batching.order import epoch_order
from ...zoos.errors import DivergedError, UnsuitableError
from ...zoos.networks.devices import upload
from ...zoos.networks.layer_table import LayerTable
from ...zoos.provenance import commit, package_version
from ...zoos.strict_json import finite_or_null
from ..processes import report_progress, step_on
from ..random_states import random_state, restore_random_state, seed_random_numbers
from ..scoring.metrics import accuracy, kendall_tau, mse
from ..scoring.targets import TargetMapping
from .averaging import ExponentialAverage
from .batch_norms import refresh_batch_norms
from .checkpoints import TrainingCheckpoint, zoo_identity
from .checks import (
    check_architecture,
    check_embedding,
    check_not_read,
    check_val_varies,
    check_zoos,
)
from .data_parallel import average_gradients, share_batch_norms
from .encoder_making import EncoderFactory, encoder_config, make_encoder, source_of
from .encoder_reader import EncoderReader, declared_input, training_mode
from .invariance import RandomPermutations
from .property_predictor import PREDICTION_BATCH, PropertyPredictor
from .settings import TrainingSettings, adamw, warmup_cosine
from .weight_scaling import WeightScaler

BATCH_NORM_ROWS = 512
CHECKPOINT_SECONDS = 60.0  # time between two checkpoints within an epoch

Outputs = Callable[[Any, LayerTable], Tensor]


class EncoderTraining:
    """One training from start to end.

    Attributes:
        history: train loss, val score and seconds of every epoch so far.
        note: warning about the result for the user, or None.
    """

    note: str | None = None

    def __init__(
        self,
        encoder: EncoderFactory,
        train: Sequence[ZooDataset],
        val: Sequence[ZooDataset],
        target: str,
        settings: TrainingSettings,
        seed: int,
    ) -> None:
        """Check all arguments and make the initial state.

        Args:
            encoder: encoder to train.
            train: zoos of the train split.
            val: zoos of the val split.
            target: name of the target column.
            settings: training settings.
            seed: seed of initial weights, order of the data, dropout and permutations.

        Raises:
            TypeError: if the encoder is a text.
        """
        if isinstance(encoder, str):
            raise TypeError(
                "train_encoder takes an EncoderSpec or a function that makes an encoder, got the "
                f"text {encoder!r}: write EncoderSpec({encoder!r})"
            )
        self.settings, self.seed, self.target = settings, seed, target
        self.commit = commit()
        self.train, self.val = train, val
        check_zoos(train, val, target)
        self.mapping = TargetMapping.of(settings.loss, target, _column(train, target))
        if not self.mapping.categories and settings.select != "mse":
            check_val_varies(val, target)
        seed_random_numbers(seed, settings.device)
        tables = [zoo.layer_table for zoo in train]
        self.module = make_encoder(encoder, tables, self.mapping.outputs).to(settings.device)
        scaling = "none" if declared_input(self.module) == "networks" else settings.scaling
        self.scaler = WeightScaler.measure(scaling, train)
        self.reader = EncoderReader(self.module, self.scaler)
        check_not_read(self.reader.reads, target)
        for zoo in (*train, *val):
            check_architecture(self.module, zoo)
        self.averaged = ExponentialAverage(self.module, settings.averaging)
        share_batch_norms(self.module)
        if settings.invariance and settings.invariance_on == "embedding":
            check_embedding(self.module)
        self.permute = self._permutations()
        self.loader = self._loader()
        self.losses = list[Tensor]()  # of the epoch so far
        self.seconds = 0.0
        self._resumes, self._written = False, time.monotonic()
        self.optimizer = adamw(self.module.parameters(), settings.lr, settings.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, warmup_cosine(settings.epochs * len(self.loader))
        )
        self.best, self.best_epoch = -math.inf, 0
        self.kept = copy.deepcopy(self.averaged.state_dict())
        self.history = list[dict[str, float]]()

    def _permutations(self) -> RandomPermutations | None:
        """Permutations of the penalty and the augmentation; None without both.

        Models whose hidden units are unknown are not augmented, which the note says.

        Raises:
            ValueError: if the encoder reads trajectories.
            UnsuitableError: if the penalty needs hidden units that are unknown.
        """
        settings = self.settings
        if not settings.invariance and not settings.augment:
            return None
        if self.reader.reads == "trajectories":
            raise ValueError(
                f"{type(self.module).__name__} reads trajectories, whose models are not reordered: "
                "train with augment=False and invariance=0"
            )
        try:
            return RandomPermutations(self.train, settings.permutations, self.seed)
        except UnsuitableError as error:
            if settings.invariance:
                raise UnsuitableError(f"{error}: train with invariance=0") from error
            self.note = f"trained without reordered models: {error}"
            return None

    def run(self, checkpoint: TrainingCheckpoint | None) -> PropertyPredictor:
        """Train to the last epoch or until patience ends, starting at the checkpoint if any."""
        if checkpoint is not None and (state := checkpoint.read(self.identity())):
            self.load_state_dict(state)
        self._checkpoint, rank = checkpoint, rank_and_world()[0]
        outputs = compiled(self.module) if self.settings.compile else self.module
        steps = self.settings.epochs * len(self.loader)
        done = len(self.history) * len(self.loader) + self.loader.batches_done * self._resumes
        with tqdm(
            total=steps,
            initial=done,
            desc=type(self.module).__name__,
            unit="step",
            disable=not self.settings.progress or rank > 0,
            leave=False,
        ) as bar:
            while not self._finished():
                try:
                    self._epoch(outputs, bar)
                except DivergedError as error:
                    if not math.isfinite(self.best):
                        raise
                    self.note = f"{error}; the weights of epoch {self.best_epoch} are kept"
                    break
                bar.set_postfix(val=f"{self.history[-1]['val_score']:.3f}")
                epoch = f"epoch {len(self.history)} of {self.settings.epochs}"
                report_progress(f"{type(self.module).__name__}, {epoch}")
                self._save()
        self.averaged.load_state_dict(self.kept)
        if not math.isfinite(self.best):
            self.note = (
                "predictions on the val split are equal in all rows and have no score: the last "
                f"epoch is kept; train longer, or with another lr than {self.settings.lr!r}"
            )
        return self._predictor()

    def identity(self) -> dict[str, Any]:
        """Plain data that must be equal in a checkpoint of this training."""
        irrelevant = ("progress", "threads")
        settings = {k: v for k, v in asdict(self.settings).items() if k not in irrelevant}
        return {
            "weightzoo": package_version(),
            "settings": settings,
            "seed": self.seed,
            "target": self.target,
            "encoder": [type(self.module).__name__, encoder_config(self.module)],
            "zoos": [zoo_identity(zoo, self.target) for zoo in (*self.train, *self.val)],
        } | source_of(type(self.module))

    def state_dict(self) -> dict[str, Any]:
        """The complete state of the training after a step or an epoch."""
        return random_state(self.settings.device) | {
            "loader": self.loader.state_dict(),
            "losses": [float(loss) for loss in self.losses],
            "seconds": self.seconds,
            "module": self.module.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "kept": self.kept,
            "history": self.history,
            "reorder": self.permute.generator.get_state() if self.permute else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        for name in ("module", "averaged", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.best, self.best_epoch, self.kept = state["best"], state["best_epoch"], state["kept"]
        self.history = list(state["history"])
        restore_random_state(state, self.settings.device)
        if self.permute:
            self.permute.generator.set_state(state["reorder"])
        device = self.settings.device
        self.losses = [torch.tensor(loss, device=device) for loss in state.get("losses", ())]
        if self.losses:
            self.loader.load_state_dict(state["loader"])
            self.seconds, self._resumes = state["seconds"], True

    def _save(self) -> None:
        """Write the checkpoint; the processes are in step, so the first one writes for all."""
        self._written = time.monotonic()
        if self._checkpoint is not None and rank_and_world()[0] == 0:
            self._checkpoint.write(self.identity(), self.state_dict())

    def _finished(self) -> bool:
        done, settings = len(self.history), self.settings
        return done >= settings.epochs or done - 1 - self.best_epoch >= settings.patience

    def _epoch(self, outputs: Outputs, bar: tqdm) -> None:
        """Train for one pass over the train rows, then compute the val score."""
        started, epoch = time.perf_counter() - self.seconds, len(self.history)
        if not self._resumes:
            self.loader.set_epoch(epoch)
        self._resumes = False
        self.module.train()
        for name, batch in self.loader:
            rows = len(batch[self.target])
            if rows > 1 or rank_and_world()[1] > 1:  # batch norm needs two rows
                given, zoo = self.reader.given(batch), self.train[int(name)]
                with step_on(self.settings.device, rows):
                    self.losses.append(self._step(outputs, given, batch, zoo))
            bar.update()
            self.seconds = time.perf_counter() - started
            if time.monotonic() - self._written >= CHECKPOINT_SECONDS:
                self._save()
        self._refresh_batch_norms()
        score = self._val_score()
        if score > self.best or self.best == -math.inf:  # keep the last while none has a score
            self.best = score if math.isfinite(score) else self.best
            self.best_epoch, self.kept = epoch, copy.deepcopy(self.averaged.state_dict())
        self.history.append(
            {
                "train_loss": float(torch.stack(self.losses).mean()),
                "val_score": score,
                "seconds": time.perf_counter() - started,
            }
        )
        self.losses, self.seconds = [], 0.0

    def _step(self, outputs: Outputs, given: Any, batch: dict[str, Any], zoo: ZooDataset) -> Tensor:
        """Take one step of the optimizer and return the loss."""
        labels = self._labels(batch[self.target])
        with self._autocast():
            loss = self._loss(outputs, given, zoo.layer_table, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = average_gradients(self.module.parameters(), loss.detach(), len(labels))
        nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip)
        self.optimizer.step()
        self.averaged.update_parameters(self.module)
        self.schedule.step()
        return loss

    def _labels(self, column: Any) -> Tensor:
        """Labels of a batch's column: numbers stay on the device, texts come from the CPU."""
        if isinstance(column, Tensor):
            return self.mapping.device_labels(self.reader.last(column))
        true = self.reader.last(np.array(column, object))
        return upload(self.mapping.labels(true), self.settings.device)

    def _loss(self, outputs: Outputs, given: Any, table: LayerTable, labels: Tensor) -> Tensor:
        """The target loss plus nu times the logit-invariance penalty (SNE, eq. 10).

        With the penalty `given` holds the models twice, the second time permuted.
        """
        predicted = outputs(given, table).float()
        if not self.settings.invariance:
            return self.mapping.loss(predicted, labels)
        penalised = predicted
        if self.settings.invariance_on == "embedding":
            penalised = self.module.embed(given, table).float()  # type: ignore[operator]
        penalty = half_squared_distance(*penalised.chunk(2))
        return self.mapping.loss(predicted.chunk(2)[0], labels) + self.settings.invariance * penalty

    def _permuted(self, weights: Tensor, table: LayerTable) -> Tensor:
        """Scaled weights (B, D), permuted if augmented; with the penalty permuted copies follow.

        Returns:
            (B, D), or (2 B, D) with the penalty.
        """
        assert self.permute is not None
        if self.settings.augment:
            weights = self.permute(weights, table)
        if not self.settings.invariance:
            return weights
        return torch.cat([weights, self.permute(weights, table)])

    def _autocast(self) -> torch.autocast:
        device = torch.device(self.settings.device).type
        enabled = self.settings.mixed_precision and device == "cuda"
        return torch.autocast(device, torch.bfloat16, enabled)

    def _loader(self) -> MixedLoader:
        """Alternating batches of all train zoos; seed and epoch fix their order."""
        settings, (rank, world) = self.settings, rank_and_world()
        mode = training_mode(self.train, settings.device)
        loaders = {
            str(index): self.reader.loader(
                zoo,
                settings.batch_size,
                settings.device,
                columns=[self.target],
                seed=self.seed,
                mode=mode,
                rank=rank,
                world_size=world,
                change=self._permuted if self.permute else None,
            )
            for index, zoo in enumerate(self.train)
        }
        return MixedLoader(loaders, seed=self.seed)

    def _refresh_batch_norms(self) -> None:
        """Recompute the batch norm statistics, which averaged weights lack."""
        self.averaged.eval()  # no dropout, also in the first epoch after a resume
        refresh_batch_norms(self.averaged, self._sample())

    def _sample(self) -> Iterator[tuple[Any, LayerTable]]:
        """Input of a sample of the train rows of every zoo, in batches."""
        share = max(2, BATCH_NORM_ROWS // len(self.train))
        for zoo in self.train:
            loader = self.reader.loader(
                zoo, PREDICTION_BATCH, self.settings.device, mode="streaming"
            )
            rows = epoch_order(loader.order.rows, self.seed, len(self.history))[:share]
            parts = np.array_split(rows, math.ceil(len(rows) / PREDICTION_BATCH))
            for batch in loader.read(parts):
                yield self.reader.given(batch), zoo.layer_table

    def _val_score(self) -> float:
        """Val score of the averaged weights, the mean over the zoos; higher is better."""
        predictor = self._predictor()
        scores = []
        for zoo in self.val:
            outputs = predictor.outputs(zoo)
            if not outputs.isfinite().all():
                raise DivergedError(
                    f"training of {type(self.module).__name__} diverged: use a smaller lr than "
                    f"{self.settings.lr!r}, or another scaling than {self.settings.scaling!r}"
                )
            true = self.reader.rows_of(zoo).columns[self.target]
            scores.append(self._score(true, self.mapping.predicted(outputs)))
        return float(np.mean(scores))

    def _score(self, true: np.ndarray, predicted: np.ndarray) -> float:
        if self.mapping.categories:
            return accuracy(true, predicted)
        if self.settings.select == "mse":
            return -mse(true, predicted)
        return kendall_tau(true, predicted)

    def _predictor(self) -> PropertyPredictor:
        settings = asdict(self.settings)
        return PropertyPredictor(
            module=self.averaged.module,
            target_mapping=self.mapping,
            scaler=self.scaler,
            threads=self.settings.threads,
            training={
                "code": {"weightzoo": package_version(), "commit": self.commit},
                "settings": settings,
                "seed": self.seed,
                "zoos": [zoo_identity(zoo, self.target) for zoo in self.train],
                "best_epoch": self.best_epoch,
                "val_score": self.best if math.isfinite(self.best) else None,
                "note": self.note,
                "history": finite_or_null(self.history),
            },
        )


def _column(zoos: Sequence[ZooDataset], name: str) -> np.ndarray:
    return np.concatenate([zoo.columns[name] for zoo in zoos])
