"""Batch norm statistics of generated networks, recomputed on images.

Source: SANE (sequential autoencoder for neural embeddings), arXiv 2406.09997. Generated ResNets
are at chance level until their batch norm statistics are computed on some batches of images.

Shape letters: M models, D length of the flat weight vector.
"""

import torch
from torch import Tensor

from ...zoos.images.catalog import Images
from ...zoos.networks.architectures import Architecture
from ..training.batch_norms import refresh_batch_norms

BATCHES, BATCH_SIZE = 200, 64  # at most; the paper takes 200 batches


def condition(
    architecture: Architecture, weights: Tensor, activation: str, images: Images
) -> Tensor:
    """Recompute the batch norm statistics of every model on images.

    Args:
        architecture: architecture of the models.
        weights: flat weights, (M, D).
        activation: activation of all models.
        images: train images.

    Returns:
        The weights with new buffers, (M, D); the same tensor if there is no batch norm.
    """
    table = architecture.layer_table()
    if all(tensor.role != "buffer" for tensor in table):
        return weights
    batches = images.pixels.split(BATCH_SIZE)[:BATCHES]
    rows = []
    for row in weights:
        module = architecture.module(activation).eval()
        module.load_state_dict(table.state_dict(row))
        refresh_batch_norms(module, [(batch,) for batch in batches])
        rows.append(table.flatten(module.state_dict()))
    return torch.stack(rows)
