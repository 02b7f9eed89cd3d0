"""Tasks on zoos, built on loaders and encoders: training, prediction, generation, inspection."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .autoencoding.hyper_representation import (
        train_hyper_representation as train_hyper_representation,
    )
    from .autoencoding.sane import train_sane as train_sane
    from .flow_matching.flow_training import train_flow_matching as train_flow_matching
    from .generation.generated_zoo import generate as generate
    from .prediction.property_prediction import predict_property as predict_property
    from .prediction.property_report import PropertyReport as PropertyReport
    from .pretrained import from_pretrained as from_pretrained
    from .pretrained import push_to_hub as push_to_hub
    from .pretrained import save_pretrained as save_pretrained
    from .scoring.evaluator import Evaluator as Evaluator
    from .training.encoder_making import EncoderSpec as EncoderSpec
    from .training.encoder_regressor import EncoderRegressor as EncoderRegressor
    from .training.encoder_regressor import train_encoder as train_encoder
    from .training.property_predictor import PropertyPredictor as PropertyPredictor
    from .training.settings import TrainingSettings as TrainingSettings

__all__ = [
    "EncoderRegressor",
    "EncoderSpec",
    "Evaluator",
    "PropertyPredictor",
    "PropertyReport",
    "TrainingSettings",
    "from_pretrained",
    "generate",
    "predict_property",
    "push_to_hub",
    "save_pretrained",
    "train_encoder",
    "train_flow_matching",
    "train_hyper_representation",
    "train_sane",
]

_HOMES = {
    "EncoderRegressor": "training.encoder_regressor",
    "EncoderSpec": "training.encoder_making",
    "Evaluator": "scoring.evaluator",
    "PropertyPredictor": "training.property_predictor",
    "PropertyReport": "prediction.property_report",
    "TrainingSettings": "training.settings",
    "from_pretrained": "pretrained",
    "generate": "generation.generated_zoo",
    "predict_property": "prediction.property_prediction",
    "push_to_hub": "pretrained",
    "save_pretrained": "pretrained",
    "train_encoder": "training.encoder_regressor",
    "train_flow_matching": "flow_matching.flow_training",
    "train_hyper_representation": "autoencoding.hyper_representation",
    "train_sane": "autoencoding.sane",
}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use, so that commands start quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names, also those that were not imported yet."""
    return sorted({*globals(), *__all__})
