"""Reads zoos: rows, state dicts, modules, layer sets; on the CPU or a device."""

from .alignment import align
from .augmentations import AdditiveNoise, Compose, Erasing, MultiplicativeNoise, Permute
from .batch import Batch, Row
from .chunks import Chunks, LayerSets
from .dataset import ZooDataset, concatenate_zoos, load_zoo
from .device import DeviceLoader
from .mixed import MixedLoader
from .mixed_sets import pad_layer_sets
from .neurons import Neurons, RowChunks
from .order import BatchOrder, BlockShuffle
from .permutations import HiddenPermutations
from .standardization import LayerStandardization
from .trajectories import Trajectories
from .window_reader import WindowReader
from .windows import Windows

__all__ = [
    "AdditiveNoise",
    "Batch",
    "BatchOrder",
    "BlockShuffle",
    "Chunks",
    "Compose",
    "DeviceLoader",
    "Erasing",
    "HiddenPermutations",
    "LayerSets",
    "LayerStandardization",
    "MixedLoader",
    "MultiplicativeNoise",
    "Neurons",
    "Permute",
    "Row",
    "RowChunks",
    "Trajectories",
    "WindowReader",
    "Windows",
    "ZooDataset",
    "align",
    "concatenate_zoos",
    "load_zoo",
    "pad_layer_sets",
]
