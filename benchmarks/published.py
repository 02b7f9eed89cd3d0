"""Published figures for comparison, each with its source.

None was measured on the populations that a benchmark builds: they show what others report, not
what to beat. Numbers that exist only in images of tables are left out. NFN: neural functional
network; SNE: set-based neural network encoder; INR: implicit neural representation.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """One number of a paper.

    Attributes:
        method: published method.
        value: published number.
        metric: metric of the number, "τ" (Kendall's rank correlation) or "MSE".
        population: models that the number was measured on.
        source: paper and table that print the number.
        ours: name of the most similar predictor here, or "".
    """

    method: str
    value: float
    metric: str
    population: str
    source: str
    ours: str = ""


_SNE = "SNE, arXiv:2305.16625, appendix E.1"
_NFN = "NFN, arXiv:2302.14040"
_SINES = "sine INRs of Navon et al. 2023"
_GS = "small CNN zoo, CIFAR10-GS, last checkpoints"
_SVHN = "small CNN zoo, SVHN-GS, last checkpoints"


def _tau(method: str, value: float, population: str, source: str, ours: str) -> PublishedFigure:
    return PublishedFigure(
        method=method, value=value, metric="τ", population=population, source=source, ours=ours
    )


def _mse(method: str, value: float, source: str, ours: str) -> PublishedFigure:
    return PublishedFigure(
        method=method, value=value, metric="MSE", population=_SINES, source=source, ours=ours
    )


def _transfer(source: str, taus: tuple[float, ...]) -> list[PublishedFigure]:
    """One row of the transfer table of Unterthiner et al."""
    names = ("MNIST", "FMNIST", "CIFAR10", "SVHN")
    return [
        _tau(
            f"statistics + boosting, {source} to {name}",
            tau,
            "small CNN zoo",
            "Unterthiner et al. 2020, arXiv:2002.11448, table 3, as summarised by others",
            "statistics + boosting",
        )
        for name, tau in zip(names, taus, strict=True)
    ]


PUBLISHED: dict[str, list[PublishedFigure]] = {
    "within-zoo": [
        _tau("StatNN", 0.915, _GS, _NFN, "statistics + boosting"),
        _tau("NFN-NP", 0.922, _GS, _NFN, "NFN-NP"),
        _tau("NFN-HNP", 0.934, _GS, _NFN, "NFN-HNP"),
        _tau(
            "SNE, an older draft",
            0.928,
            _GS,
            "quoted by a review of arXiv:2305.16625",
            "SNE, paper",
        ),
        _tau("StatNN", 0.843, _SVHN, _NFN, "statistics + boosting"),
        _tau("NFN-NP", 0.856, _SVHN, _NFN, "NFN-NP"),
        _tau("NFN-HNP", 0.931, _SVHN, _NFN, "NFN-HNP"),
    ],
    "cross-dataset": [
        *_transfer("MNIST", (0.92, 0.77, 0.80, 0.73)),
        *_transfer("FMNIST", (0.70, 0.92, 0.77, 0.65)),
        *_transfer("CIFAR10", (0.68, 0.68, 0.93, 0.75)),
        *_transfer("SVHN", (0.60, 0.63, 0.74, 0.85)),
    ],
    "cross-architecture": [],
    "inr-frequency": [
        _mse("chance", 7.521, "variance of U(0.5, 10), by arithmetic", "constant"),
        _mse("SNE", 0.098, _SNE, "SNE, paper"),
        _mse("SNE without the regulariser", 0.160, _SNE, "SNE, paper, without regulariser"),
        _mse(
            "SNE without positional and hierarchical encoding",
            7.452,
            _SNE,
            "SNE, paper, without encodings and hierarchy",
        ),
    ],
    "data-efficiency": [],
}
UNPRINTED = {
    "cross-architecture": "The tables of SNE (arXiv:2305.16625, tables 2 to 4) are images without "
    "text; the text says that SNE is best by a large margin and that DeepSets fails on ViTs.",
    "data-efficiency": "SNE (arXiv:2305.16625) shows a figure without numbers, in which its error "
    "is lowest at every share.",
}
