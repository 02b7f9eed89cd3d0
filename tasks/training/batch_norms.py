"""Statistics of batch norms for weights that have seen no batch, such as averaged ones.

Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.2.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn


def refresh_batch_norms(module: nn.Module, batches: Iterable[Sequence[Any]]) -> None:
    """Recompute the running statistics of batch norms, in place, as the mean over batches.

    Args:
        module: module; modes and momenta of its batch norms are restored afterwards.
        batches: arguments of a call for every batch; not read if there is no batch norm.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    before, modes = [norm.momentum for norm in norms], [norm.training for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    with torch.no_grad():
        for arguments in batches if norms else ():
            module(*arguments)
    for norm, momentum, mode in zip(norms, before, modes, strict=True):
        norm.momentum = momentum
        norm.train(mode)
