"""Searches: they find what they can, keep within the budget, and repeat nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weightzoo.tasks.merging.search import STRATEGIES, Evaluations, search_weights, single
from weightzoo.zoos.errors import MergeError

GOAL = np.array([0.5, 0.3, 0.2, 0.0])
SIMILAR = np.array([[1, 0.9, 0.5, 0.1], [0.9, 1, 0.4, 0.2], [0.5, 0.4, 1, 0.3], [0.1, 0.2, 0.3, 1]])


def closeness(weights: tuple[float, ...]) -> float:
    return -float(np.square(np.array(weights) - GOAL).sum())


def counted(
    evaluate: Callable[[tuple[float, ...]], float], calls: list[object]
) -> Callable[[tuple[float, ...]], float]:
    def count(weights: tuple[float, ...]) -> float:
        calls.append(weights)
        return evaluate(weights)

    return count


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "cma"])
def test_heuristics_beat_the_best_single_member(strategy: str) -> None:
    evaluations = Evaluations(closeness, budget=200)
    found = search_weights(strategy, evaluations, 4, similarity=SIMILAR)
    assert found.score > max(closeness(single(member, 4)) for member in range(4))
    assert sum(found.weights) == pytest.approx(1) and found.finished


def test_coefficient_keeps_the_best_share_and_not_the_last_tried() -> None:
    found = search_weights("coefficient", Evaluations(closeness, budget=200), 4)
    assert found.weights[0] != pytest.approx(0.1) and closeness(found.weights) > -0.02


def test_average_rejects_a_member_that_costs_validation() -> None:
    found = search_weights("average", Evaluations(closeness, budget=200), 4)
    assert 3 not in found.members
    assert found.weights[:2] == pytest.approx([1 / len(found.members)] * 2)


def test_order_of_similarity_decides_who_comes_first() -> None:
    calls: dict[str, list[tuple[float, ...]]] = {}
    for order in ("ascending", "descending"):
        asked: list[object] = []
        evaluate = Evaluations(counted(closeness, asked), budget=200)
        search_weights(f"similarity-{order}", evaluate, 4, similarity=SIMILAR)
        calls[order] = asked  # type: ignore[assignment]
    second = {order: np.array(asked[4]) for order, asked in calls.items()}
    assert second["ascending"][3] > 0 and second["descending"][1] > 0


def test_cma_comes_close_to_the_goal_within_its_budget() -> None:
    pytest.importorskip("cmaes", reason="the extra 'search' is not installed")
    found = search_weights("cma", Evaluations(closeness, budget=150), 4)
    assert found.evaluations == 150 and not found.finished
    assert found.score > -0.02


def test_budget_counts_distinct_weights_and_stops_the_search() -> None:
    calls: list[object] = []
    found = search_weights("coefficient", Evaluations(counted(closeness, calls), budget=7), 4)
    assert len(calls) == found.evaluations == 7 and not found.finished
    with pytest.raises(MergeError, match="allows no evaluation"):
        search_weights("average", Evaluations(closeness, budget=0), 4)


def test_killed_search_repeats_no_finished_evaluation(tmp_path: Path) -> None:
    path, calls = tmp_path / "evaluations.jsonl", list[object]()

    def killed(weights: tuple[float, ...]) -> float:
        if len(calls) == 10:
            raise KeyboardInterrupt
        return closeness(weights)

    with pytest.raises(KeyboardInterrupt):
        search_weights("coefficient", Evaluations(counted(killed, calls), 200, path), 4)
    with path.open("a") as file:
        file.write("[[0.1, 0.")  # cut off by the kill
    again: list[object] = []
    resumed = Evaluations(counted(closeness, again), 200, path)
    found = search_weights("coefficient", resumed, 4)
    fresh = search_weights("coefficient", Evaluations(closeness, 200), 4)
    assert found == fresh
    assert len(again) == resumed.new == fresh.evaluations - 9
    assert not set(map(str, again)) & set(map(str, calls[:9]))


def test_evaluations_that_are_not_finite_are_never_chosen() -> None:
    def nan_for_merges(weights: tuple[float, ...]) -> float:
        return 0.5 if max(weights) == 1 else float("nan")

    found = search_weights("average", Evaluations(nan_for_merges, budget=50), 3)
    assert max(found.weights) == 1 and found.score == 0.5


def test_unknown_strategy_is_refused() -> None:
    with pytest.raises(MergeError, match="strategy must be one of"):
        search_weights("random", Evaluations(closeness, budget=5), 4)
    with pytest.raises(MergeError, match="needs the similarity"):
        search_weights("similarity-ascending", Evaluations(closeness, budget=5), 4)
