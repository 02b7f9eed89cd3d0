"""The predictors that benchmarks compare, with the settings they are trained with.

Settings were chosen on val splits; what was tried is in `LOG.md`.
"""

from collections.abc import Mapping
from typing import Any

from ..tasks.baselines.linear_probe import LinearProbe
from ..tasks.baselines.pooled_statistics import PooledStatisticsBoosting
from ..tasks.baselines.regressors import (
    Constant,
    HyperParameterBoosting,
    Predictor,
    StatisticsBoosting,
    StatisticsRidge,
)
from ..tasks.training.encoder_making import SNE_CONFIG, EncoderSpec
from ..tasks.training.encoder_training import EncoderRegressor
from ..tasks.training.settings import TrainingSettings

INR_SETTINGS: dict[str, Any] = {"select": "mse", "loss": "mse", "batch_size": 32, "patience": 1000}
ACROSS: dict[str, Any] = {"scaling": "fan_in"}
NU = 1.0  # weight of the regulariser, whose distance is in deviations of the frequency


def baselines() -> list[Predictor]:
    """No neural encoder: constant, hyper-parameters, weight statistics."""
    return [Constant(), HyperParameterBoosting(), StatisticsRidge(), StatisticsBoosting()]


def probes() -> list[Predictor]:
    """The linear probes of the Model Zoos paper."""
    return [LinearProbe("weights"), LinearProbe("statistics")]


def encoders(small: bool) -> list[Predictor]:
    """Learned encoders for one architecture; cheap ones get more epochs."""
    epochs = 10 if small else 30
    return [
        trained("flat MLP", "flat-mlp", lr=1e-3, epochs=2 * epochs),
        trained("statistics MLP", "statistics-mlp", lr=1e-3, epochs=2 * epochs),
        trained("DeepSets", "deepsets", lr=1e-2, epochs=2 * epochs),
        trained("NFN-HNP", "nfn-hnp", lr=3e-3, epochs=2 * epochs),
        trained("NFN-NP", "nfn-np", lr=3e-3, epochs=2 * epochs),
        trained("neural graph", "neural-graph", lr=6e-3, epochs=2 * epochs),
        trained("SNE", "sne", SNE_CONFIG, epochs=epochs),
    ]


def crossing(small: bool) -> list[Predictor]:
    """What is defined for any architecture."""
    epochs = 10 if small else 30
    return [
        Constant(),
        HyperParameterBoosting(),
        PooledStatisticsBoosting(),
        trained("padded MLP", "padded-mlp", lr=1e-3, epochs=2 * epochs, **ACROSS),
        trained("DeepSets", "deepsets", lr=1e-2, epochs=2 * epochs, **ACROSS),
        trained("neural graph", "neural-graph", lr=6e-3, epochs=2 * epochs, **ACROSS),
        trained("SNE", "sne", SNE_CONFIG, epochs=epochs, **ACROSS),
    ]


def frequency_predictors(small: bool) -> list[Predictor]:
    """SNE and its ablations beside what else reads an INR's weights.

    A chunk of SNE is what one unit of a 1-32-32-1 INR takes in. Without encodings it is therefore
    blind to every reordering, and the regulariser would be 0: these ablations train without.
    """
    common = INR_SETTINGS | {"epochs": 50 if small else 100}
    plain = common | {"lr": 1e-2}
    regular, bare = plain | {"invariance": NU}, SNE_CONFIG | {"positions": "none"}
    wrong = regular | {"permutations": "uncoupled"}
    return [
        Constant(),
        StatisticsBoosting(),
        LinearProbe("weights"),
        LinearProbe("statistics"),
        trained("SNE", "sne", SNE_CONFIG, **regular),
        trained("SNE without regulariser", "sne", SNE_CONFIG, **plain),
        trained("SNE, wrong permutations", "sne", SNE_CONFIG, **wrong),
        trained("SNE without encodings", "sne", bare, **plain),
        trained("SNE without encodings and hierarchy", "sne", bare | {"hierarchy": False}, **plain),
        trained("flat MLP", "flat-mlp", lr=1e-3, **common),
        trained("statistics MLP", "statistics-mlp", lr=1e-3, **common),
        trained("DeepSets", "deepsets", lr=1e-2, **common),
        trained("DWSNet", "dwsnet", lr=3e-3, **common),
        trained("NFT", "nft", {"blocks": 1}, **plain | {"epochs": 25 if small else 100}),
    ]


def trained(
    name: str, encoder: str, options: Mapping[str, Any] | None = None, **settings: Any
) -> EncoderRegressor:
    """An encoder with its settings; no bar of its own beside the benchmark's."""
    spec = EncoderSpec(encoder, options or {})
    return EncoderRegressor(name, spec, TrainingSettings(**{"progress": False} | settings))
