"""Markdown report of a benchmark, made from its JSON result alone.

A result holds `benchmark`, `question`, `layout`, `metric`, `target`, `command`, `seeds`, `zoos`,
`runs`, times and `environment`, see `benchmark.Benchmark`. tau_b (τ_b) is Kendall's rank
correlation with ties.
"""

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..zoos.protocols.protocol import protocol_notes
from ..zoos.strict_json import json_text
from .cells import HEADS, NOT_DEFINED, Cell, cell, distinct, diverged_note, noted, table, value_of
from .comparisons import comparison_table
from .published import PUBLISHED, UNPRINTED
from .runs import INVARIANCE_DRAWS, INVARIANCE_ROWS

RESULT_NAME, REPORT_NAME, PLOT_NAME = "result.json", "report.md", "plot.png"
INVARIANCE_NOTE = (
    "*Invariance error*: half the squared distance between an encoder's outputs before and after "
    "hidden units are reordered, in units of the outputs' variance over models, on at most "
    f"{INVARIANCE_ROWS} test rows with {INVARIANCE_DRAWS} permutations each. *Valid* permutations "
    "preserve the network's function, *invalid* ones change it. Equal errors mean that the encoder "
    "does not distinguish them."
)
CEILING_NOTE = (
    "*Measurement ceiling*: expected τ_b between two binomial draws of the same networks' accuracy "
    "on as many test images, which is what a predictor that knows each network's accuracy can "
    "expect. *Above chance*: more than three binomial deviations above one in the number of "
    "classes; models at chance have no order."
)
VAL_WHOLE = (
    "Only the train split shrinks: choices on val, such as the number of epochs, use the whole val "
    "split at every share."
)
CHOSEN_NOTE = (
    "The command names the predictors that were fitted; the benchmark has more (`--only`)."
)
NOT_COMPARABLE = (
    "Published figures are for orientation only: **the populations are not comparable** (other "
    "networks, other images, far more models)."
)
Result = Mapping[str, Any]


def to_markdown(result: Result) -> str:
    """The whole report as Markdown."""
    sections = [
        f"# {result['benchmark']}: {result['question']}",
        _circumstances(result),
        LAYOUTS[result["layout"]](result),
        _comparisons(result),
        _refusals(result),
        _divergences(result),
        f"![{result['benchmark']}]({PLOT_NAME})",
        "## The populations",
        _zoo_table(result),
        "## Published figures",
        _published_table(result),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def write_result(folder: Path, result: Result) -> Path:
    """Write `result.json` and `report.md`, each renamed into place when complete.

    Args:
        folder: existing output folder.
        result: result of a benchmark.

    Returns:
        Path of the report.
    """
    texts = {
        RESULT_NAME: json_text(result, indent=1) + "\n",
        REPORT_NAME: to_markdown(result),
    }
    for name, text in texts.items():
        scratch = folder / f"{name}.tmp"
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, folder / name)
    return folder / REPORT_NAME


def _matrix_tables(result: Result) -> str:
    """A summary by predictor, and for each predictor a table of train zoos by test zoos."""
    runs, metric = result["runs"], result["metric"]
    parts = ["## Summary", summary_table(result)]
    for predictor in distinct(runs, "predictor"):
        own = [run for run in runs if value_of(run, "predictor") == predictor]
        tested = list(result["zoos"])
        rows = [
            [
                "+".join(sources),
                *(cell(own, name, sources=sources).text(metric) for name in tested),
            ]
            for sources in distinct(own, "sources")
        ]
        head = [f"trained on ↓, tested on →, {HEADS[metric]}", *tested]
        parts += [f"### {predictor}", table(head, rows)]
    return "\n\n".join(parts)


