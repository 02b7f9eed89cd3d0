"""Layer sets: flat weights as sets of tokens, by the tokenizer of one's encoder.

- `Chunks`: tensors cut into chunks (SNE).
- `Neurons`: one token per output neuron (hyper-representations).
- `RowChunks`: output neurons cut into tokens, with positions (SANE).
- `Windows`: contiguous runs of the tokens of any of them.
"""

from .chunks import Chunks
from .neurons import Neurons, RowChunks
from .tokenizers import Tokenizer
from .windows import Windows

LayerSets = Chunks  # the tokenizer of a dataset in format "layer_sets"

__all__ = ["Chunks", "LayerSets", "Neurons", "RowChunks", "Tokenizer", "Windows"]
