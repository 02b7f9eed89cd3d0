"""Predictors that the benchmarks compare, with their training settings.

Settings were chosen on val splits; `LOG.md` lists what was tried. Those of DNG (directed neural
graph), ScaleGMN (scale-equivariant graph metanetwork), NFT (neural functional transformer), the
hyper-representation and the classifiers of INRs are first choices without a search. ProbeStatistics
reads what means the same in all zoos of a benchmark: classes not across image sets, weight
statistics not across architectures. Our SNE learns for three times the epochs of the paper's, from
networks whose hidden units are reordered in every step. SNE is the set-based neural network
encoder, NFN a neural functional network, INR an implicit neural representation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..tasks.autoencoding.representation_probe import HyperRepresentationProbe
from ..tasks.baselines.linear_probe import LinearProbe
from ..tasks.baselines.pooled_statistics import PooledStatisticsBoosting
from ..tasks.baselines.regressors import (
    Constant,
    HyperParameterBoosting,
    Predictor,
    StatisticsBoosting,
    StatisticsRidge,
    ValAccuracy,
)
from ..tasks.prediction.trained import ENCODER_SETTINGS
from ..tasks.training.encoder_making import EncoderSpec
from ..tasks.training.encoder_regressor import EncoderRegressor
from ..tasks.training.settings import TrainingSettings
from .probes import REPRESENTATION_EPOCHS, probe_settings

ACROSS: dict[str, Any] = {"scaling": "fan_in"}
EPOCHS = {"small": 10, "medium": 10, "full": 30}
"""Epochs of costly encoders."""
PROBING_EPOCHS = {"small": 10, "medium": 16, "full": 40}


def baselines() -> list[Predictor]:
    """Predictors without a neural encoder: constant, hyper-parameters, weight statistics."""
    return [Constant(), HyperParameterBoosting(), StatisticsRidge(), StatisticsBoosting()]


def oracles() -> list[Predictor]:
    """The oracle for test accuracy, which ran the networks on labelled images."""
    return [ValAccuracy()]


def probes() -> list[Predictor]:
    """The linear probes of the Model Zoos paper."""
    return [LinearProbe("weights"), LinearProbe("statistics")]


def encoders(size: str, reads_classes: bool = True) -> list[Predictor]:
    """Learned encoders for one architecture; cheap ones get more epochs.

    Args:
        size: "small", "medium" or "full".
        reads_classes: option of ProbeStatistics.
    """
    epochs = EPOCHS[size]
    return [
        trained("flat MLP", "flat-mlp", lr=1e-3, epochs=2 * epochs),
        trained("statistics MLP", "statistics-mlp", lr=1e-3, epochs=2 * epochs),
        trained("DeepSets", "deepsets", lr=1e-2, epochs=2 * epochs),
        trained("NFN-HNP", "nfn-hnp", lr=3e-3, epochs=2 * epochs),
        trained("NFN-NP", "nfn-np", lr=3e-3, epochs=2 * epochs),
        trained("neural graph", "neural-graph", lr=6e-3, epochs=2 * epochs),
        trained("DNG", "dng", lr=3e-3, epochs=2 * epochs),
        trained("ScaleGMN", "scale-gmn", lr=3e-3, epochs=epochs),
        trained("NFT", "nft", {"blocks": 1}, lr=3e-3, epochs=epochs),
        HyperRepresentationProbe(probe_settings(REPRESENTATION_EPOCHS[size], progress=False)),
        *both_sne(3 * epochs, epochs, paper_options(size)),
        *probing(size, reads_classes=reads_classes),
    ]


def both_sne(
    epochs: int, paper_epochs: int, options: Mapping[str, Any], **settings: Any
) -> list[Predictor]:
    """Our SNE and the paper's, with the settings of `weightzoo train` but for their epochs.

    Args:
        epochs: epochs of ours.
        paper_epochs: epochs of the paper's.
        options: arguments of the paper's encoder.
        **settings: fields of `TrainingSettings` that differ.
    """
    ours = ENCODER_SETTINGS["sne"] | {"epochs": epochs} | settings
    paper = ENCODER_SETTINGS["sne-paper"] | {"epochs": paper_epochs} | settings
    return [
        trained("SNE", "sne", **ours),
        trained("SNE, paper", "sne-paper", options, **paper),
    ]


def paper_size(size: str) -> dict[str, Any]:
    """Size of the paper's SNE: reduced in the small and medium variants, a fifth of the time."""
    return {} if size == "full" else {"width": 16, "heads": 1, "blocks": 1}


def paper_options(size: str) -> dict[str, Any]:
    """Options of the paper's SNE for networks with convolutions.

    Chunks of eight kernels hold the weights of one unit of the second layer of CNN-s, as the paper
    asks for; it does not print its chunk sizes.
    """
    return {"chunk_size": 8} | paper_size(size)


def probing(size: str, **readings: Any) -> list[Predictor]:
    """Encoders that run the networks on probes; frozen random probes are a control.

    Args:
        size: "small" with half as many probes, "medium" or "full".
        **readings: options of ProbeStatistics.
    """
    common = {"lr": 2e-3, "batch_size": 32, "epochs": PROBING_EPOCHS[size]}
    options: dict[str, Any] = {"probes": 32 if size == "small" else 64}
    random = options | {"probe_kind": "random"}
    own = options | readings
    return [
        trained("ProbeGen", "probegen", options, **common),
        trained("ProbeGen, random probes", "probegen", random, **common),
        trained("HiddenProbe", "hidden-probe", options, **common),
        trained("ProbeStatistics", "probe-statistics", own, **common),
    ]


def crossing(size: str) -> list[Predictor]:
    """Predictors that are defined for any architecture."""
    epochs = EPOCHS[size]
    return [
        Constant(),
        HyperParameterBoosting(),
        PooledStatisticsBoosting(),
        trained("padded MLP", "padded-mlp", lr=1e-3, epochs=2 * epochs, **ACROSS),
        trained("DeepSets", "deepsets", lr=1e-2, epochs=2 * epochs, **ACROSS),
        trained("neural graph", "neural-graph", lr=6e-3, epochs=2 * epochs, **ACROSS),
        trained("DNG", "dng", lr=3e-3, epochs=2 * epochs, **ACROSS),
        trained("ScaleGMN", "scale-gmn", lr=3e-3, epochs=epochs),
        *both_sne(3 * epochs, epochs, paper_options(size), **ACROSS),
        *probing(size, reads_weights=False),
        *oracles(),
    ]


def own_encoders(names: Sequence[str], size: str, **settings: Any) -> list[Predictor]:
    """Encoders of users, with as many epochs as the cheap encoders get.

    Args:
        names: names of encoders, or "package.module:Class"; also their names in the tables.
        size: "small", "medium" or "full".
        **settings: fields of `TrainingSettings` that differ.
    """
    common = {"lr": 1e-3, "epochs": 2 * EPOCHS[size]} | settings
    return [trained(name, name, **common) for name in names]


def trained(
    name: str, encoder: str, options: Mapping[str, Any] | None = None, **settings: Any
) -> EncoderRegressor:
    """An encoder with its training settings, without a progress bar of its own.

    Args:
        name: name in the tables.
        encoder: name of the encoder in the registry.
        options: arguments of the encoder.
        **settings: fields of `TrainingSettings`.
    """
    spec = EncoderSpec(encoder, options or {})
    return EncoderRegressor(name, spec, TrainingSettings(**{"progress": False} | settings))
