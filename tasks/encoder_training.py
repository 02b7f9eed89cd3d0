"""Trains an encoder end to end to predict one target column from weights.

Shape letters: B models in the batch, N rows, D length of the flat weight vector.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ..encoders.sne import SNE
from ..loaders import ZooDataset
from ..zoos.layer_table import LayerTable
from .metrics import kendall_tau
from .regressors import blocks

LOSSES = ("auto", "bce", "mse")
WARMUP = 0.1  # share of all steps in which the learning rate rises
PREDICTION_BATCH = 64
BATCH_NORM_ROWS = 512
SCALED_SLOPE = 2.0
AVERAGING = 0.98  # per step; the averaged weights predict, the last ones are too noisy
SMALL_SNE = partial(SNE, width=16, heads=1, blocks=1)  # about a minute per 1,000 rows on one core


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How an encoder is trained.

    Attributes:
        epochs: passes over the train rows, at most.
        batch_size: rows per step.
        lr: peak learning rate of AdamW; it rises linearly, then falls as a cosine to 0.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        patience: epochs without a better tau_b on val after which training stops.
        loss: one of `LOSSES`. "bce" is binary cross entropy against the target as a
            probability, with a sigmoid on top; "mse" the squared error of the standardised
            target; "auto" takes "bce" for a target named "...accuracy" within [0, 1].
        standardise: whether weights are scaled by the usual size of their tensor in the train
            rows, see `WeightScaler`.
        threads: of torch on the CPU while it trains and predicts; two on two busy cores made the
            steps of a small encoder five times slower than one.
        device: where to train; equal seeds give equal results on a CPU.
        progress: whether to show progress on stderr.
    """

    epochs: int = 10
    batch_size: int = 16
    lr: float = 6e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    patience: int = 10
    loss: str = "auto"
    standardise: bool = True
    threads: int = 1
    device: str = "cpu"
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse an unknown loss and numbers out of range."""
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {LOSSES}, got {self.loss!r}")
        whole = min(
            self.epochs, self.patience, self.threads, self.batch_size - 1
        )  # batch norm needs two rows
        if whole < 1 or min(self.lr, self.clip) <= 0:
            raise ValueError(
                "epochs, patience and threads must be at least 1, batch_size at least 2, "
                f"lr and clip positive, got {self}"
            )


class EncoderRegressor:
    """A predictor around an encoder that maps (weights, layer table) to (B, 1)."""

    seeded = True

    def __init__(
        self,
        name: str = "SNE",
        encoder: Callable[[], nn.Module] = SMALL_SNE,
        settings: TrainingSettings | None = None,
    ) -> None:
        """Remember how to make and train the encoder.

        Args:
            name: what the report calls it.
            encoder: makes an untrained encoder.
            settings: how to train it; None takes the defaults.
        """
        self.name = name
        self.encoder = encoder
        self.settings = settings or TrainingSettings()

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        """Train from scratch; keep the weights of the epoch with the best tau_b on val.

        Raises:
            ValueError: if the loss is "bce" and a target lies outside [0, 1].
        """
        true = np.asarray(train.columns[target], np.float64)
        self._link = Link.of(self.settings.loss, target, true)
        self._scaler = WeightScaler(train) if self.settings.standardise else nn.Identity()
        with torch.random.fork_rng(devices=[]), _threads(self.settings.threads):
            torch.manual_seed(seed)
            module = self.encoder().to(self.settings.device)
            self._module = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))
            self._train(module, train, val, target)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,)."""
        self._module.eval()
        parts = []
        with torch.no_grad(), _threads(self.settings.threads):
            for start in range(0, len(dataset), PREDICTION_BATCH):
                rows = range(start, min(start + PREDICTION_BATCH, len(dataset)))
                parts.append(self._link.predicted(self._outputs(self._module, dataset, rows)).cpu())
        return torch.cat(parts).double().numpy()

    def _train(self, module: nn.Module, train: ZooDataset, val: ZooDataset, target: str) -> None:
        settings, averaged = self.settings, self._module
        optimizer = torch.optim.AdamW(
            module.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        steps = settings.epochs * math.ceil(len(train) / settings.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_cosine(steps))
        best, best_epoch, kept = -math.inf, 0, averaged.state_dict()
        with tqdm(
            total=steps, desc=self.name, unit="step", disable=not settings.progress, leave=False
        ) as bar:
            for epoch in range(settings.epochs):
                self._train_epoch(module, train, target, optimizer, schedule, bar)
                self._refresh_batch_norms(train)
                tau = self._val_tau(val, target)
                bar.set_postfix(val_tau=f"{tau:.3f}")
                if tau > best:
                    best, best_epoch, kept = tau, epoch, copy.deepcopy(averaged.state_dict())
                if epoch - best_epoch >= settings.patience:
                    break
        averaged.load_state_dict(kept)

    def _train_epoch(
        self,
        module: nn.Module,
        train: ZooDataset,
        target: str,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        bar: tqdm,
    ) -> None:
        """One pass over the train rows in random order."""
        labels = self._link.labels(train.columns[target]).to(self.settings.device)
        module.train()
        batches = torch.randperm(len(train)).split(self.settings.batch_size)
        for rows in batches if len(batches[-1]) > 1 else batches[:-1]:  # batch norm needs two
            loss = self._link.loss(
                self._outputs(module, train, rows), labels[rows.to(labels.device)]
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), self.settings.clip)
            optimizer.step()
            self._module.update_parameters(module)
            schedule.step()
            bar.update()

    def _refresh_batch_norms(self, train: ZooDataset) -> None:
        """Measure the statistics of batch norms anew: averaged weights have none of their own."""
        norms = [m for m in self._module.modules() if isinstance(m, nn.BatchNorm1d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
            norm.train()
        with torch.no_grad():
            sample = torch.randperm(len(train))[:BATCH_NORM_ROWS]
            for rows in sample.tensor_split(math.ceil(len(sample) / PREDICTION_BATCH)):
                self._outputs(self._module, train, rows)

    def _val_tau(self, val: ZooDataset, target: str) -> float:
        """tau_b on val; NaN while all predictions are equal."""
        predicted = self.predict(val)
        if not np.isfinite(predicted).all():
            raise RuntimeError(
                f"training of {self.name!r} diverged: use a smaller lr than {self.settings.lr!r}, "
                "or standardise the weights"
            )
        return kendall_tau(val.columns[target], predicted)

    def _outputs(self, module: nn.Module, dataset: ZooDataset, rows: object) -> Tensor:
        """What the encoder says of some rows, (n,)."""
        weights = dataset.weights(rows).to(self.settings.device)
        return module(self._scaler(weights), dataset.layer_table)[:, 0]


class WeightScaler:
    """Maps weights w to asinh(2 w / s), s the tensor's usual size in a dataset.

    The usual size is the geometric mean over the rows of the tensor's root mean square: models
    of one zoo differ in scale by orders of magnitude, and dividing by the deviation of all
    values together would leave most models close to zero. asinh keeps the few large weights of
    a model from drowning the others.
    """

    def __init__(self, dataset: ZooDataset) -> None:
        """Measure; a model in which a tensor is all zero does not count for it."""
        table = dataset.layer_table
        logs = torch.cat([_log_rms(weights, table) for weights in blocks(dataset)])
        counted = logs.isfinite()
        mean = logs.where(counted, 0).sum(dim=0) / counted.sum(dim=0).clamp(min=1)
        sizes = torch.tensor([spec.size for spec in table])
        self.scale = mean.exp().repeat_interleave(sizes)

    def __call__(self, weights: Tensor) -> Tensor:
        """Map (B, D) to (B, D)."""
        return torch.asinh(SCALED_SLOPE * weights / self.scale.to(weights))


def _log_rms(weights: Tensor, table: LayerTable) -> Tensor:
    """Logarithm of the root mean square of every tensor, (B, T)."""
    tensors = weights.split([spec.size for spec in table], dim=1)
    return torch.stack([tensor.square().mean(dim=1).sqrt().log() for tensor in tensors], dim=1)


@dataclass(frozen=True)
class Link:
    """How an encoder's output, any real number, stands for a target.

    Attributes:
        loss_name: "bce" or "mse".
        mean: of the target over the train rows.
        scale: its standard deviation there.
    """

    loss_name: str
    mean: float
    scale: float

    @classmethod
    def of(cls, loss: str, target: str, true: np.ndarray) -> "Link":
        """Choose for the train rows' target (N,).

        Raises:
            ValueError: if `loss` is "bce" and a value lies outside [0, 1].
        """
        is_share = bool(true.min() >= 0 and true.max() <= 1)
        if loss == "bce" and not is_share:
            raise ValueError(
                f"loss 'bce' needs a target in [0, 1], {target!r} goes from {true.min()} to "
                f"{true.max()}: use loss='mse'"
            )
        if loss == "auto":
            loss = "bce" if is_share and target.endswith("accuracy") else "mse"
        return cls(loss, float(true.mean()), float(true.std()))

    def labels(self, true: np.ndarray) -> Tensor:
        """What the loss compares outputs with, (N,), float32."""
        labels = torch.tensor(true, dtype=torch.float32)
        return labels if self.loss_name == "bce" else (labels - self.mean) / self.scale

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch."""
        if self.loss_name == "bce":
            return F.binary_cross_entropy_with_logits(outputs, labels)
        return F.mse_loss(outputs, labels)

    def predicted(self, outputs: Tensor) -> Tensor:
        """Outputs in the unit of the target."""
        if self.loss_name == "bce":
            return outputs.sigmoid()
        return outputs * self.scale + self.mean


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use so many threads of torch inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warmup_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate by step: a linear rise, then half a cosine down to 0."""
    rise = max(1, round(WARMUP * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return factor
