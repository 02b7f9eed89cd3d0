"""Benchmarks on tiny zoos with quick predictors: results, reports, caching, refusals."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows

from weightzoo.benchmarks import runs as benchmark_runs
from weightzoo.benchmarks import zoos as benchmark_zoos
from weightzoo.benchmarks.benchmark import (
    SIZES,
    Benchmark,
    BenchmarkOptions,
    BenchmarkOutcome,
    usable_runs,
)
from weightzoo.benchmarks.cells import Cell
from weightzoo.benchmarks.comparisons import POOLED
from weightzoo.benchmarks.definitions import BENCHMARKS
from weightzoo.benchmarks.leaderboard import leaderboard_text, section, write_leaderboard
from weightzoo.benchmarks.predictors import own_encoders, trained
from weightzoo.benchmarks.registry import load_benchmark
from weightzoo.benchmarks.report import CHOSEN_NOTE, summary_table, to_markdown
from weightzoo.benchmarks.runs import Run, execute
from weightzoo.benchmarks.zoos import ZooPlan, build_once
from weightzoo.loaders import ZooDataset
from weightzoo.tasks.baselines.linear_probe import LinearProbe
from weightzoo.tasks.baselines.pooled_statistics import PooledStatisticsBoosting
from weightzoo.tasks.baselines.regressors import Constant, Predictor, StatisticsRidge
from weightzoo.zoos.errors import DivergedError, ZooError
from weightzoo.zoos.format import write_zoo_file
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.recipe import load_recipe

SPLITS = ["train"] * 30 + ["val"] * 10 + ["test"] * 12


def write_zoo(path: Path, seed: int = 0, deeper: bool = False, splits: list[str] = SPLITS) -> Path:
    """Models whose accuracy is the spread of their first kernels."""
    spec = tiny_architecture().to_json()
    if deeper:
        spec["layers"].insert(6, {"kind": "linear", "out": 5})
    architecture = Architecture.from_json(spec)
    torch.manual_seed(seed)
    columns, weights = tiny_rows(architecture, splits)
    scale = np.random.default_rng(seed).uniform(0.2, 2, len(weights)).astype(np.float32)
    weights[:, :18] *= scale[:, None]
    columns["test_accuracy"][:] = 0.1 + 0.4 * scale
    path.parent.mkdir(exist_ok=True, parents=True)
    write_zoo_file(path, tiny_header(architecture), columns, weights)
    return path


def write_zoos(folder: Path) -> dict[str, Path]:
    return {
        "first": write_zoo(folder / "zoos" / "first.h5"),
        "second": write_zoo(folder / "zoos" / "second.h5", seed=1),
        "deep": write_zoo(folder / "zoos" / "deep.h5", seed=2, deeper=True),
    }


@pytest.fixture
def zoos(tmp_path: Path) -> dict[str, Path]:
    return write_zoos(tmp_path)


@dataclass(frozen=True)
class Finished:
    """A benchmark that ran once for several tests."""

    options: BenchmarkOptions
    outcome: BenchmarkOutcome


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("benchmark")
    chosen = options(folder, write_zoos(folder))
    return Finished(chosen, benchmark()(chosen))


def quick() -> list[Predictor]:
    return [
        Constant(),
        StatisticsRidge(),
        PooledStatisticsBoosting(),
        trained("DeepSets", "deepsets", {"width": 8}, epochs=1, scaling="fan_in"),
        trained("flat MLP", "flat-mlp", {"widths": [8]}, epochs=1, scaling="fan_in"),
        trained("ProbeGen", "probegen", {"probes": 4, "width": 8}, epochs=1),
    ]


def matrix(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    return [
        Run(
            predictor=predictor,
            sources=(source,),
            tested=tuple(names),
            target="test_accuracy",
            seed=seed,
            measure_invariance=True,
        )
        for source in names[:1]
        for predictor in quick()
        for seed in (seeds if predictor.seeded else seeds[:1])
    ]


def benchmark(**changes: Any) -> Benchmark:
    fields: dict[str, Any] = {
        "name": "cross-architecture",
        "question": "does it transfer?",
        "layout": "matrix",
        "metric": "tau_b",
        "target": "test_accuracy",
        "plans": lambda size: [],
        "runs": matrix,
        "min_zoos": 2,
    }
    return Benchmark(**fields | changes)


def options(tmp_path: Path, zoos: dict[str, Path], **changes: Any) -> BenchmarkOptions:
    fields: dict[str, Any] = {"out": tmp_path / "out", "zoos": zoos, "seeds": (0, 1)}
    return BenchmarkOptions(**fields | {"progress": False, "command": "a command"} | changes)


def test_matrix_benchmark_writes_result_report_and_plot(finished: Finished) -> None:
    folder, text = finished.options.out, finished.outcome.text
    result = json.loads((folder / "result.json").read_text())
    assert (folder / "plot.png").stat().st_size > 5_000
    assert to_markdown(result) == (folder / "report.md").read_text() == text
    assert len(result["runs"]) == 2 + 2 * 4  # ridge and constant need one seed
    assert result["zoos"]["deep"]["models"] == {"train": 30, "val": 10, "test": 12}
    for part in ("`a command`, seeds 0, 1", "## Summary", "### DeepSets", "ceiling of τ_b"):
        assert part in text
    assert "fitted to the statistics of" in text  # why its cells are empty
    assert not list(folder.glob("**/*.tmp"))


def test_statistics_transfer_where_places_are_the_same_and_pooled_ones_anywhere(
    finished: Finished,
) -> None:
    by_name = {run["predictor"]["name"]: run for run in finished.outcome.data["runs"]}
    ridge = by_name["statistics + ridge"]
    assert ridge["scores"]["second"]["tau_b"] > 0.6 and "deep" in ridge["refused"]
    assert by_name["pooled statistics + boosting"]["scores"]["deep"]["tau_b"] > 0.5
    assert by_name["constant"]["scores"]["deep"]["tau_b"] is None
    assert "tied to places" in by_name["flat MLP"]["refused"]["deep"]
    assert by_name["DeepSets"]["scores"]["deep"]["invariance"]["hidden"]["relative"] < 1e-6
    probed = by_name["ProbeGen"]["scores"]["deep"]["invariance"]
    assert probed["hidden"]["relative"] < 1e-6 < 1e-3 < probed["uncoupled"]["relative"]


def test_started_again_nothing_is_fitted_twice(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_runs, "_fit_and_score", None)
    first, again = finished.outcome.data["runs"], benchmark()(finished.options).data["runs"]
    assert all(run["reused"] for run in again) and not any(run["reused"] for run in first)
    assert [run["scores"] for run in again] == [run["scores"] for run in first]


def test_a_changed_zoo_or_setting_is_fitted_anew(tmp_path: Path, zoos: dict[str, Path]) -> None:
    def run(**settings: Any) -> Run:
        deep_sets = trained("DeepSets", "deepsets", {"width": 8}, epochs=1, **settings)
        names = ("first",)
        return Run(predictor=deep_sets, sources=names, tested=names, target="test_accuracy", seed=0)

    def reused(one: Run) -> bool:
        return execute([one], zoos, tmp_path / "runs", progress=False)[0]["reused"]

    assert [reused(run()), reused(run()), reused(run(lr=0.5))] == [False, True, False]
    write_zoo(zoos["first"], seed=5)
    assert not reused(run())


def test_fits_of_other_code_are_not_reused(
    tmp_path: Path, zoos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Run(
        predictor=Constant(), sources=("first",), tested=("first",), target="test_accuracy", seed=0
    )
    reused = []
    for commit in ("a", "a", "b", "a"):
        monkeypatch.setattr(benchmark_runs, "commit", lambda commit=commit: commit)
        [result] = execute([one], zoos, tmp_path / "runs", progress=False)
        reused.append(result["reused"])
        assert result["code"]["commit"] == commit
    assert reused == [False, True, False, True]


@pytest.mark.slow
def test_worker_processes_give_the_same_scores(tmp_path: Path, zoos: dict[str, Path]) -> None:
    """Slow because processes start: what runs in them gives the same scores."""
    runs = [run for run in matrix(["first"], (0,), True) if run.predictor.name != "DeepSets"]
    here = execute(runs, zoos, tmp_path / "here", progress=False)
    there = execute(runs, zoos, tmp_path / "there", workers=2, progress=False)
    assert [run["scores"] for run in here] == [run["scores"] for run in there]


class Moody(Constant):
    """Diverges with seed 1 and on more than 36 rows, and on request has a bug."""

    name, seeded = "moody", True

    def __init__(self, bug: bool = False) -> None:
        self.bug = bug

    def fit(self, train: ZooDataset, val: ZooDataset, target: str, seed: int) -> None:
        if self.bug:
            raise ValueError("shapes do not match")
        if seed == 1:
            raise DivergedError("training of Moody diverged")
        super().fit(train, val, target, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        return super().predict(dataset) * (np.inf if len(dataset) > 36 else 1)


def moody_runs(
    names: Sequence[str], seeds: Sequence[int], size: str, own: Sequence[str] = ()
) -> list[Run]:
    changes = {"predictor": Moody(), "measure_invariance": False}
    return [replace(run, **changes) for run in matrix(names, seeds, size)[-len(seeds) :]]


def test_diverged_fits_are_counted_and_in_no_mean(tmp_path: Path, zoos: dict[str, Path]) -> None:
    del zoos["deep"]
    write_zoo(zoos["second"], splits=[*SPLITS, "test"])
    outcome = benchmark(runs=moody_runs, metric="mae")(options(tmp_path, zoos, seeds=(0, 1, 2)))
    first, second, third = outcome.data["runs"]
    assert second["diverged"] == dict.fromkeys(zoos, "training of Moody diverged")
    assert "are not finite" in first["diverged"]["second"] and not second["scores"]
    mae = first["scores"]["first"]["mae"]
    assert mae == third["scores"]["first"]["mae"]
    assert f"| first | {mae:.3f} ± 0.000 (1 of 3 diverged) | 3 of 3 diverged |" in outcome.text
    assert f"| moody | {mae:.3f} (1 of 3 diverged) | 3 of 3 diverged |" in summary_table(
        outcome.data
    )
    assert "Diverged, and in no mean:\n\n- moody: 3 of 3 fits; 39 of 39 predictions" in outcome.text
    assert "Left out" not in outcome.text


def test_bug_of_a_predictor_is_no_refusal(tmp_path: Path, zoos: dict[str, Path]) -> None:
    [run] = moody_runs(["first"], (0,), "small")
    with pytest.raises(ValueError, match="shapes do not match"):
        execute([replace(run, predictor=Moody(bug=True))], zoos, tmp_path / "runs", progress=False)


@pytest.mark.parametrize(
    ("predictor", "target", "reason"),
    [
        (LinearProbe("weights"), "test_accuracy", "fitted to .* features"),
        (StatisticsRidge(), "activation", "regression predicts numbers"),
        (trained("NFN", "nfn-hnp", epochs=1), "test_accuracy", "train with scaling='fan_in'"),
    ],
)
def test_what_predictors_cannot_take_is_refused_with_a_reason(
    tmp_path: Path, zoos: dict[str, Path], predictor: Predictor, target: str, reason: str
) -> None:
    run = Run(predictor=predictor, sources=("first",), tested=("deep",), target=target, seed=0)
    [result] = execute([run], zoos, tmp_path / "runs", progress=False)
    assert not result["scores"] and re.search(reason, result["refused"]["deep"])


def test_leaderboard_is_made_from_result_files_alone(finished: Finished, tmp_path: Path) -> None:
    results = shutil.copytree(finished.options.out, tmp_path / "results")
    (results / "other").mkdir()
    (results / "other" / "result.json").write_text('{"format": "of something else"}')
    text = write_leaderboard(results, tmp_path / "LEADERBOARD.md").read_text()
    assert "## cross-architecture: does it transfer?" in text and "`a command`" in text
    with pytest.raises(ZooError, match="run one first"):
        write_leaderboard(tmp_path / "results" / "other", tmp_path / "LEADERBOARD.md")


def test_leaderboard_counts_the_rows_that_were_scored(finished: Finished) -> None:
    result = json.loads((finished.options.out / "result.json").read_text())
    result["zoos"]["first"]["rows"]["test"] = 99  # checkpoints that were left out among them
    for index, run in enumerate(result["runs"]):
        run["reused"] = index == 0
    text = section(result)
    assert "first 12 models / 36 rows, second 12 models / 36 rows, deep" in text
    assert "`a command`, seeds 0, 1; 10 fits (1 from an earlier start)" in text


def test_shipped_leaderboard_is_that_of_the_shipped_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    shipped = Path("LEADERBOARD.md")
    assert shipped.read_text() == leaderboard_text(Path("benchmarks/results"), shipped)


@pytest.mark.parametrize(
    "shipped", [one for one in BENCHMARKS.values() if isinstance(one, Benchmark)]
)
def test_shipped_benchmarks_have_runs_for_their_zoos(shipped: Benchmark) -> None:
    assert BENCHMARKS[shipped.name] is shipped
    for size in SIZES:
        plans = shipped.plans(size)
        names = [plan.name for plan in plans]
        assert len({plan.recipe.seed for plan in plans}) == len(plans) >= shipped.min_zoos
        for plan in plans:
            models = plan.recipe.models(plan.models)
            assert len({model.split for model in models}) == 3
        runs = shipped.runs(names, (0, 1, 2), size)
        labels = [run.label for run in runs]
        assert len(set(labels)) == len(labels)
        assert {run.target for run in runs} >= {shipped.target}


def test_too_few_zoos_and_bad_options_are_refused(tmp_path: Path, zoos: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="needs at least 2 zoos, got .'first'"):
        benchmark()(options(tmp_path, {"first": zoos["first"]}))
    tiny = write_zoo(tmp_path / "few.h5", splits=["train"] * 5 + ["val"] * 3 + ["test"] * 3)
    with pytest.raises(ValueError, match="zoo 'few' .*'train' has 5 usable models, at least 10"):
        benchmark()(options(tmp_path, {"first": zoos["first"], "few": tiny}))
    with pytest.raises(ValueError, match=r"zoo 'first' .*no columns \['frequency'\]"):
        load_benchmark("inr-frequency")(options(tmp_path, {"first": zoos["first"]}))
    assert not (tmp_path / "out" / "runs").exists()
    with pytest.raises(ValueError, match="seeds must be different"):
        options(tmp_path, zoos, seeds=())
    with pytest.raises(ValueError, match="workers must be"):
        options(tmp_path, zoos, workers=0)
    with pytest.raises(ValueError, match="size must be one of .* got 'tiny'"):
        options(tmp_path, zoos, size="tiny")
    with pytest.raises(ValueError, match="has the sizes .*'small', 'full'.*, got 'medium'"):
        assert options(tmp_path, zoos, size="medium").small


def test_only_named_predictors_and_baselines_are_fitted(
    tmp_path: Path, zoos: dict[str, Path]
) -> None:
    outcome = benchmark()(options(tmp_path, zoos, only=("flat MLP",)))
    assert list(outcome.data["predictors"]) == ["constant", POOLED, "flat MLP"]
    assert outcome.data["only"] == ["flat MLP"] and CHOSEN_NOTE in outcome.text


def test_all_predictors_are_fitted_without_a_choice(finished: Finished) -> None:
    assert list(finished.outcome.data["predictors"]) == [one.name for one in quick()]
    assert CHOSEN_NOTE not in finished.outcome.text


def test_unknown_predictor_stops_a_benchmark_before_any_work(
    tmp_path: Path, zoos: dict[str, Path]
) -> None:
    with pytest.raises(ValueError, match=r"one of \['constant', .*\], got \['flat mlp'\]"):
        benchmark()(options(tmp_path, zoos, only=("flat mlp",)))
    assert not (tmp_path / "out").exists()


def test_targets_that_do_not_vary_are_left_out_with_the_reason(
    zoos: dict[str, Path],
) -> None:
    names = ("first",)
    runs = [
        Run(predictor=Constant(), sources=names, tested=names, target=target, seed=0)
        for target in ("test_accuracy", "bias_init", "activation")
    ]
    usable, left_out = usable_runs(runs, zoos, "test_accuracy")
    assert [run.target for run in usable] == ["test_accuracy", "activation"]
    assert "is 0.01" in left_out["bias_init"]


def test_linear_probes_of_numbers_run_one_seed(zoos: dict[str, Path]) -> None:
    names, probe = ("first",), LinearProbe("weights")
    runs = [
        Run(predictor=probe, sources=names, tested=names, target=target, seed=seed)
        for target in ("test_accuracy", "activation")
        for seed in (5, 0, 1)
    ]
    usable, _ = usable_runs(runs, zoos, "test_accuracy")
    assert [run.seed for run in usable] == [5, 5, 0, 1]


def test_zoo_is_built_once_and_another_is_not_overwritten(tmp_path: Path) -> None:
    recipe = replace(load_recipe("digits-mlp"), epochs=1, checkpoints=(0, 1))
    recipe = replace(recipe, factors=recipe.factors | {"train_fraction": 0.05})
    plan = ZooPlan(name="small", recipe=recipe, models=8)
    folder = build_once(plan.recipe, tmp_path / "small", plan.models, 1, False)
    written = (folder / "zoo.json").stat().st_mtime_ns
    build_once(plan.recipe, folder, plan.models, 1, False)
    assert (folder / "zoo.json").stat().st_mtime_ns == written
    with pytest.raises(ZooError, match="holds another zoo .8 models.: choose another --out"):
        build_once(plan.recipe, folder, 9, 1, False)


def test_zoo_of_other_code_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    factors = {"train_fraction": 0.05, "lr": 0.01}
    recipe = replace(load_recipe("digits-mlp"), factors=factors, epochs=1, checkpoints=(1,))
    monkeypatch.setattr("weightzoo.builders.engines.job.commit", lambda: "a" * 40)
    monkeypatch.setattr(benchmark_zoos, "commit", lambda: "a" * 40)
    folder = build_once(recipe, tmp_path / "zoo", 8, 1, False)
    build_once(recipe, folder, 8, 1, False)
    assert not capsys.readouterr().err
    written = (folder / "zoo.json").stat().st_mtime_ns
    monkeypatch.setattr(benchmark_zoos, "commit", lambda: "b" * 40)
    build_once(recipe, folder, 8, 1, False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{'a' * 10}, this is weightzoo" in said and "bbbb: it" in said
    assert (folder / "zoo.json").stat().st_mtime_ns == written


def test_training_on_all_others_has_a_column_of_its_own(finished: Finished) -> None:
    result = json.loads((finished.options.out / "result.json").read_text())
    before = summary_table(result)
    run = next(run for run in result["runs"] if run["predictor"]["name"] == "DeepSets")
    scores = {"deep": run["scores"]["deep"] | {"tau_b": -0.987}}
    result["runs"].append(run | {"sources": ["first", "second"], "scores": scores})
    after = summary_table(result)
    for old, new in zip(before.splitlines()[2:], after.splitlines()[2:], strict=True):
        assert new.startswith(old)  # the mean over single sources is what it was
    assert "trained on all others" in after and "| -0.987 |" in after


def test_cell_shows_mean_spread_and_what_is_not_defined() -> None:
    cell = Cell(({"tau_b": 0.5, "intervals": {"tau_b": [0.4, 0.6]}}, {"tau_b": 0.7}))
    assert cell.text("tau_b") == "0.600 ± 0.141" and cell.interval("tau_b") == "0.400 to 0.600"
    assert Cell(({"tau_b": None},)).text("tau_b") == Cell(()).text("tau_b") == "–"


@pytest.mark.parametrize("shipped", BENCHMARKS.values())
def test_encoder_of_ones_own_joins_every_benchmark(shipped: Benchmark) -> None:
    runs = shipped.runs(["first", "second"], (0, 1), "small", ["mine:Own"])
    own = [run for run in runs if run.predictor.name == "mine:Own"]
    assert {run.seed for run in own} == {0, 1} and own[0].predictor.encoder.name == "mine:Own"


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "inr-classification"])
@pytest.mark.parametrize("size", SIZES)
def test_both_configurations_of_sne_join_benchmarks_of_numbers(name: str, size: str) -> None:
    shipped = BENCHMARKS[name]
    assert isinstance(shipped, Benchmark)
    runs = shipped.runs(["first", "second"], (0,), size)
    made = {run.predictor.name: getattr(run.predictor, "encoder", None) for run in runs}
    assert made["SNE"].name == "sne" and made["SNE, paper"].name == "sne-paper"
    assert not made["SNE"].options and {"features", "norm"}.isdisjoint(made["SNE, paper"].options)


OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self, layer_table, outputs=1):
        super().__init__()
        self.line = nn.Linear(layer_table.width, outputs)

    def forward(self, weights, layer_table):
        return self.line(weights)
"""


def test_encoder_of_ones_own_is_compared_and_its_source_is_recorded(
    zoos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def runs(names: Sequence[str], seeds: Sequence[int], size: str, own: Any) -> list[Run]:
        [predictor] = own_encoders(own, size, epochs=1, scaling="fan_in")
        return [replace(matrix(names, seeds, size)[0], predictor=predictor)]

    chosen = replace(options(tmp_path / "out", zoos), encoders=("mine:Own",))
    [run] = benchmark(runs=runs)(chosen).data["runs"]
    assert run["predictor"]["encoder"] == "mine:Own" and len(run["predictor"]["source"]) == 64
    assert "first" in run["scores"] and "made for another architecture" in run["refused"]["deep"]
    del sys.modules["mine"]


def test_unknown_encoder_stops_a_benchmark_before_any_work(
    zoos: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="cannot import 'no_such_module'"):
        benchmark()(replace(options(tmp_path / "out", zoos), encoders=("no_such_module:Own",)))
    assert not (tmp_path / "out").exists()
