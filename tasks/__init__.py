"""What one does with a zoo: joins loaders and encoders."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .encoder_making import EncoderSpec as EncoderSpec
    from .encoder_training import EncoderRegressor as EncoderRegressor
    from .encoder_training import train_encoder as train_encoder
    from .evaluator import Evaluator as Evaluator
    from .pretrained import from_pretrained as from_pretrained
    from .pretrained import push_to_hub as push_to_hub
    from .pretrained import save_pretrained as save_pretrained
    from .property_prediction import predict_property as predict_property
    from .property_predictor import PropertyPredictor as PropertyPredictor
    from .property_report import PropertyReport as PropertyReport
    from .training_settings import TrainingSettings as TrainingSettings

__all__ = [
    "EncoderRegressor",
    "EncoderSpec",
    "Evaluator",
    "PropertyPredictor",
    "PropertyReport",
    "TrainingSettings",
    "from_pretrained",
    "predict_property",
    "push_to_hub",
    "save_pretrained",
    "train_encoder",
]

_HOMES = {
    "EncoderRegressor": "encoder_training",
    "EncoderSpec": "encoder_making",
    "Evaluator": "evaluator",
    "PropertyPredictor": "property_predictor",
    "PropertyReport": "property_report",
    "TrainingSettings": "training_settings",
    "from_pretrained": "pretrained",
    "predict_property": "property_prediction",
    "push_to_hub": "pretrained",
    "save_pretrained": "pretrained",
    "train_encoder": "encoder_training",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the commands here are to start quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
