"""Baselines of domain generalisation: plain fine-tuning, CORAL and averaged weights.

Sources: CORAL, Sun and Saenko 2016, arXiv 1607.01719; its penalty, its weight of 1 and the batches
of equal size from every domain as in DomainBed, Gulrajani and Lopez-Paz 2021, arXiv 2007.01434;
averages of the weights of one run, Izmailov et al. 2018, arXiv 1803.05407. All three minimise the
cross-entropy over the training domains (ERM), take the same batches and start from the same
weights, so that a difference is due to the method.

Shape letters: B images of a batch from one domain, D features, K domains.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...builders.children.fine_tuning import with_head
from ...builders.children.parents import Parents
from ...zoos.errors import UnsuitableError
from ...zoos.images.image_set import Images
from .fine_tuning_matrix import Protocol, child_model, with_new_head
from .targets import Target

ERM, CORAL, AVERAGED = "ERM", "CORAL", "weight averaging"
METHODS = (ERM, CORAL, AVERAGED)
PENALTY = 1.0
AVERAGE_FROM = 0.5  # share of the steps after which weights are averaged


@dataclass(frozen=True)
class Generalised:
    """Accuracies of one method.

    Attributes:
        val: accuracy on held-out images of the training domains.
        test: accuracy on the unseen domain.
    """

    val: float
    test: float


def generalise(
    parents: Parents, row: int, target: Target, protocol: Protocol, seed: int
) -> dict[str, Generalised]:
    """Fine-tune one model by each method; val images choose the rate of each.

    Args:
        parents: models of a zoo.
        row: index of the model among them.
        target: task of an unseen domain.
        protocol: rates, batch size and epochs; steps are as many as in `fine_tune`.
        seed: number of the fine-tuning; decides the batches.

    Raises:
        UnsuitableError: if the target has one training domain only.
    """
    if target.domains is None or len(np.unique(target.domains)) < 2:
        raise UnsuitableError(
            f"target {target.name!r} has no two training domains: name a target IMAGES/DOMAIN"
        )
    runs = [_runs(parents, row, target, protocol, seed, rate) for rate in protocol.rates]
    return {name: max((run[name] for run in runs), key=lambda one: one.val) for name in METHODS}


def coral_penalty(features: list[Tensor]) -> Tensor:
    """Squared differences of means and covariances, averaged over pairs of domains.

    Args:
        features: K tensors (B, D).
    """
    moments = [(one.mean(0), one.T.cov()) for one in features]
    gaps = [
        (a - b).square().mean() + (first - second).square().mean()
        for (a, first), (b, second) in combinations(moments, 2)
    ]
    return torch.stack(gaps).mean()


def _runs(
    parents: Parents, row: int, target: Target, protocol: Protocol, seed: int, rate: float
) -> Mapping[str, Generalised]:
    """All methods with one rate; averaged weights are those of the run of ERM."""
    plain, averaged = _trained(parents, row, target, protocol, seed, rate, 0.0)
    aligned, _ = _trained(parents, row, target, protocol, seed, rate, PENALTY)
    nets = dict(zip(METHODS, (plain, aligned, averaged), strict=True))
    return {
        name: Generalised(_accuracy(net, target.images.val), _accuracy(net, target.images.test))
        for name, net in nets.items()
    }


def _trained(
    parents: Parents,
    row: int,
    target: Target,
    protocol: Protocol,
    seed: int,
    rate: float,
    penalty: float,
) -> tuple[nn.Module, nn.Module]:
    """The network after the last step, and the average over the later steps."""
    net = _start(parents, row, target, seed)
    averaged = torch.optim.swa_utils.AveragedModel(net)
    body, head = net[:-1], net[-1]
    optimizer = torch.optim.Adam(net.parameters(), rate)
    steps = protocol.epochs * -(-len(target.images.train) // protocol.batch_size)
    batches = _batches(target, protocol.batch_size, seed)
    for step in range(steps):
        pixels, labels = next(batches)  # (K, B, ...), (K, B)
        features = body(pixels.flatten(0, 1))
        loss = F.cross_entropy(head(features), labels.flatten())
        if penalty:
            loss = loss + penalty * coral_penalty(list(features.unflatten(0, labels.shape)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= AVERAGE_FROM * steps:
            averaged.update_parameters(net)
    return net, averaged


def _start(parents: Parents, row: int, target: Target, seed: int) -> nn.Sequential:
    """The model with a new last layer for the target's classes."""
    architecture = with_head(parents.architecture, target.images.classes)
    models = [child_model(parents.models[row], seed, {"init": "kaiming_uniform"})]
    flat = with_new_head(architecture, models, parents.architecture, parents.weights([row]))
    net = architecture.module(parents.models[row].hyper_parameters.activation)
    net.load_state_dict(architecture.layer_table().state_dict(flat[0]))
    return net


def _batches(target: Target, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Equally many images of every training domain, without an end; each is drawn in turn."""
    rng = np.random.default_rng(seed)
    assert target.domains is not None
    of_domain = [np.flatnonzero(target.domains == name) for name in np.unique(target.domains)]
    size = min(size, *(len(own) for own in of_domain))
    waiting = [np.empty(0, np.int64) for _ in of_domain]
    while True:
        chosen = []
        for index, own in enumerate(of_domain):
            if len(waiting[index]) < size:
                waiting[index] = rng.permutation(own)
            chosen.append(waiting[index][:size])
            waiting[index] = waiting[index][size:]
        rows = torch.from_numpy(np.stack(chosen))
        yield target.images.train.pixels[rows], target.images.train.labels[rows]


def _accuracy(net: nn.Module, images: Images) -> float:
    net.eval()
    with torch.no_grad():
        return float((net(images.pixels).argmax(1) == images.labels).float().mean())
