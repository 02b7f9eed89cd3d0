"""Settings of `analyse_zoo`."""

from dataclasses import asdict, dataclass
from typing import Any

from .measures import chosen_families


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings:
    """Measures of an analysis and their precision.

    Attributes:
        measures: names of the families; None takes all that the zoo has what it needs for.
        epochs: epochs at which networks are run; None takes all. Paths and spectra are measured at
            all epochs.
        images: name of the image set or signal set; None takes the one that the zoo records.
        image_count: number of train images, or points, that losses are computed on, the same for
            all models; twice as many take twice the time. Agreement takes up to four times as
            many val images.
        steps: Hessian-vector products for the eigenvalues.
        probes: Hessian-vector products for the trace.
        fisher_probes: backward passes for the Fisher trace.
        batch: number of images m of a batch of m-sharpness.
        radius: radius of m-sharpness, in units of the weights.
        adaptive_radius: radius of adaptive sharpness, relative to the weights.
        points: points on a line of a barrier, both ends included.
        seed: seed of images, probes and pairs of models.
    """

    measures: tuple[str, ...] | None = None
    epochs: tuple[int, ...] | None = None
    images: str | None = None
    image_count: int = 64
    steps: int = 6
    probes: int = 2
    fisher_probes: int = 4
    batch: int = 32
    radius: float = 0.05
    adaptive_radius: float = 0.5
    points: int = 7
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if a measure is unknown, or a number is too small.
        """
        chosen_families(self.measures)
        least = {"image_count": 2, "steps": 2, "probes": 1, "fisher_probes": 1, "batch": 1}
        for name, bound in (least | {"points": 3}).items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}, got {getattr(self, name)!r}")
        for name in ("radius", "adaptive_radius"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
