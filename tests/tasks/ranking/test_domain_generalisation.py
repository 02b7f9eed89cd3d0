"""Baselines of domain generalisation: the penalty, the batches and the three methods."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.builders.children.parents import choose_parents
from weightzoo.tasks.ranking.domain_generalisation import (
    METHODS,
    _batches,
    coral_penalty,
    generalise,
)
from weightzoo.tasks.ranking.fine_tuning_matrix import Protocol
from weightzoo.tasks.ranking.targets import make_target
from weightzoo.zoos.errors import UnsuitableError

PROTOCOL = Protocol(epochs=2, rates=(1e-3, 1e-2), shots=5, seeds=1)


def test_coral_penalty_is_zero_for_equal_moments_and_counts_both() -> None:
    features = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert coral_penalty([features, features.flip(0)]).item() == pytest.approx(0)
    moved = coral_penalty([features, features + 2]).item()
    assert moved == pytest.approx(4)  # the mean of squared differences of means
    centred = features - features.mean(0)
    gap = (np.cov(2 * centred.T.numpy()) - np.cov(centred.T.numpy())) ** 2
    assert coral_penalty([centred, 2 * centred]).item() == pytest.approx(gap.mean())


def test_batches_hold_each_training_domain_equally() -> None:
    target = make_target("digits/invert", shots=5)
    pixels, labels = next(_batches(target, 16, 0))
    assert pixels.shape == (4, 16, 1, 28, 28) and labels.shape == (4, 16)
    seen = torch.cat([one[1] for one in islice(_batches(target, 25, 0), 2)], dim=1)
    assert (torch.stack([torch.bincount(row, minlength=10) for row in seen]) == 5).all()


def test_methods_differ_and_repeat(trained_zoo: Path) -> None:
    parents, target = choose_parents(trained_zoo), make_target("digits/blur", shots=5)
    found = generalise(parents, 0, target, PROTOCOL, 0)
    assert list(found) == list(METHODS) and found == generalise(parents, 0, target, PROTOCOL, 0)
    assert len({(one.val, one.test) for one in found.values()}) > 1
    with pytest.raises(UnsuitableError, match="no two training domains"):
        generalise(parents, 0, make_target("digits", shots=5), PROTOCOL, 0)
