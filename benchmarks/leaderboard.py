"""`LEADERBOARD.md`, made of the main table of every benchmark result in a folder."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..zoos.errors import ZooError
from . import generation_report
from .cells import HEADS
from .comparisons import comparison_table
from .inrs import editing_report
from .leaderboard_summary import one_seed, summary
from .merging import language_report
from .merging import report as merging_report
from .ranking.leaderboard_section import leaderboard_section as ranking_section
from .report import LAYOUTS, RESULT_NAME, summary_table, target_table

BENCHMARK_FORMAT = "weightzoo-benchmark-1"
RANKING_FORMAT = "weightzoo-ranking-1"
HEADER = """# Leaderboard

Generated from result files; do not edit by hand:

    {command}

The command below each table measured it. Scores are on test splits, as mean ± standard deviation
over seeds. 95 % intervals are for the first seed, by bootstrap over test models, not rows.

- Metrics: τ_b (tau_b) is Kendall's rank correlation with ties, R² the explained variance, MAE the
  mean absolute error, MSE the mean squared error.
- The ceiling of τ_b is that of predictors without ties of their own: where models have equal
  targets, a ranking without ties stays below 1. A predictor that ties where the targets tie can
  exceed it. *Within strata*: mean τ_b within groups of models with equal hyper-parameters.
- Predictors: SNE is the set-based neural network encoder, NFN a neural functional network (HNP:
  equivariant to reordered hidden units; NP: to reordered input and output units too), NFT a
  neural functional transformer, DWSNet a deep weight-space network, DNG a directed neural graph,
  ScaleGMN a scale-equivariant graph metanetwork, MLP a multilayer perceptron, boosting
  gradient-boosted trees; ProbeGen, HiddenProbe and ProbeStatistics run the networks on learned
  probes.
- Networks: CNN is a convolutional network, CNN-s the small CNN of the Model Zoos with 2,464
  parameters, ViT a vision transformer, INR an implicit neural representation, a network that
  stores one signal.
"""


def write_leaderboard(results: Path, out: Path) -> Path:
    """Write the leaderboard of all results below a folder.

    Args:
        results: folder with result files, at any depth.
        out: Markdown file; an existing file is replaced only when the new one is complete.

    Raises:
        ZooError: if there is no result, or a result file is not JSON.
    """
    scratch = out.with_name(f"{out.name}.tmp")
    scratch.write_text(leaderboard_text(results, out), encoding="utf-8")
    os.replace(scratch, out)
    return out


def leaderboard_text(results: Path, out: Path) -> str:
    """The text that `write_leaderboard` writes.

    Args:
        results: folder with result files, at any depth.
        out: Markdown file, named in the text.

    Raises:
        ZooError: if there is no result, or a result file is not JSON.
    """
    command = f"weightzoo leaderboard {results} --out {out}"
    found = _read_results(results, RESULT_NAME)
    own = _own_results(found)
    sections = [
        *filter(None, [summary(own)]),
        *map(section, own),
        *_generation_sections(results),
        *_sections_of_other_formats(found),
        *filter(None, [_pages(results, out)]),
    ]
    if not sections:
        raise ZooError(
            f"no {RESULT_NAME} of a benchmark below {str(results)!r}: run one first, with "
            f"`weightzoo benchmark NAME --out {results / 'NAME'}`"
        )
    return "\n".join([HEADER.format(command=command), *sections])


def _read_results(folder: Path, name: str) -> list[dict[str, Any]]:
    """The objects in all result files of a name below a folder, by path."""
    found = [_json(path) for path in sorted(folder.glob(f"**/{name}"))]
    return [data for data in found if isinstance(data, dict)]


def _pages(results: Path, out: Path) -> str:
    """Links to the reports of all benchmarks; empty without a report."""
    reports = sorted(path for path in results.glob("**/*.md") if path.resolve() != out.resolve())
    links = [
        f"- [{path.parent.name}]({os.path.relpath(path, out.parent)})"
        for path in reports
        if path.parent != results
    ]
    return "\n".join(["## All tables and plots", "", *links, ""]) if links else ""


def _own_results(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Results of the benchmarks of property prediction, by name."""
    own = [data for data in results if data.get("format") == BENCHMARK_FORMAT]
    ours = [data for data in own if data.get("layout") in LAYOUTS]
    ours.sort(key=lambda data: (data["benchmark"], data["command"]))
    return ours


def section(result: Mapping[str, Any]) -> str:
    """Section of one benchmark: its main table, command, test rows and machine."""
    main = {
        "matrix": summary_table,
        "rows": lambda result: target_table(result, result["target"]),
    }.get(result["layout"], LAYOUTS[result["layout"]])
    environment, seeds = result["environment"], ", ".join(map(str, result["seeds"]))
    title = f"## {result['benchmark']}{one_seed(result)}: {result['question']}"
    reused = sum(run["reused"] for run in result["runs"])
    pairs = comparison_table(result, HEADS[result["metric"]])
    pairs = f"{pairs}\n\n" if pairs else ""
    earlier = f" ({reused} from an earlier start)" if reused else ""
    return (
        f"{title}\n\n{main(result)}\n\n{pairs}"
        f"`{result['command']}`, seeds {seeds}; {len(result['runs'])} fits{earlier}; tested on "
        f"{_tested(result)}; {environment['machine']}, torch {environment['torch']}"
        f"{_commit(environment)}.\n"
    )


def _sections_of_other_formats(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sections of the benchmarks whose result files have formats of their own, by name."""
    sections = {
        editing_report.FORMAT: editing_report.leaderboard_section,
        merging_report.FORMAT: merging_report.leaderboard_section,
        language_report.FORMAT: language_report.leaderboard_section,
        RANKING_FORMAT: ranking_section,
    }
    ours = [data for data in results if data.get("format") in sections]
    ours.sort(key=lambda data: (data["benchmark"], data["command"]))
    return [sections[data["format"]](data) for data in ours]


def _generation_sections(folder: Path) -> list[str]:
    """Sections of the generation benchmark, whose result files have another name."""
    found = _read_results(folder, generation_report.DATA)
    ours = [data for data in found if data.get("format") == generation_report.FORMAT]
    return [generation_report.leaderboard_section(data) for data in ours]


def _commit(environment: Mapping[str, str]) -> str:
    """The commit that measured, as text; empty if it is unknown."""
    return f", commit {environment['commit'][:10]}" if environment.get("commit") else ""


def _tested(result: Mapping[str, Any]) -> str:
    """Number of models and rows of each zoo that were scored on the main target."""
    scored = {
        name: f"{name} {scores['models']} models / {scores['rows']} rows"
        for run in result["runs"]
        if run["target"] == result["target"]
        for name, scores in run["scores"].items()
    }
    return ", ".join(scored[name] for name in result["zoos"] if name in scored)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ZooError(
            f"{str(path)!r} is not JSON ({error}): remove it, or run the benchmark again"
        ) from error
