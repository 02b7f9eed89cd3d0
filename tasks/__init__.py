"""What one does with a zoo: joins loaders and encoders."""

from .encoder_making import EncoderSpec
from .encoder_training import EncoderRegressor, train_encoder
from .evaluator import Evaluator
from .pretrained import from_pretrained, push_to_hub, save_pretrained
from .property_prediction import predict_property
from .property_predictor import PropertyPredictor
from .property_report import PropertyReport
from .training_settings import TrainingSettings

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
