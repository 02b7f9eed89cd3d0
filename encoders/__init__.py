"""Reference encoders of weights; they know tensors and a layer table, never a file."""

from .invariance import logit_invariance
from .registry import ENCODERS, encoder_entry
from .sne import SNE
from .statistics import layer_statistics

__all__ = ["ENCODERS", "SNE", "encoder_entry", "layer_statistics", "logit_invariance"]
