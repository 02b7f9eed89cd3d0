"""Batch norms of generated networks: statistics of their own in place of decoded ones.

Source: SANE, arXiv 2406.09997: generated ResNets are at chance until their batch norms have seen
some batches of images.

Shape letters: M models, D length of the flat weight vector.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...zoos.images.catalog import Images
from ...zoos.networks.architectures import Architecture

BATCHES, BATCH_SIZE = 200, 64  # of images, at most; the paper takes 200 batches


def condition(
    architecture: Architecture, weights: Tensor, activation: str, images: Images
) -> Tensor:
    """Measure the statistics of every model's batch norms on images.

    Args:
        architecture: of the models.
        weights: (M, D).
        activation: of all of them.
        images: train images.

    Returns:
        (M, D): the weights with new buffers; the same tensor if there is no batch norm.
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
    """Measure the statistics of a network's batch norms anew, in place.

    Args:
        module: the network; its mode is left as it was.
        batches: images as the network takes them; all weigh alike.
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