def summary_table(result: Result) -> str:
    """Mean scores of each predictor trained on one zoo: on that zoo, and on the others.

    Where predictors were also trained on all zoos but one, the mean over the zoos left out has a
    column of its own, because means over different train sets are not comparable.
    """
    runs, metric = result["runs"], result["metric"]
    left_out = any(len(sources) > 1 for sources in distinct(runs, "sources"))
    rows = []
    for predictor in distinct(runs, "predictor"):
        own = [run for run in runs if value_of(run, "predictor") == predictor]
        single = [run for run in own if len(run["sources"]) == 1]
        several = [run for run in own if len(run["sources"]) > 1]
        seen, others = _transfer_cells(single, list(result["zoos"]))
        row = [predictor, *(mean_text(cells, metric) for cells in (seen, others))]
        row += [
            mean_text(others, "r2"),
            mean_text(others, "mae"),
            str(sum(one.count for one in others)),
        ]
        if left_out:
            row.append(mean_text(_transfer_cells(several, list(result["zoos"]))[1], metric))
        rows.append(row)
    head = ["predictor", f"{HEADS[metric]}, same zoo", f"{HEADS[metric]}, other zoos"]
    head += ["R², other zoos", "MAE, other zoos", "scores on other zoos"]
    head += [f"{HEADS[metric]}, trained on all others"] * left_out
    ceilings = [zoo["target"]["tau_max"] for zoo in result["zoos"].values() if zoo["target"]]
    rows.append(
        ["*ceiling of τ_b for predictors without ties*", f"{statistics.fmean(ceilings):.3f}"]
    )
    return table(head, [row + [""] * (len(head) - len(row)) for row in rows])


def _transfer_cells(
    runs: Sequence[Mapping[str, Any]], zoos: Sequence[str]
) -> tuple[list[Cell], list[Cell]]:
    """Cells tested on a zoo that was trained on, and cells tested on other zoos."""
    seen, others = list[Cell](), list[Cell]()
    for sources in distinct(runs, "sources"):
        for name in zoos:
            found = cell(runs, name, sources=sources)
            if found.scores or found.diverged:
                (seen if name in sources else others).append(found)
    return seen, others


def main_cells(result: Result, predictor: str) -> list[Cell]:
    """The cells of a predictor that the benchmark asks for.

    These are the main target in the layout of rows, all models in that of curves, and the zoos
    that a predictor was not trained on in that of matrices.

    Args:
        result: result of a benchmark.
        predictor: name of the predictor.
    """
    runs = [
        run
        for run in result["runs"]
        if value_of(run, "predictor") == predictor and run["target"] == result["target"]
    ]
    zoos = list(result["zoos"])
    if result["layout"] == "matrix":
        return _transfer_cells([run for run in runs if len(run["sources"]) == 1], zoos)[1]
    most = max((run["fraction"] for run in runs), default=1.0)
    return [cell(runs, zoos[0], fraction=most)]


def mean_text(cells: Sequence[Cell], metric: str) -> str:
    """Mean over cells ± the deviation of that mean over seeds.

    Where fits diverged, the seeds have no means over the same cells. The text is then the mean of
    the remaining cells' means, without a deviation.

    Args:
        cells: cells of a predictor.
        metric: metric of the cells.
    """
    note = diverged_note(cells)
    cells = [found for found in cells if found.scores]
    if not cells or any(math.isnan(found.mean(metric)) for found in cells):
        return note or NOT_DEFINED
    if note:
        return noted(f"{statistics.fmean(found.mean(metric) for found in cells):.3f}", note)
    seeds = min(one.count for one in cells)
    by_seed = [statistics.fmean(c.scores[seed][metric] for c in cells) for seed in range(seeds)]
    spread = f" ± {statistics.stdev(by_seed):.3f}" if seeds > 1 else ""
    return f"{statistics.fmean(by_seed):.3f}{spread}"


def _row_tables(result: Result) -> str:
    """One table per target, with one row per predictor."""
    return "\n\n".join(
        f"## {target}\n\n{target_table(result, target)}"
        for target in distinct(result["runs"], "target")
    )


