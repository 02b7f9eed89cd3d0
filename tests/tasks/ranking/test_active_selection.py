"""Which model to fine-tune next."""

import numpy as np
import pytest

from weightzoo.tasks.ranking.active_selection import Belief, active_order, belief, next_model
from weightzoo.zoos.errors import UnsuitableError


def made(seed: int = 0) -> np.ndarray:
    """Two groups of models; a hidden sign decides which group suits a target."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([1.0, -1.0], 10)[:, None]
    signs = rng.choice([-1.0, 1.0], 24)
    return 0.5 + 0.1 * groups * signs + 0.02 * rng.normal(size=(20, 24))


def regrets(accuracy: np.ndarray, count: int) -> tuple[float, float]:
    """Mean regret of active and of random choices after some fine-tunings."""
    rng, active, random = np.random.default_rng(1), [], []
    for target in range(accuracy.shape[1]):
        truth = accuracy[:, target]
        order = active_order(belief(accuracy, {}, target, [target]), truth, count)
        active.append(truth.max() - truth[order].max())
        random.append(
            np.mean([truth.max() - rng.permutation(truth)[:count].max() for _ in "x" * 50])
        )
    return float(np.mean(active)), float(np.mean(random))


def test_first_results_decide_the_next_choice() -> None:
    active, random = regrets(made(), 5)
    assert active < random - 0.005


def test_choice_reads_only_models_that_were_chosen() -> None:
    accuracy = made()
    known = belief(accuracy, {}, 0, [0])
    order = active_order(known, accuracy[:, 0], 6)
    hidden = np.full(20, np.nan)
    hidden[order] = accuracy[order, 0]
    assert active_order(known, hidden, 6) == order and len(set(order)) == 6


def test_belief_ignores_the_target_and_what_is_excluded() -> None:
    accuracy = made()
    before = belief(accuracy, {}, 2, [2, 3])
    accuracy[:, [2, 3]] = np.random.default_rng(5).uniform(size=(20, 2))
    after = belief(accuracy, {}, 2, [2, 3])
    assert np.array_equal(before.mean, after.mean)
    assert np.array_equal(before.covariance, after.covariance)
    with pytest.raises(UnsuitableError, match="at least 3 other targets.*got 2"):
        belief(accuracy[:, :4], {}, 0, [0, 1])


def test_uncertain_model_is_tried_before_a_sure_one() -> None:
    known = Belief(np.array([0.5, 0.4, 0.4]), np.diag([0.01, 1e-6, 0.04]), 1e-6)
    assert next_model(known, np.full(3, np.nan)) == 0
    assert next_model(known, np.array([0.5, np.nan, np.nan])) == 2
    with pytest.raises(UnsuitableError, match="none is left"):
        next_model(known, np.ones(3))
