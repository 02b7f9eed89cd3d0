"""Settings of a flow on weights."""

from dataclasses import dataclass

from ..autoencoding.learnable_rows import TOP_SHARE
from ..autoencoding.settings import KEPT
from ..training.settings import check_choices, check_least, check_positive


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Architecture, rows and training settings of a flow.

    Attributes:
        widths: width of every hidden layer of the velocity field.
        dropout: dropout rate of the velocity field in training.
        components: largest number of principal components that the flow is learned on; there are
            at most as many as train rows less one; 0 learns on all weights. Networks drawn from
            components lie in the span of the train networks. Of 70 CNN-s, a flow on all weights
            drew networks at chance level, one on 32 components networks of accuracy 0.43.
        aligned: whether every model is first aligned to one reference model.
        top: share of the train and of the val rows that are taken, the best by val accuracy.
        steps: number of integration steps of a draw.
        averaging: decay of the moving average of the field's weights over training steps; the
            average is kept.
        epochs: passes over the train rows.
        batch_size: rows per step.
        lr: peak learning rate of AdamW; it rises linearly, then falls as a cosine to 0.
        weight_decay: weight decay of AdamW.
        clip: largest norm of the gradient.
        keep: epoch whose weights are kept: "best" by the loss on the val rows, or "last".
        device: training device; equal seeds give equal results on a CPU.
        threads: number of torch threads on the CPU.
        progress: whether to show progress on stderr.
    """

    widths: tuple[int, ...] = (512, 512)
    dropout: float = 0.0
    components: int = 32
    aligned: bool = True
    top: float = TOP_SHARE
    steps: int = 50
    averaging: float = 0.99
    epochs: int = 200
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 1e-5
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
        check_choices(self, {"keep": KEPT})
        if not self.widths or not all(isinstance(one, int) and one > 0 for one in self.widths):
            raise ValueError(
                f"widths must be whole numbers above 0, as in [512,512], got {list(self.widths)!r}"
            )
        for name in ("dropout", "averaging"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value!r}")
        if not 0 < self.top <= 1:
            raise ValueError(f"top must lie in (0, 1], got {self.top!r}")
        check_least(self, {"components": 0, "steps": 1, "epochs": 1, "batch_size": 1, "threads": 1})
        check_positive(self, "lr", "clip")