def target_table(result: Result, target: str) -> str:
    """Scores of one target by predictor, with the 95 % interval of the first metric.

    Args:
        result: result of a benchmark.
        target: column that was predicted.
    """
    runs = [run for run in result["runs"] if run["target"] == target]
    zoo = list(result["zoos"])[0]
    numbers = any("tau_b" in run["scores"].get(zoo, {}) for run in runs)
    metrics = ["tau_b", "tau_share", "r2", "mae"] if numbers else ["accuracy", "majority"]
    if result["metric"] == "mse":
        metrics = ["mse", "tau_b", "r2"]
    head = ["predictor", *(HEADS.get(name, name) for name in metrics), "95 % interval"]
    extra = [("invariance error, valid", "hidden"), ("invariance error, invalid", "uncoupled")]
    shows_invariance = result["metric"] == "mse"
    shows_above = any("above_chance" in run["scores"].get(zoo, {}) for run in runs)
    head += [name for name, _ in extra] if shows_invariance else ["within strata"] * numbers
    head += [f"{HEADS['tau_b']}, above chance"] * shows_above
    rows = []
    for predictor in distinct(runs, "predictor"):
        found = cell(runs, zoo, predictor=predictor)
        row = [predictor, *(found.text(name) for name in metrics), found.interval(metrics[0])]
        if shows_invariance:
            row += [_invariance_text(found, group) for _, group in extra]
        elif numbers:
            row += [_strata_text(found)]
        row += [found.part("above_chance").text("tau_b")] * shows_above
        rows.append([*row, _seconds_text(runs, predictor)])
    made = table([*head, "seconds of a fit"], rows)
    return f"{made}\n\n{INVARIANCE_NOTE}" if shows_invariance else made


def _curve_tables(result: Result) -> str:
    """One row per predictor, one column per number of train models."""
    runs, metric = result["runs"], result["metric"]
    zoo = list(result["zoos"])[0]
    fractions = distinct(runs, "fraction")
    rows = [
        [
            predictor,
            *(cell(runs, zoo, predictor=predictor, fraction=f).text(metric) for f in fractions),
        ]
        for predictor in distinct(runs, "predictor")
    ]
    models = {
        fraction: next(run["train_models"] for run in runs if run["fraction"] == fraction)
        for fraction in fractions
    }
    head = [f"{HEADS[metric]} by train models", *(str(models[fraction]) for fraction in fractions)]
    return f"{table(head, rows)}\n\n{VAL_WHOLE}"


LAYOUTS = {"matrix": _matrix_tables, "rows": _row_tables, "curve": _curve_tables}


def _published_table(result: Result) -> str:
    """Figures printed in papers beside ours, with a warning that they are not comparable."""
    figures = PUBLISHED.get(result["benchmark"], [])
    if not figures:
        return UNPRINTED.get(result["benchmark"], "None known.")
    zoo = list(result["zoos"])[0]
    metric = {"τ": "tau_b", "MSE": "mse"}
    rows = []
    for figure in figures:
        ours = cell(result["runs"], zoo, predictor=figure.ours, target=result["target"])
        shown = ours.text(metric[figure.metric]) if result["layout"] == "rows" else ""
        rows.append(
            [f"{figure.method} ({figure.metric})", f"{figure.value:g}", shown or NOT_DEFINED]
            + [figure.population, figure.source]
        )
    head = ["method", "published", "ours, same method", "published on", "source"]
    return f"{NOT_COMPARABLE}\n\n{table(head, rows)}"


def _circumstances(result: Result) -> str:
    done, environment = result["runs"], result["environment"]
    reused = sum(run["reused"] for run in done)
    return (
        f"`{result['command']}`, seeds {', '.join(map(str, result['seeds']))}; {len(done)} fits "
        f"({reused} from an earlier start), {sum(run['seconds'] or 0 for run in done):.0f} s of "
        f"fitting; this start took {result['seconds']:.0f} s, "
        f"{result['build_seconds']:.0f} s of them to build zoos, with {result['workers']} workers "
        f"on {environment['machine']}, "
        f"torch {environment['torch']}, weightzoo {environment['weightzoo']} "
        f"{environment.get('commit', '')[:10] or '(no commit known)'}. Scores are mean ± "
        "standard deviation over seeds; 95 % intervals are for the first seed, by bootstrap over "
        "test models, not rows. τ_b: Kendall's rank correlation with ties; its ceiling is that of "
        "predictors without ties of their own; within strata: mean τ_b within groups of models "
        "with equal hyper-parameters; MAE, MSE: mean absolute and squared error."
        + (f" {CHOSEN_NOTE}" if result.get("only") else "")
    )


