"""The summary of the leaderboard, from parts of results."""

from typing import Any

from weightzoo.benchmarks.leaderboard_summary import summary


def run(name: str, score: float, tested: str = "a", **changes: Any) -> dict[str, Any]:
    scores = {tested: {"tau_b": score, "mse": score}}
    made = {"predictor": {"name": name}, "target": "test_accuracy", "fraction": 1.0, "seed": 0}
    return made | {"sources": ["a"], "scores": scores, "train_models": 55} | changes


def result(layout: str, runs: list[dict[str, Any]], metric: str = "tau_b") -> dict[str, Any]:
    made = {"benchmark": layout, "layout": layout, "metric": metric, "target": "test_accuracy"}
    return made | {"runs": runs, "zoos": {"a": {}, "b": {}}}


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_summary_marks_the_best_of_a_column_and_what_was_not_run() -> None:
    rows = [run("SNE", 0.4), run("boosting", 0.5), run("oracle: accuracy on val images", 0.9)]
    errors = [run("SNE", 0.1, fraction=0.5), run("SNE", 0.2), run("NFT", 0.3, seed=1)]
    text = summary([result("rows", rows), result("curve", errors, "mse")])
    assert "| rows, 55 models, τ_b, one seed | curve, 55 models, MSE |" in text
    assert row(text, "boosting") == ["**0.500**", "–"]
    assert row(text, "SNE") == ["0.400", "**0.200**"]
    assert row(text, "oracle: accuracy on val images") == ["0.900", "–"]


def test_summary_of_a_matrix_is_the_mean_over_zoos_not_trained_on() -> None:
    runs = [run("SNE", 0.9), run("SNE", 0.2, tested="b")]
    runs += [run("SNE", 0.4, sources=["b"]), run("SNE", 0.8, sources=["b"], tested="b")]
    runs += [run("SNE", 0.7, sources=["b", "c"])]  # trained on several
    assert row(summary([result("matrix", runs)]), "SNE") == ["**0.300**"]


def test_no_results_have_no_summary() -> None:
    assert summary([]) == ""


def test_ablations_of_one_encoder_are_no_rows_of_the_summary() -> None:
    parts = result("rows", [run("without set functions", 0.4)]) | {"benchmark": "sne-ablation"}
    assert summary([parts]) == ""
    assert "| without" not in summary([result("rows", [run("SNE", 0.4)]), parts])
