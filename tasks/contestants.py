"""The predictors that benchmarks compare, with the settings they are trained with.

Settings were chosen on val splits; what was tried is in `LOG.md`.
"""

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
INR_SNE_CONFIG: dict[str, Any] = {"width": 16, "heads": 1, "blocks": 1, "chunk_size": 32}
INR_SETTINGS: dict[str, Any] = {"select": "mse", "loss": "mse", "patience": 50}
ACROSS: dict[str, Any] = {"scaling": "fan_in"}


def baselines() -> list[Predictor]:
    """No neural encoder: constant, hyper-parameters, weight statistics."""
    return [Constant(), HyperParameterBoosting(), StatisticsRidge(), StatisticsBoosting()]


def probes() -> list[Predictor]:
    """The linear probes of the Model Zoos paper."""
    return [LinearProbe("weights"), LinearProbe("statistics")]


def encoders(**settings: Any) -> list[Predictor]:
    """Learned encoders for one architecture."""
    return [
        trained("flat MLP", EncoderSpec("flat-mlp"), lr=1e-3, **settings),
        trained(
            "statistics MLP", EncoderSpec("statistics-mlp"), lr=1e-3, scaling="none", **settings
        ),
        trained("DeepSets", EncoderSpec("deepsets"), lr=3e-3, **settings),
        trained("SNE", EncoderSpec("sne", SNE_CONFIG), **settings),
    ]


def crossing(**settings: Any) -> list[Predictor]:
    """What is defined for any architecture."""
    return [
        Constant(),
        HyperParameterBoosting(),
        PooledStatisticsBoosting(),
        trained("padded MLP", EncoderSpec("padded-mlp"), lr=1e-3, **ACROSS, **settings),
        trained("DeepSets", EncoderSpec("deepsets"), lr=3e-3, **ACROSS, **settings),
        trained("SNE", EncoderSpec("sne", SNE_CONFIG), **ACROSS, **settings),
    ]


def frequency_contestants(small: bool) -> list[Predictor]:
    """SNE and its ablations beside what else reads an INR's weights."""
    epochs = {"epochs": 60 if small else 200}
    common = INR_SETTINGS | epochs
    sne = EncoderSpec("sne", INR_SNE_CONFIG)
    blind = EncoderSpec("sne", INR_SNE_CONFIG | {"positions": "none"})
    return [
        Constant(),
        StatisticsBoosting(),
        LinearProbe("weights"),
        trained("flat MLP", EncoderSpec("flat-mlp"), lr=1e-3, **common),
        trained("DeepSets", EncoderSpec("deepsets"), lr=3e-3, **common),
        trained("SNE", sne, invariance=1.0, **common),
        trained("SNE without regulariser", sne, **common),
        trained("SNE, wrong permutations", sne, invariance=1.0, permutations="uncoupled", **common),
        trained("SNE without encodings", blind, invariance=1.0, **common),
    ]


def trained(name: str, encoder: Any, **settings: Any) -> EncoderRegressor:
    """An encoder with its settings; no bar of its own beside the benchmark's."""
    return EncoderRegressor(name, encoder, TrainingSettings(**{"progress": False} | settings))
