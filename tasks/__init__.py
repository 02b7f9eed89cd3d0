"""What one does with a zoo: joins loaders and encoders."""

from .property_prediction import predict_property
from .property_report import PropertyReport

__all__ = ["PropertyReport", "predict_property"]
