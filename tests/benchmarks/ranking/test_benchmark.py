"""The plans of the benchmarks, scores of a whole matrix, and the table of unseen domains."""

from pathlib import Path

import numpy as np
import pytest

from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.ranking.benchmark import ood_ranking_benchmark, ranking_benchmark
from weightzoo.benchmarks.ranking.features_of_targets import score_matrix
from weightzoo.benchmarks.ranking.ood_table import baseline_rows, ood_table, table_text
from weightzoo.benchmarks.ranking.plans import GENERIC, OOD_RANKING, RANKING, ranking_plan
from weightzoo.benchmarks.ranking.spider_rows import check_training_images
from weightzoo.benchmarks.registry import BENCHMARKS, load_benchmark
from weightzoo.tasks.ranking.extraction import zoo_groups
from weightzoo.tasks.ranking.fine_tuning_matrix import Protocol, finetune_matrix
from weightzoo.tasks.ranking.targets import DOMAINS
from weightzoo.zoos.errors import RecipeError, UnsuitableError
from weightzoo.zoos.images.catalog import load_images


def test_plans_cover_what_a_referee_needs() -> None:
    plan = ranking_plan(RANKING, small=False)
    assert sum(zoo.models for zoo in plan.zoos) == 48 and plan.protocol.seeds == 3
    assert len({zoo.recipe.architecture.name for zoo in plan.zoos}) == 3
    assert len({zoo.recipe.images for zoo in plan.zoos}) == 8
    assert "digits-shuffled" in {zoo.recipe.images for zoo in plan.zoos}
    assert len(plan.targets) >= 24 and len({name.split("+")[0] for name in plan.targets}) >= 6
    assert len({zoo.recipe.seed for zoo in plan.zoos}) == len(plan.zoos)
    assert len(plan.untrained) == 3 and GENERIC.split("/")[0] in {zoo.name for zoo in plan.zoos}


def test_plan_of_an_image_set_of_the_user_ranks_for_it_and_for_digits(tmp_path: Path) -> None:
    labels = np.arange(4_000) % 3
    pixels = np.random.default_rng(0).integers(256, size=(4_000, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", train_images=pixels, train_labels=labels,
             test_images=pixels[:9], test_labels=labels[:9])  # fmt: skip
    name = f"arrays:{tmp_path / 'own.npz'}"
    plan = ranking_plan(RANKING, small=True, images=name)
    assert {target.split("+")[0] for target in plan.targets} == {"digits", name}
    assert GENERIC.split("/")[0] in {zoo.name for zoo in plan.zoos}
    own = {zoo.name: zoo.recipe for zoo in plan.zoos}["cnn-own"]
    train = own.factors["train_fraction"] * len(load_images(name).train)
    assert own.images == name and train == pytest.approx(2_000)
    np.savez(tmp_path / "small.npz", train_images=pixels[:, :9], train_labels=labels,
             test_images=pixels[:9, :9], test_labels=labels[:9])  # fmt: skip
    with pytest.raises(RecipeError, match=r"must be \(1, 28, 28\).*got \(1, 9, 28\)"):
        ranking_plan(RANKING, small=True, images=f"arrays:{tmp_path / 'small.npz'}")


@pytest.mark.parametrize("small", [True, False])
def test_plans_of_unseen_domains_leave_out_each_domain_of_every_set(small: bool) -> None:
    plan = ranking_plan(OOD_RANKING, small)
    sets = {name.split("/")[0] for name in plan.targets}
    assert set(plan.targets) == {f"{one}/{unseen}" for one in sets for unseen in DOMAINS}
    assert {"zood-discriminability", "zood-stability", "logme"} < set(plan.scores)


def test_both_benchmarks_are_registered() -> None:
    assert {RANKING, OOD_RANKING} < set(BENCHMARKS)
    assert load_benchmark(OOD_RANKING) is ood_ranking_benchmark


def test_training_images_of_model_spider_may_not_be_a_targets() -> None:
    check_training_images(["glyphs-latin-sans"], ["glyphs-latin", "digits+invert"], 5)
    with pytest.raises(UnsuitableError, match="50 of 50 images of digits"):
        check_training_images(["digits"], ["digits"], 5)


@pytest.mark.slow
def test_unseen_domains_are_scored_and_tabled(trained_zoo: Path, tmp_path: Path) -> None:
    protocol = Protocol(epochs=1, rates=(1e-3,), shots=4, seeds=1)
    targets = ["digits/invert", "digits/blur"]
    matrix = finetune_matrix([trained_zoo], targets, tmp_path / "m.h5", protocol, progress=False)
    names = ("logme", "zood-discriminability", "zood-ranks")
    groups = zoo_groups(trained_zoo)
    scored, seconds = score_matrix(matrix, groups, tmp_path / "f", names, progress=False)
    assert scored.scores["zood-ranks"].shape == (24, 2)
    assert np.isfinite(scored.scores["zood-discriminability"]).all()
    assert set(seconds) == {"extraction", *names} and min(seconds.values()) > 0
    few = scored.take([1])
    rows = {row.way: row for row in ood_table(few, groups, tmp_path / "f")}
    best = rows["fine-tuned: best of all, known afterwards"].accuracies[0]
    assert best == matrix.accuracy[:, 1].max() >= rows["fine-tuned: first by logme"].accuracies[0]
    chosen = rows["head on the first 3 by logme, selected features"]
    assert chosen.kept <= rows["head on the first 3 by logme, all features"].kept <= 1
    assert "head on all models, selected features" in table_text(list(rows.values()))
    baselines = baseline_rows(few, [trained_zoo], protocol, tmp_path / "b")
    assert [row.way.split(",")[0] for row in baselines] == ["ERM", "CORAL", "weight averaging"]
    assert baseline_rows(few, [trained_zoo], protocol, tmp_path / "b") == baselines


@pytest.mark.parametrize("benchmark", [ranking_benchmark, ood_ranking_benchmark])
def test_ranking_benchmarks_build_their_own_zoos(
    benchmark: object, trained_zoo: Path, tmp_path: Path
) -> None:
    options = BenchmarkOptions(out=tmp_path / "o", size="small", zoos={"own": trained_zoo})
    with pytest.raises(ValueError, match="weightzoo benchmark ranking --matrix FILE"):
        benchmark(options)  # type: ignore[operator]
    assert not (tmp_path / "o").exists()
