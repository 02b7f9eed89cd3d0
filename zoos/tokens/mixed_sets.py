"""Layer sets of several architectures as one batch, padded to the largest.

Shape letters: B models of one set, or of all sets; N tokens and S values per token of one set, or
of the largest set.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

PER_MODEL = "values"  # tensor with one entry per model; the others are equal for all models
PER_VALUE = ("values", "mask")


def pad_layer_sets(sets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join layer sets of different architectures.

    Padding costs memory. Use `MixedLoader` instead if a batch may hold one architecture.

    Args:
        sets: tensors that tokenizers return, one mapping per architecture: `values` (B, N, S), and
            tensors that are equal for all models, `mask` (N, S), `kind` (N,), `position` (N, 3) and
            so on. B, N and S may differ by set.

    Returns:
        Tensors of the same names for all models, in order: `values` and `mask` (B, N, S), others
        (B, N) or (B, N, 3), and `architecture` (B,), int64, the index of the model's set. Padding
        is zero, and false in `mask`.

    Raises:
        ValueError: if there is no set, or two have different names.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import Chunks, pad_layer_sets
        >>> train = load_zoo(ZOO, split="train")
        >>> sets = [Chunks(train.layer_table, 8)(train.weights([row])) for row in (0, 1)]
        >>> pad_layer_sets(sets)["architecture"].tolist()
        [0, 1]
    """
    if not sets or any(set(one) != set(sets[0]) for one in sets):
        names = [sorted(one) for one in sets]
        raise ValueError(f"sets must be one or more, all with the same names, got {names}")
    tokens = max(one[PER_MODEL].shape[1] for one in sets)
    size = max(one[PER_MODEL].shape[2] for one in sets)
    counts = torch.tensor([len(one[PER_MODEL]) for one in sets])
    joined = {
        name: torch.cat([_padded(name, one, tokens, size) for one in sets]) for name in sets[0]
    }
    number = torch.arange(len(sets)).repeat_interleave(counts)
    return joined | {"architecture": number.to(joined[PER_MODEL].device)}


def _padded(name: str, one: Mapping[str, Tensor], tokens: int, size: int) -> Tensor:
    """A tensor of all models of a set, padded to (B, tokens, ...)."""
    tensor = (
        one[name] if name == PER_MODEL else one[name].expand(len(one[PER_MODEL]), *one[name].shape)
    )
    behind = [0, size - tensor.shape[2] if name in PER_VALUE else 0] if tensor.ndim == 3 else []
    return F.pad(tensor, [*behind, 0, tokens - tensor.shape[1]])
