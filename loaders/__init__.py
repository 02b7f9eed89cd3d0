"""Reads zoos: rows, state dicts, modules, layer sets."""

from .batch import Batch, Row
from .dataset import ZooDataset, load_zoo
from .layer_sets import LayerSets

__all__ = ["Batch", "LayerSets", "Row", "ZooDataset", "load_zoo"]
