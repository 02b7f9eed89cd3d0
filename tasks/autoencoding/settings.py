"""Settings of the training of an autoencoder."""

from dataclasses import dataclass, field
from typing import Any

from ...encoders.losses import CONTRASTS, REDUCTIONS
from ..training.settings import check_choices, check_least, check_positive

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
        check_choices(self, {"contrast": CONTRASTS, "keep": KEPT, "reduction": REDUCTIONS})
        for view in self.views:
            if view not in VIEWS:
                raise ValueError(f"views must be one of {VIEWS}, got {view!r}")
        shares = (self.gamma, self.erasing, self.structure)
        if min(shares) < 0 or max(shares) > 1 or self.noise < 0:
            raise ValueError(
                "gamma, erasing and structure must lie in [0, 1] and noise must be at least 0, got "
                f"{self.gamma!r}, {self.erasing!r}, {self.structure!r} and {self.noise!r}"
            )
        least = {"epochs": 1, "threads": 1, "queries": 1, "batch_size": LEAST_ROWS_PER_BATCH}
        check_least(self, least)
        check_positive(self, "lr")
