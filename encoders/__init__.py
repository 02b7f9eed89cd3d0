"""Reference encoders of weights; they know tensors and a layer table, never a file."""

from .sne import SNE
from .statistics import layer_statistics

__all__ = ["SNE", "layer_statistics"]
