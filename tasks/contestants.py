"""The predictors that benchmarks compare, with the settings they are trained with.

Settings were chosen on val splits; what was tried is in `LOG.md`.
"""

from collections.abc import Mapping
from typing import Any

from .encoder_making import EncoderSpec
from .encoder_training import EncoderRegressor
from .linear_probe import LinearProbe
from .pooled_statistics import PooledStatisticsBoosting
from .regressors import (
    Constant,
    HyperParameterBoosting,
    Predictor,
    StatisticsBoosting,
    StatisticsRidge,
)
from .training_settings import TrainingSettings

SNE_CONFIG: dict[str, Any] = {"width": 16, "heads": 1, "blocks": 1}
INR_SNE_CONFIG: dict[str, Any] = SNE_CONFIG | {"features": "scales"}
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
        trained("SNE", "sne", SNE_CONFIG, epochs=epochs, **ACROSS),
    ]


def frequency_contestants(small: bool) -> list[Predictor]:
    """SNE and its ablations beside what else reads an INR's weights."""
    common = INR_SETTINGS | {"epochs": 20 if small else 200}
    sne, regular = INR_SNE_CONFIG, common | {"lr": 1e-2, "invariance": NU}
    wrong = regular | {"permutations": "uncoupled"}
    return [
        Constant(),
        StatisticsBoosting(),
        LinearProbe("weights"),
        LinearProbe("statistics"),
        trained("SNE", "sne", sne, **regular),
        trained("SNE without regulariser", "sne", sne, **regular | {"invariance": 0.0}),
        trained("SNE, wrong permutations", "sne", sne, **wrong),
        trained("SNE without encodings", "sne", sne | {"positions": "none"}, **regular),
        trained("flat MLP", "flat-mlp", lr=1e-3, **common),
        trained("statistics MLP", "statistics-mlp", lr=1e-3, **common),
        trained("DeepSets", "deepsets", lr=1e-2, **common),
        trained("DWSNet", "dwsnet", lr=3e-3, **common),
    ]


def trained(
    name: str, encoder: str, options: Mapping[str, Any] | None = None, **settings: Any
) -> EncoderRegressor:
    """An encoder with its settings; no bar of its own beside the benchmark's."""
    spec = EncoderSpec(encoder, options or {})
    return EncoderRegressor(name, spec, TrainingSettings(**{"progress": False} | settings))
