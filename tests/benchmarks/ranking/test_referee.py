"""The referee and prior plus evidence: no leak, and what published matrices give."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from published_tables import needs_tables, path

from weightzoo.benchmarks.ranking.referee import FIXED, RANDOM, Row, _without, held_out, judge
from weightzoo.benchmarks.ranking.referee_report import report_text
from weightzoo.tasks.ranking.matrix import Matrix, read_matrix, read_scores
from weightzoo.tasks.ranking.prior import (
    fixed_order,
    learned_sum,
    plain_sum,
    prior_of_new_models,
)
from weightzoo.tasks.scoring.ranks import weighted_tau
from weightzoo.zoos.errors import UnsuitableError

RNG = np.random.default_rng(0)


def made(test: np.ndarray, families: Sequence[str] = (), **scores: np.ndarray) -> Matrix:
    test = test if test.ndim == 3 else test[:, :, None]
    models, targets, _ = test.shape
    return Matrix(
        models=tuple(f"m{i}" for i in range(models)),
        targets=tuple(f"t{i}" for i in range(targets)),
        families=tuple(families) or tuple(f"t{i}" for i in range(targets)),
        test=test,
        val=test,
        seconds=test,
        scores=scores,
    )


def row(verdict: object, ranker: str, way: str = "target") -> Row:
    return next(one for one in verdict.rows if (one.ranker, one.hold_out) == (ranker, way))  # type: ignore[attr-defined]


NOISE = made(RNG.uniform(size=(12, 40)), s=RNG.uniform(size=(12, 40)), z=RNG.uniform(size=(12, 40)))


def leaking(matrix: Matrix, target: int, hidden: Sequence[int]) -> np.ndarray:
    return fixed_order(NOISE.accuracy)  # the truth of the target is among the history


def test_noise_gives_no_agreement_to_any_ranker() -> None:
    verdict = judge(NOISE)
    for one in verdict.rows:
        assert abs(one.means["tau_w"]) < 0.1, one.ranker
    assert {"prior + s", "prior + all, learned"} < {one.ranker for one in verdict.rows}


def test_a_prior_that_saw_the_target_is_caught_by_noise() -> None:
    caught = row(judge(NOISE, {"leak": leaking}), "leak")
    assert caught.means["tau_w"] > 0.1
    assert caught.gain is not None and caught.gain.low > 0


def test_rankers_are_given_nothing_of_what_is_held_out() -> None:
    matrix = made(RNG.uniform(size=(5, 6, 2)), families=list("aabbcc"))
    seen = []

    def spy(given: Matrix, target: int, hidden: Sequence[int]) -> np.ndarray:
        assert np.isnan(given.test[:, list(hidden)]).all()
        assert np.isnan(given.val[:, list(hidden)]).all() and target in hidden
        seen.append((target, tuple(hidden)))
        return np.arange(5.0)

    judge(matrix, {"spy": spy})
    assert (2, (2,)) in seen and (2, (2, 3)) in seen and len(seen) == 12
    assert held_out(matrix, 4, "family") == [4, 5]
    assert np.isfinite(matrix.test).all() and np.isnan(_without(matrix, [1]).test[:, 1]).all()


def test_learned_weights_never_read_the_target() -> None:
    accuracy, score = RNG.uniform(size=(8, 7)), RNG.uniform(size=(8, 7))
    before = learned_sum(accuracy, {"s": score}, 2, [2, 3])
    changed = accuracy.copy()
    changed[:, [2, 3]] = RNG.uniform(size=(8, 2))
    after = learned_sum(changed, {"s": score}, 2, [2, 3])
    assert np.array_equal(before[0], after[0]) and np.array_equal(before[1], after[1])
    with pytest.raises(UnsuitableError, match="at least 2 other targets, got 1"):
        learned_sum(accuracy[:, :3], {"s": score[:, :3]}, 2, [1])


def test_prior_and_evidence_each_add_what_the_other_lacks() -> None:
    rng = np.random.default_rng(3)
    skill, turn = rng.normal(size=(15, 1)), rng.normal(size=(15, 24))
    truth = skill + turn + 0.2 * rng.normal(size=(15, 24))
    verdict = judge(
        made(truth, good=turn + 0.5 * rng.normal(size=turn.shape), bad=rng.normal(size=turn.shape))
    )
    fixed, alone, both = (row(verdict, name) for name in (FIXED, "good", "prior + good"))
    assert both.means["tau_w"] > max(fixed.means["tau_w"], alone.means["tau_w"]) + 0.05
    assert both.gain is not None and both.gain.low > 0
    learned = row(verdict, "prior + all, learned")
    assert learned.means["tau_w"] > both.means["tau_w"] - 0.05
    assert abs(row(verdict, RANDOM).means["tau_w"]) < 0.05


def test_missing_cells_and_constant_scores_are_counted_not_guessed() -> None:
    truth = RNG.uniform(size=(6, 5))
    truth[0, 0] = np.nan
    flat = np.ones((6, 5))
    verdict = judge(made(truth, flat=flat))
    assert verdict.missing == 1 and row(verdict, "flat").constant == 5
    assert row(verdict, "flat").means["tau_w"] == 0
    assert plain_sum(truth, {"flat": flat}, 1, [1]) == pytest.approx(plain_sum(truth, {}, 1, [1]))
    text = report_text("toy", verdict)
    assert "1 cells not run" in text and "constant on 5 targets" in text
    truth[:, 1] = np.nan
    with pytest.raises(UnsuitableError, match="2 models each"):
        judge(made(truth))


def test_prior_of_new_models_comes_from_what_is_known_of_them() -> None:
    size = RNG.uniform(1e3, 1e6, 20)
    prior, new = np.log(size) - np.log(size).mean(), np.arange(20) >= 15
    hidden = np.where(new, 0, prior)
    guessed = prior_of_new_models(hidden, {"parameters": size}, new, ridge=1e-6)
    assert guessed == pytest.approx(prior, abs=1e-6)
    with pytest.raises(UnsuitableError, match="leave the new models at 0"):
        prior_of_new_models(hidden, {}, new)


@needs_tables
@pytest.mark.parametrize(
    ("name", "targets", "measure", "wanted"),
    [
        ("ft_supervised11_x11.csv", 11, "tau_w_both", 0.826),
        ("ft_model_spider_single10.csv", 8, "tau_w", 0.757),
    ],
)
def test_fixed_order_reproduces_the_known_figures(
    name: str, targets: int, measure: str, wanted: float
) -> None:
    matrix = read_matrix(path(name))
    verdict = judge(matrix.take(range(targets)))
    assert round(row(verdict, FIXED).means[measure], 3) == wanted


@needs_tables
def test_prior_plus_logme_on_the_published_spider_matrix() -> None:
    matrix = read_matrix(path("ft_model_spider_single10.csv"))
    scored = read_scores(path("model_spider_baseline_scores.csv"), matrix)
    chosen = {name: scored.scores[name] for name in ("LogME", "NCE", "H-Score")}
    verdict = judge(replace(scored, scores=chosen))
    means = {one.ranker: round(one.means["tau_w"], 3) for one in verdict.rows}
    assert means["LogME"] == 0.678 and means["prior + LogME"] == 0.778
    found = [learned_sum(scored.accuracy, chosen, t, [t], ridge=1)[0] for t in range(8)]
    taus = [weighted_tau(scored.accuracy[:, t], one) for t, one in enumerate(found)]
    assert round(np.mean(taus), 3) == 0.820
