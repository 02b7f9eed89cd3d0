"""Reference encoders of weights, which read tensors and a layer table, never a file.

SNE is the set-based neural network encoder, SANE the sequential autoencoder for neural embeddings.
"""

from .hyper_representation import HyperRepresentation
from .losses import half_squared_distance
from .registry import ENCODERS, encoder_entry, encoder_names, register_encoder
from .sane import SANE
from .sne import SNE
from .statistics import layer_statistics

__all__ = [
    "ENCODERS",
    "SANE",
    "SNE",
    "HyperRepresentation",
    "encoder_entry",
    "encoder_names",
    "half_squared_distance",
    "layer_statistics",
    "register_encoder",
]
