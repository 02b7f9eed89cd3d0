"""Fingerprints of networks, which tell whether a model saw them in its training.

Shape letters: N rows, D length of the flat weight vector.
"""

import hashlib
from collections.abc import Sequence

from ...loaders import ZooDataset

DIGITS = 16  # of 64 bits: among a million rows a chance match has odds of 1 in 10 million
MOST_ROWS, MOST_BYTES = 200_000, 2**32  # beyond, the list or the reading would cost too much


def row_fingerprints(dataset: ZooDataset) -> list[str]:
    """A short checksum of the weights of every row, N texts.

    Args:
        dataset: N rows.
    """
    return [
        hashlib.sha256(row.tobytes()).hexdigest()[:DIGITS]
        for block in dataset.weight_blocks()
        for row in block.numpy()
    ]


def fingerprints(datasets: Sequence[ZooDataset]) -> list[str] | None:
    """Sorted fingerprints of all rows; None if there are too many.

    Args:
        datasets: rows that a training or its choice of epoch saw.
    """
    rows = sum(len(dataset) for dataset in datasets)
    size = sum(len(dataset) * dataset.source.width * 4 for dataset in datasets)
    if rows > MOST_ROWS or size > MOST_BYTES:
        return None
    return sorted({mark for dataset in datasets for mark in row_fingerprints(dataset)})
