import numpy as np
import pytest

from weightzoo.tasks.scoring import bootstrap, metrics
from weightzoo.tasks.scoring.bootstrap import RESAMPLED, bootstrap_intervals, sample_counts
from weightzoo.tasks.scoring.evaluator import TASKS, Evaluator, stratum_taus
from weightzoo.tasks.scoring.metrics import kendall_tau


def inputs(noise: float = 0.1, models: int = 40, rows: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    true = rng.random(models * rows)
    return {
        "true": true,
        "predicted": true + noise * rng.standard_normal(len(true)),
        "model_id": np.repeat(np.arange(models), rows),
    }


@pytest.mark.parametrize("task", TASKS)
def test_evaluator_declares_what_it_takes_and_gives(task: str) -> None:
    evaluator = Evaluator(task)
    for key in ("'true'", "'predicted'", "'model_id'", task):
        assert key in evaluator.expected_input_format
    true = np.array(["a", "b", "a", "c"] if evaluator.kind == "category" else [1, 2, 3, 4])
    scores = evaluator.eval({"true": true, "predicted": true, "model_id": np.arange(4)}, 10)
    for key in scores:
        assert f"'{key}'" in evaluator.expected_output_format


def test_perfect_and_reversed_predictions_reach_the_ends() -> None:
    data = inputs(noise=0)
    perfect = Evaluator("test_accuracy").eval(data, 20)
    for name in ("tau_b", "tau_share", "r2"):
        assert perfect[name] == pytest.approx(1)
    assert perfect["mae"] == perfect["mse"] == 0
    assert perfect["intervals"]["tau_b"] == pytest.approx([1, 1])
    worst = Evaluator("test_accuracy").eval(data | {"predicted": -data["true"]}, 0)
    assert worst["tau_b"] == pytest.approx(-1)


def test_share_is_tau_over_the_ceiling_of_the_ties() -> None:
    true = np.repeat([0.0, 1.0], 5)
    scores = Evaluator("epoch").eval(
        {"true": true, "predicted": np.arange(10.0), "model_id": np.arange(10)}, 0
    )
    assert scores["tau_b"] == pytest.approx(scores["tau_max"]) and scores["tau_max"] < 0.8
    assert scores["tau_share"] == pytest.approx(1)
    tied = Evaluator("epoch").eval({"true": true, "predicted": true, "model_id": np.arange(10)}, 0)
    assert tied["tau_b"] == pytest.approx(1)
    assert tied["tau_share"] == pytest.approx(1 / tied["tau_max"]) and tied["tau_max"] < 0.8


def test_constant_predictions_have_no_tau() -> None:
    data = inputs()
    scores = Evaluator("test_accuracy").eval(data | {"predicted": np.zeros(120)}, 20)
    assert scores["tau_b"] is None and scores["intervals"]["tau_b"] == [None, None]
    assert scores["r2"] < 0


def test_intervals_hold_the_score_and_narrow_with_models() -> None:
    few, many = (Evaluator("test_accuracy").eval(inputs(models=m), 200) for m in (10, 160))
    for scores in (few, many):
        low, high = scores["intervals"]["tau_b"]
        assert low < scores["tau_b"] < high
    width = [np.ptp(scores["intervals"]["tau_b"]) for scores in (few, many)]
    assert width[1] < 0.5 * width[0]


def test_bootstrap_draws_models_not_rows() -> None:
    data = inputs(models=12, rows=1)
    repeated = {key: np.repeat(values, 9) for key, values in data.items()}
    by_model, by_row = (
        bootstrap_intervals(repeated["true"], repeated["predicted"], models, ("tau_b",), 300, 0)[
            "tau_b"
        ]
        for models in (repeated["model_id"], np.arange(12 * 9))
    )
    assert np.ptp(by_model) > 2 * np.ptp(by_row)  # nine copies of a row are no new evidence


@pytest.mark.parametrize("name", list(RESAMPLED))
def test_resampled_scores_are_those_of_the_drawn_rows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "BLOCK_PAIRS", 50)  # several blocks
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(6, size=(2, 20)).astype(float)  # with ties
    models = np.repeat(np.arange(10), 2)
    counts = sample_counts(models, 8, seed=1)
    assert set(counts.sum(axis=1)) == {20} and (counts[:, ::2] == counts[:, 1::2]).all()
    scores = RESAMPLED[name](true, predicted, counts)
    for drawn, score in zip(counts.astype(int), scores, strict=True):
        rows = np.repeat(np.arange(20), drawn)
        metric = {"tau_b": kendall_tau}.get(name) or getattr(metrics, name)
        assert score == pytest.approx(metric(true[rows], predicted[rows]), abs=1e-5)


def test_strata_show_a_predictor_that_only_tells_groups_apart() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(["bad", "good"], 100)
    true = rng.random(200) + 5 * (group == "good")
    predicted = rng.random(200) + 5 * (group == "good")
    assert kendall_tau(true, predicted) > 0.45
    taus = stratum_taus(true, predicted, group)
    assert set(taus) == {"bad", "good", "mean"} and abs(taus["mean"]) < 0.15


def test_small_and_constant_strata_are_left_out() -> None:
    strata = np.array(["few"] * 2 + ["flat"] * 8 + ["fine"] * 10)
    true = np.arange(20.0)
    true[2:10] = 1
    assert set(stratum_taus(true, np.arange(20.0), strata)) == {"fine", "mean"}


def test_categories_stand_beside_the_majority() -> None:
    scores = Evaluator("activation").eval(
        {
            "true": np.array(["relu", "relu", "tanh", "relu"], object),
            "predicted": np.array(["relu", "tanh", "tanh", "relu"], object),
            "model_id": np.arange(4),
        }
    )
    assert scores["accuracy"] == 0.75 and scores["majority"] == 0.75


def test_bad_inputs_are_refused_with_the_format() -> None:
    evaluator, data = Evaluator("test_accuracy"), inputs()
    for bad, message in [
        ({"true": data["true"]}, "keys"),
        (data | {"extra": 1}, "keys"),
        (data | {"predicted": data["true"][:5]}, r"shapes .*\(5,\)"),
        (data | {"predicted": np.full(120, "a")}, "got text"),
        (data | {"predicted": np.full(120, np.nan)}, "not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluator.eval(bad)
    with pytest.raises(ValueError, match="kind must be one of"):
        Evaluator("colour")
    assert Evaluator("colour", "category").kind == "category"
