"""Predictors of the benchmarks on implicit neural representations (INRs), with their settings.

Settings of SNE, the set-based neural network encoder, were chosen on val splits; those of ScaleGMN
(scale-equivariant graph metanetwork), of the encoders that run networks and of the classifiers are
first choices without a search.
"""

from collections.abc import Mapping
from typing import Any

from ...tasks.baselines.linear_probe import LinearProbe
from ...tasks.baselines.regressors import Constant, Predictor, StatisticsBoosting
from ...tasks.baselines.rendered_images import RenderedImages
from ..predictors import both_sne, paper_size, trained

INR_SETTINGS: dict[str, Any] = {"select": "mse", "loss": "mse", "batch_size": 32, "patience": 1000}
FREQUENCY_EPOCHS = {"small": 50, "medium": 30, "full": 100}
INR_PASSES = {"small": 1, "medium": 3, "full": 8}
"""Factor of the epochs of classifiers of INRs."""
NU = 1.0  # weight of the regulariser, whose distance is in deviations of the frequency
COMPLETE = "SNE, paper"
CHUNK_SIZES = (4, 8, 16, 64, 1024)
"""Chunk sizes beside 32; the largest tensor of a 1-32-32-1 INR has 1,024 values."""


def frequency_predictors(size: str) -> list[Predictor]:
    """SNE, ablations of the paper's SNE, and other predictors that read the weights of an INR.

    A chunk of the paper's SNE holds the incoming weights of one unit of a 1-32-32-1 INR. Without
    positional encodings it is therefore invariant to every reordering of units and the regulariser
    is 0, so these ablations train without it.
    """
    common = INR_SETTINGS | {"epochs": FREQUENCY_EPOCHS[size]}
    plain = common | {"lr": 1e-2}
    regular = plain | {"invariance": NU}
    paper = paper_size(size)
    bare = paper | {"positions": "none"}
    flat = bare | {"hierarchy": False}
    return [
        Constant(),
        StatisticsBoosting(),
        LinearProbe("weights"),
        LinearProbe("statistics"),
        trained("SNE", "sne", **regular),
        trained("SNE, paper", "sne-paper", paper, **regular),
        trained("SNE, paper, without regulariser", "sne-paper", paper, **plain),
        trained(
            "SNE, paper, wrong permutations",
            "sne-paper",
            paper,
            **regular | {"permutations": "uncoupled"},
        ),
        trained("SNE, paper, without encodings", "sne-paper", bare, **plain),
        trained("SNE, paper, without encodings and hierarchy", "sne-paper", flat, **plain),
        trained("flat MLP", "flat-mlp", lr=1e-3, **common),
        trained("statistics MLP", "statistics-mlp", lr=1e-3, **common),
        trained("DeepSets", "deepsets", lr=1e-2, **common),
        trained("DWSNet", "dwsnet", lr=3e-3, **common),
        trained("NFT", "nft", {"blocks": 1}, **plain | {"epochs": 100 if size == "full" else 25}),
        trained("ScaleGMN", "scale-gmn", lr=3e-3, **common | {"epochs": common["epochs"] // 2}),
        trained("ProbeGen", "probegen", {"values": 1}, lr=1e-3, **common),
    ]


def inr_classifiers(size: str) -> list[Predictor]:
    """Predictors of the class of the image that an INR stores; cheap ones get more epochs.

    ProbeGen and HiddenProbe run the networks at learned points, and the ceiling at all of them.
    """
    factor = INR_PASSES[size]
    common: dict[str, Any] = {"batch_size": 32, "patience": 1000}

    def encoder(name: str, key: str, epochs: int, lr: float, **options: Any) -> Predictor:
        return trained(name, key, options, epochs=factor * epochs, lr=lr, **common)

    return [
        Constant(),
        StatisticsBoosting(),
        encoder("statistics MLP", "statistics-mlp", 60, 1e-3),
        encoder("flat MLP", "flat-mlp", 60, 1e-3),
        encoder("DWSNet", "dwsnet", 15, 3e-3),
        encoder("neural graph", "neural-graph", 12, 3e-3),
        encoder("DNG", "dng", 20, 3e-3),
        encoder("ScaleGMN", "scale-gmn", 12, 3e-3),
        encoder("NFT", "nft", 15, 3e-3, blocks=1),
        *both_sne(factor * 30, factor * 15, paper_size(size), **common),
        encoder("HiddenProbe", "hidden-probe", 15, 1e-3),
        encoder("ProbeGen", "probegen", 40, 1e-3, values=1),
        RenderedImages(),
    ]


def ablations(size: str) -> list[Predictor]:
    """The paper's SNE without one of its parts, and with chunks of other sizes.

    Source: Andreis et al. 2024, arXiv:2305.16625, tables 6 and 7, whose numbers are images. What
    their rows leave out is our reading: without set functions every element takes the mean of its
    set in place of attention; without positional and hierarchical encodings nothing is encoded,
    and the further row joins all chunks in one set. Both are invariant to reordered units, so that
    the regulariser is 0 and they train without it.

    Args:
        size: "small", "medium" or "full".
    """
    plain = INR_SETTINGS | {"epochs": FREQUENCY_EPOCHS[size], "lr": 1e-2}
    paper = paper_size(size)
    regular, bare = plain | {"invariance": NU}, {"positions": "none"}

    def without(part: str, options: Mapping[str, Any], nu: float = NU) -> Predictor:
        name = f"without {part}" if part else COMPLETE
        return trained(name, "sne-paper", paper | dict(options), **plain, invariance=nu)

    return [
        Constant(),
        without("", {}),
        without("layer level encoding", {"omit": ["level"]}),
        without("layer type encoding", {"omit": ["type"]}),
        without("set functions", {"heads": 0}),
        without("positional and hierarchical encodings", bare, 0.0),
        without("these encodings and hierarchy", bare | {"hierarchy": False}, 0.0),
        without("regulariser", {}, 0.0),
        *(
            trained(f"chunks of {count}", "sne-paper", paper | {"chunk_size": count}, **regular)
            for count in CHUNK_SIZES
        ),
    ]
