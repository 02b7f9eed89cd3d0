"""The plans of the benchmarks, scores of a whole matrix, and the table of unseen domains."""

from pathlib import Path

import numpy as np
import pytest

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.ranking.benchmark import ranking_benchmark, ranking_plan, score_matrix
from weightzoo.benchmarks.ranking.ood_table import ood_table, table_text
from weightzoo.tasks.ranking.extraction import zoo_groups
from weightzoo.tasks.ranking.fine_tuning_matrix import Protocol, finetune_matrix


def test_plans_cover_what_a_referee_needs() -> None:
    plans, targets, protocol = ranking_plan(small=False)
    assert sum(plan.models for plan in plans) == 48 and protocol.seeds == 3
    assert len({plan.recipe.architecture.name for plan in plans}) == 3
    assert len({plan.recipe.images for plan in plans}) == 8
    assert len(targets) >= 24 and len({name.split("+")[0] for name in targets}) >= 6
    assert len({plan.recipe.seed for plan in plans}) == len(plans)
    small, few, _ = ranking_plan(small=True)
    assert len(small) == 10 and len(few) == 10
    assert len(ranking_plan(small=True, domains=True)[1]) == 10


@pytest.mark.slow
def test_unseen_domains_are_scored_and_tabled(trained_zoo: Path, tmp_path: Path) -> None:
    protocol = Protocol(epochs=1, rates=(1e-3,), shots=4, seeds=1)
    targets = ["digits/invert", "digits/blur"]
    matrix = finetune_matrix([trained_zoo], targets, tmp_path / "m.h5", protocol, progress=False)
    names = ("logme", "zood-discriminability", "zood-ranks")
    scored = score_matrix(matrix, [trained_zoo], tmp_path / "f", names, progress=False)
    assert scored.scores["zood-ranks"].shape == (24, 2)
    assert np.isfinite(scored.scores["zood-discriminability"]).all()
    few = scored.take([1])
    rows = {row.way: row for row in ood_table(few, zoo_groups(trained_zoo), tmp_path / "f")}
    best = rows["fine-tuned: best of all, known afterwards"].accuracies[0]
    assert best == matrix.accuracy[:, 1].max() >= rows["fine-tuned: first by logme"].accuracies[0]
    chosen = rows["head on the first 3 by logme, selected features"]
    assert chosen.kept <= rows["head on the first 3 by logme, all features"].kept <= 1
    assert "head on all models, selected features" in table_text(list(rows.values()))


def test_ranking_benchmark_builds_its_own_zoos(trained_zoo: Path, tmp_path: Path) -> None:
    options = BenchmarkOptions(out=tmp_path / "o", small=True, zoos={"own": trained_zoo})
    with pytest.raises(ValueError, match="weightzoo benchmark ranking --matrix FILE"):
        ranking_benchmark(options)
    assert not (tmp_path / "o").exists()
