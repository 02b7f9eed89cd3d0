"""Training of autoencoders of weights, for any kind of tokens.

Sources: hyper-representations, arXiv 2110.15288 and 2209.14733, and the behavioural loss of arXiv
2503.17138: L = gamma L_contrast + (1 - gamma) (s L_structure + (1 - s) L_behaviour).

Shape letters: B models in the batch, N rows, D length of the flat weight vector.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...encoders.losses import CONTRASTS, REDUCTIONS, ProjectionHead, contrast_loss
from ...loaders import HiddenPermutations, LayerStandardization, ZooDataset
from ...zoos.errors import DivergedError
from ...zoos.images.catalog import Images, load_images
from ...zoos.provenance import package_version
from ..training.checkpoints import TrainingCheckpoint, zoo_identity
from ..training.settings import check_least, check_positive, warmup_cosine
from .behaviour import behaviour_loss
from .canonical import Canonical

VIEWS = ("canonical", "permuted")
KEPT = ("best", "last")
LEAST_ROWS_PER_BATCH = 2  # nt_xent compares with another model


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

    Attributes:
        settings: training settings.
        module: encoder and decoder.
        zoos: train and val rows.
        rows: number of train rows, N.
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
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.steps_per_epoch = math.ceil(rows / settings.batch_size)
        self.steps = settings.epochs * self.steps_per_epoch
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, warmup_cosine(self.steps))
        self.history = list[dict[str, float]]()
        self.kept_epoch: int | None = None
        self.kept: dict[str, Tensor] = {}

    def losses(self, rows: Tensor) -> dict[str, Tensor]:
        """Losses by name of a batch of row numbers (B,); "loss" is the one to minimise.

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
            checkpoint: checkpoint to write after every epoch; None writes none.

        Returns:
            Mean losses and val R2 by epoch.

        Raises:
            DivergedError: if training diverged in its first epoch. After a later divergence the
                weights kept so far are the result, with a note.
            ValueError: if the checkpoint belongs to another training run.
        """
        identity = {} if checkpoint is None else self.identity()
        if checkpoint is not None and (state := checkpoint.read(identity)):
            self.load_state_dict(state)
        done = len(self.history) * self.steps_per_epoch
        quiet = not self.settings.progress
        with tqdm(total=self.steps, initial=done, unit="step", disable=quiet, leave=False) as bar:
            while len(self.history) < self.settings.epochs:
                try:
                    self._next(bar)
                except DivergedError as error:
                    if self.kept_epoch is None:
                        raise
                    self.note = f"{error}; the weights of epoch {self.kept_epoch} are kept"
                    break
                if checkpoint is not None:
                    checkpoint.write(identity, self.state_dict())
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
        """The complete state of the training after an epoch."""
        return {
            "module": self.module.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "kept": self.kept,
            "kept_epoch": self.kept_epoch,
            "history": self.history,
            "random": torch.random.get_rng_state(),
            "generators": {name: one.get_state() for name, one in self.generators().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        for name in ("module", "head", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.kept, self.kept_epoch = state["kept"], state["kept_epoch"]
        self.history = list(state["history"])
        torch.random.set_rng_state(state["random"])
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

    def step(self, rows: Tensor) -> dict[str, float]:
        """Take one step on a batch of row numbers (B,) and return its losses."""
        parts = self.losses(rows)
        self.optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimizer.step()
        self.schedule.step()
        return {name: float(value.detach()) for name, value in parts.items()}

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
            one, other = self.head(latent).chunk(2)
            parts["contrast"] = contrast_loss(one, other, settings.contrast, settings.temperature)
            loss = settings.gamma * parts["contrast"] + (1 - settings.gamma) * loss
        return {"loss": loss} | parts

    def _epoch(self, bar: Any) -> dict[str, float]:
        """Train for one pass in random order and return the mean losses."""
        self.module.train()
        order = torch.randperm(self.rows, generator=self.generator, device=self.device)
        batches = order.split(self.settings.batch_size)
        counted = [rows for rows in batches if len(rows) >= LEAST_ROWS_PER_BATCH]
        totals: dict[str, float] = {}
        for rows in counted:
            for name, value in self.step(rows).items():
                totals[name] = totals.get(name, 0.0) + value / len(counted)
            bar.update()
        return totals


class ModelViews:
    """Views of whole models in memory.

    Attributes:
        weights: canonical and standardised weights, (N, D), on the device.
    """

    def __init__(
        self, canonical: Canonical, weights: Tensor, settings: AutoencoderSettings
    ) -> None:
        """Standardise the weights and copy them to the device.

        Args:
            canonical: alignment and standardisation of the rows.
            weights: canonical weights in their own units, (N, D).
            settings: training settings.
        """
        self.weights = canonical.standardization.apply(weights).to(settings.device)
        self._kinds = settings.views
        self._permutations = None
        if "permuted" in settings.views:
            self._permutations = HiddenPermutations.of(canonical.architecture)

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the first view of every row, then the second, (2 B, D).

        Args:
            rows: row numbers, (B,).
            generator: random generator of the permutations.
        """
        return torch.cat([self._view(self.weights[rows], kind, generator) for kind in self._kinds])

    def _view(self, weights: Tensor, kind: str, generator: torch.Generator) -> Tensor:
        if kind == "canonical" or self._permutations is None:
            return weights
        drawn = self._permutations.random_permutations(generator, len(weights))
        return self._permutations.apply(weights, drawn)


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
