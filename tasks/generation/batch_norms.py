"""Batch norm statistics of generated networks, recomputed on images.

Source: SANE (sequential autoencoder for neural embeddings), arXiv 2406.09997. Generated ResNets
are at chance level until their batch norm statistics are computed on some batches of images.

Shape letters: M models, D length of the flat weight vector.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...zoos.images.catalog import Images
from ...zoos.networks.architectures import Architecture

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
        condition_batch_norms(module, batches)
        rows.append(table.flatten(module.state_dict()))
    return torch.stack(rows)


def condition_batch_norms(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recompute the batch norm statistics of a network, in place.

    Args:
        module: network; its training mode is restored afterwards.
        batches: batches of input images, with equal weights.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    before, modes = [norm.momentum for norm in norms], [norm.training for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for norm, momentum, mode in zip(norms, before, modes, strict=True):
        norm.momentum = momentum
        norm.train(mode)
