"""Loaders of zoos: rows, state dicts, modules and layer sets, on the CPU or a device.

A layer set is the weights of a network as a set of tokens, with the layer of every token.
"""

from ..zoos.tokens.chunks import Chunks, LayerSets
from ..zoos.tokens.lora_sets import LoraSets
from ..zoos.tokens.mixed_sets import pad_layer_sets
from ..zoos.tokens.neurons import Neurons, RowChunks
from ..zoos.tokens.windows import Windows
from .batching.device import DeviceLoader
from .batching.mixed import MixedLoader
from .batching.order import BatchOrder, BlockShuffle
from .batching.window_reader import WindowReader
from .collections.mixed_zoo import MixedZoo
from .dataset.batch import Batch, Row
from .dataset.trajectories import Trajectories
from .load import ZooDataset, concatenate_zoos, load_zoo
from .transforms.alignment import align
from .transforms.augmentations import AdditiveNoise, Compose, Erasing, MultiplicativeNoise, Permute
from .transforms.permutations import HiddenPermutations
from .transforms.standardization import LayerStandardization
from .zoo_dict import ZooDict

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
    "LoraSets",
    "MixedLoader",
    "MixedZoo",
    "MultiplicativeNoise",
    "Neurons",
    "Permute",
    "Row",
    "RowChunks",
    "Trajectories",
    "WindowReader",
    "Windows",
    "ZooDataset",
    "ZooDict",
    "align",
    "concatenate_zoos",
    "load_zoo",
    "pad_layer_sets",
]
