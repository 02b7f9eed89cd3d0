"""Scores of a language model: bits per byte and cloze accuracy, by domain.

Bits are measured on the bytes after the first `PREFIX` of a window, because routers look at these
to choose an expert. Cloze accuracy is the share of test windows whose own ending is more likely
than those of three other windows of the domain.

Shape letters: N windows, T bytes of a window.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

PREFIX, BITS = 32, 0.6931471805599453  # nats in a bit
CHOICES, ENDING = 4, 16  # of a cloze; bytes
Losses = dict[str, Tensor]  # (N, T - 1) by domain


def cloze_windows(windows_NT: Tensor) -> Tensor:
    """(N * CHOICES, T): every window with its own ending, then with those of others.

    Args:
        windows_NT: windows of one domain.
    """
    count = len(windows_NT)
    steps = [choice * max(1, count // CHOICES) for choice in range(CHOICES)]
    endings = torch.stack([windows_NT.roll(-step, 0)[:, -ENDING:] for step in steps], 1)
    starts = windows_NT[:, None, :-ENDING].expand(-1, CHOICES, -1)
    return torch.cat([starts, endings], 2).flatten(0, 1)


def cloze_accuracies(losses: Losses) -> dict[str, float]:
    """Share of windows whose own ending has the lowest loss, by domain, and their mean.

    Args:
        losses: losses of the bytes of `cloze_windows` by domain.
    """
    own = {}
    for name, values in losses.items():
        endings = values[:, -ENDING:].sum(1).view(-1, CHOICES)
        own[name] = float((endings.argmin(1) == 0).double().mean())
    return own | {"mean": sum(own.values()) / len(own)}


def bits(losses: Losses) -> dict[str, float]:
    """Bits per byte after the prefix, by domain, and their mean.

    Args:
        losses: losses of every byte by domain.
    """
    own = {n: float(values[:, PREFIX - 1 :].mean()) / BITS for n, values in losses.items()}
    return own | {"mean": sum(own.values()) / len(own)}


def row_of(found: Mapping[str, Losses], evaluations: int, **more: Any) -> dict[str, Any]:
    """Bits per byte on val and test, and cloze accuracy.

    Args:
        found: losses by split.
        evaluations: looks at val text that the row cost.
        more: what else to keep of the row.
    """
    measured = {
        split: cloze_accuracies(losses) if split == "cloze" else bits(losses)
        for split, losses in found.items()
    }
    return measured | {"evaluations": evaluations, **more}