def _zoo_table(result: Result) -> str:
    rows = []
    for name, zoo in result["zoos"].items():
        counts = [f"{zoo['models'][s]} / {zoo['rows'][s]}" for s in ("train", "val", "test")]
        target = zoo["target"] or {}
        numbers = [target.get(key) for key in ("mean", "deviation", "tau_max")]
        shown = [NOT_DEFINED if number is None else f"{number:.3f}" for number in numbers]
        rows.append(
            [name, zoo["images"] or NOT_DEFINED, zoo["architecture"], f"{zoo['parameters']:,}"]
            + [*counts, *shown]
        )
    head = ["zoo", "images", "architecture", "parameters", "train models / rows", "val", "test"]
    head += [f"mean {result['target']}", "deviation", "ceiling of τ_b"]
    notes = [
        f"- {name}: {line}"
        for name, zoo in result["zoos"].items()
        for line in protocol_notes(zoo.get("splitting", {}))  # older results have none
    ]
    ceilings = {n: zoo["accuracy"] for n, zoo in result["zoos"].items() if "accuracy" in zoo}
    parts = [table(head, rows), _ceiling_table(ceilings) if ceilings else "", "\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


def _ceiling_table(ceilings: Mapping[str, Mapping[str, Any]]) -> str:
    """What test accuracy can be predicted to at all, by zoo."""
    keys = ("measurement", "oracle", "above_chance")
    rows = []
    for name, found in ceilings.items():
        images = NOT_DEFINED if found["images"] is None else str(found["images"])
        numbers = [found[key] for key in keys]
        shown = [NOT_DEFINED if number is None else f"{number:.3f}" for number in numbers]
        rows.append([name, images, *shown])
    head = ["test rows of zoo", "test images", "measurement ceiling of τ_b"]
    head += ["τ_b of accuracy on val images", "share above chance"]
    return f"{table(head, rows)}\n\n{CEILING_NOTE}"


def _comparisons(result: Result) -> str:
    """Section with the paired comparisons; empty where the result has none."""
    made = comparison_table(result, HEADS[result["metric"]])
    return f"## Compared in pairs\n\n{made}" if made else ""


def _refusals(result: Result) -> str:
    """Reasons for empty cells and for targets that were left out."""
    reasons: dict[str, str] = {}
    for run in result["runs"]:
        for reason in run["refused"].values():
            reasons.setdefault(run["predictor"]["name"], reason)
    lines = [f"- {name}: {reason}" for name, reason in (reasons | result["left_out"]).items()]
    return "Left out:\n\n" + "\n".join(lines) if lines else ""


def _divergences(result: Result) -> str:
    """Number of diverged fits of each predictor, with the first error."""
    lines = []
    for predictor in distinct(result["runs"], "predictor"):
        own = [run for run in result["runs"] if value_of(run, "predictor") == predictor]
        reasons = [reason for run in own for reason in run.get("diverged", {}).values()]
        fits = sum(bool(run.get("diverged")) for run in own)
        if reasons:
            lines.append(f"- {predictor}: {fits} of {len(own)} fits; {reasons[0]}")
    return "Diverged, and in no mean:\n\n" + "\n".join(lines) if lines else ""


def _invariance_text(found: Cell, group: str) -> str:
    values = [(scores.get("invariance") or {}).get(group) for scores in found.scores]
    relative = [value["relative"] for value in values if value and value["relative"] is not None]
    return f"{statistics.fmean(relative):.2g}" if relative else NOT_DEFINED


def _strata_text(found: Cell) -> str:
    """Mean tau_b within groups of equal hyper-parameters, over factors and seeds."""
    taus = [
        group["mean"]
        for scores in found.scores
        for group in scores.get("strata", {}).values()
        if group["mean"] is not None
    ]
    return f"{statistics.fmean(taus):.3f}" if taus else NOT_DEFINED


def _seconds_text(runs: Sequence[Mapping[str, Any]], predictor: str) -> str:
    seconds = [run["seconds"] for run in runs if value_of(run, "predictor") == predictor]
    known = [value for value in seconds if value is not None]
    return f"{statistics.fmean(known):.1f}" if known else NOT_DEFINED
