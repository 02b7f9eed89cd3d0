"""The benchmarks `ranking` and `ood-ranking`, and the referee on any matrix file."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...tasks.ranking.extraction import ModelGroup, zoo_groups
from ...tasks.ranking.fine_tuning_matrix import finetune_matrix
from ...tasks.ranking.matrix import Matrix, read_matrix, read_scores, write_matrix
from ...zoos.disk import write_whole
from ...zoos.strict_json import json_text
from ..benchmark import BenchmarkOptions, BenchmarkOutcome, environment
from ..zoos import provide_zoos
from .claims import ACCURACY_CLAIMS, CLAIMS, OOD_CLAIMS, Claim, claims_text, compare
from .features_of_targets import score_matrix
from .new_models import new_models
from .ood_table import Accuracies, baseline_rows, ood_table, table_text
from .plans import GENERIC, OOD_RANKING, RANKING, RankingPlan, ranking_plan
from .referee import Verdict, judge, plain
from .referee_report import report_text
from .spending import spending
from .spider_rows import spider_data, spider_rows

FORMAT = "weightzoo-ranking-1"
RESULT_NAME, REPORT_NAME, MATRIX_NAME = "result.json", "report.md", "matrix.h5"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a benchmark found besides the verdict.

    Attributes:
        notes: paragraphs of the report before the tables.
        tables: plain data of the result file.
        claims: comparisons that were named before the run.
    """

    notes: tuple[str, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()


def benchmark_matrix(
    matrix: Path, scores: Path | None, out: Path, command: str
) -> BenchmarkOutcome:
    """Evaluate rankers on a given matrix file.

    Args:
        matrix: HDF5 or CSV.
        scores: CSV with the columns target, model and one per score; None takes what is in the
            matrix.
        out: folder for result and report.
        command: what was typed.

    Raises:
        ZooError: if a file cannot be read.
        UnsuitableError: if there is too little to judge by.
    """
    started = time.perf_counter()
    read = read_matrix(matrix)
    read = read if scores is None else read_scores(scores, read)
    options = BenchmarkOptions(out=out, command=command)
    return _outcome(RANKING, f"Rankers on {matrix.name}", read, options, Findings(), started)


def ranking_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Zoos, targets, fine-tuning, scores, Model Spider and the referee, from an empty folder.

    Raises:
        ValueError: if the user gives zoos of their own, which the plan has no place for.
        ZooError: if a zoo cannot be built.
    """
    return _benchmark(RANKING, options)


def ood_ranking_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """The same for unseen domains: fine-tuned on all domains but one, tested on that one.

    Raises:
        ValueError: if the user gives zoos of their own, which the plan has no place for.
        ZooError: if a zoo cannot be built.
    """
    return _benchmark(OOD_RANKING, options)


def _benchmark(name: str, options: BenchmarkOptions) -> BenchmarkOutcome:
    if options.zoos:
        raise ValueError(
            f"benchmark {name!r} builds its own zoos: for others, run `weightzoo "
            "finetune-matrix` and `weightzoo benchmark ranking --matrix FILE`"
        )
    started = time.perf_counter()
    plan = ranking_plan(name, options.small, options.images)
    folder = options.out / "zoos"
    folder.mkdir(parents=True, exist_ok=True)
    built = provide_zoos(plan.zoos, folder, options.workers, options.progress)
    zoos: list[Path | str] = [*built.values(), *(f"{folder / zoo}@0" for zoo in plan.untrained)]
    zoo_seconds = time.perf_counter() - started
    matrix = _matrix(plan, zoos, options)
    groups = [group for zoo in zoos for group in zoo_groups(zoo)]
    features = options.out / "features"
    matrix, seconds = score_matrix(matrix, groups, features, plan.scores, options.progress)
    notes = [_cost(matrix, zoo_seconds, seconds)]
    tables: dict[str, Any] = {"score_seconds": seconds}
    if name == RANKING:
        data = spider_data(matrix, groups, features, GENERIC, plan.spider_tasks, options.progress)
        spider = spider_rows(data, options.out / "spider")
        matrix = matrix.with_scores(spider.scores)
        notes.append(f"## Model Spider by its budget\n\n{spider.to_text()}")
        new = new_models(data, zoos, groups, spider, options.progress)
        notes.append(f"## Model Spider on new models\n\n{new.to_text()}")
        tables["new_models"] = new.to_json()
        tables["model_spider"] = {
            "k": spider.k,
            "held_out": {str(k): tau for k, tau in spider.held_out.items()},
            "curve": [list(row) for row in spider.curve],
        }
        found = Findings(notes=tuple(notes), tables=tables)
    else:
        found = _ood_findings(plan, matrix, zoos, groups, options, notes, tables)
    path = options.out / MATRIX_NAME
    write_matrix(path, matrix, {"command": options.command})
    return _outcome(name, f"Benchmark {name}", matrix, options, found, started)


def _matrix(plan: RankingPlan, zoos: Sequence[Path | str], options: BenchmarkOptions) -> Matrix:
    """The fine-tuning matrix, from an earlier start or from training now."""
    path = options.out / MATRIX_NAME
    if path.exists():
        return read_matrix(path)
    return finetune_matrix(
        zoos,
        plan.targets,
        path,
        plan.protocol,
        workers=options.workers,
        progress=options.progress,
    )


def _ood_findings(
    plan: RankingPlan,
    matrix: Matrix,
    zoos: Sequence[Path | str],
    groups: Sequence[ModelGroup],
    options: BenchmarkOptions,
    notes: list[str],
    tables: dict[str, Any],
) -> Findings:
    """Accuracies on the unseen domains, and the comparisons of them."""
    rows = [
        *ood_table(matrix, groups, options.out / "features"),
        *baseline_rows(matrix, zoos, plan.protocol, options.out / "baselines"),
    ]
    rows.sort(key=lambda row: -float(np.mean(row.accuracies)))
    notes.append(f"## Accuracy on the unseen domain\n\n{table_text(rows)}")
    tables["accuracies"] = {row.way: list(row.accuracies) for row in rows}
    return Findings(notes=tuple(notes), tables=tables, claims=tuple(_accuracy_claims(rows, matrix)))


def _accuracy_claims(rows: Sequence[Accuracies], matrix: Matrix) -> list[Claim]:
    values = {("", row.way): np.array(row.accuracies) for row in rows}
    return compare(ACCURACY_CLAIMS, values, matrix.families)


def _cost(matrix: Matrix, zoo_seconds: float, seconds: Mapping[str, float]) -> str:
    """What the parts took, for the report."""
    cost, scored = float(np.nansum(matrix.seconds)), sum(seconds.values())
    return (
        f"Zoos built or found in {zoo_seconds:.0f} s. Fine-tuning all cells took {cost:.0f} s of "
        f"one thread, as populations; features took {seconds['extraction']:.0f} s, and features "
        f"with {len(seconds) - 1} scores {scored:.0f} s: {cost / max(scored, 1e-9):.1f} times less."
    )


def _outcome(
    name: str,
    title: str,
    matrix: Matrix,
    options: BenchmarkOptions,
    found: Findings,
    started: float,
) -> BenchmarkOutcome:
    """Judge, write result and report, each whole or not at all."""
    verdict = judge(matrix)
    pairs = OOD_CLAIMS if name == OOD_RANKING else CLAIMS
    claims = compare(pairs, _weighted_taus(verdict), matrix.families)
    notes = [f"`{options.command}`", *found.notes]
    spent = spending(matrix)
    named = {"tau_w": claims, "accuracy": found.claims, "regret": spent.claims if spent else ()}
    notes += [
        f"## Named comparisons: {measure}\n\n{claims_text(some, measure, matrix.families)}"
        for measure, some in named.items()
        if some
    ]
    if spent:
        notes.append(f"## Regret by models fine-tuned on the target\n\n{spent.to_text()}")
    text = report_text(title, verdict, notes)
    data: Mapping[str, Any] = {
        "format": FORMAT,
        "benchmark": name,
        "small": options.small,
        "images": options.images,
        "command": options.command,
        "seconds": time.perf_counter() - started,
        "environment": environment(),
        "models": list(matrix.models),
        "protocol": dict(matrix.protocol),
        "accuracy": plain(matrix.test.tolist()),
        "verdict": verdict.to_json(),
        "claims": {
            measure: plain([asdict(claim) for claim in some]) for measure, some in named.items()
        },
        "regret_by_spending": plain(spent.to_json()) if spent else None,
        **plain(found.tables),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_whole(options.out / RESULT_NAME, (json_text(data, indent=1) + "\n").encode())
    write_whole(options.out / REPORT_NAME, text.encode())
    return BenchmarkOutcome(data, text, options.out / REPORT_NAME)


def _weighted_taus(verdict: Verdict) -> dict[tuple[str, str], np.ndarray]:
    """Weighted tau (T,) by way of holding out and ranker."""
    return {
        (row.hold_out, row.ranker): np.array([one["tau_w"] for one in row.targets.values()])
        for row in verdict.rows
        if row.targets
    }


BENCHMARKS = {RANKING: ranking_benchmark, OOD_RANKING: ood_ranking_benchmark}
