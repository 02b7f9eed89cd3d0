"""Report of the merging benchmark: tables by scenario, compared pairs, and what they say.

Shape letters: F families.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...tasks.inspection.plots import figure, save

FORMAT = "weightzoo-merging-1"
RESAMPLES = 10_000
SINGLE, PICK = "best single member", "picked on val among all merges"
HINDSIGHT = "best merge in hindsight"
PAIRS = (  # named before the run
    ("mean", SINGLE),
    ("task_arithmetic", SINGLE),
    ("regmean", "mean"),
    ("regmean++", "regmean"),
    ("search: cma", "mean"),
    (PICK, SINGLE),
    ("ensemble of members", SINGLE),
    ("mixture of members: trained gate", PICK),
    ("mixture of members: trained gate", "ensemble of members"),
    ("mixture of members: prototype gate", "mixture of members: random gate"),
    ("mixture of two merges: trained gate", "task_arithmetic"),
    ("control: with the other family, aligned, REPAIR", "control: with the other family, aligned"),
)
NOTES = f"""Every choice, that of the best single member included, looks at val images of all
domains of the scenario; test images are used once. Intervals are 95 %, from resampling the
families; families of one seed share their image sets. *Evaluations* counts looks at the val
accuracy of a network. *{PICK}* tries every method and every search and
takes the best on val. *{HINDSIGHT}* is chosen on test and no method. The rows *rule* are what
the rule by kinship (`tasks.merge_methods.kinship`) names before any merge is evaluated, by what is
known; its order of methods was read from val figures of the small benchmark. *Regret* is what the
best merge in hindsight has more. An *oracle* counts an image as right if any expert
is right. Mixtures of *two merges* hold those of both families of a seed, so that two families share
nearly the same mixture."""

Units = Sequence[Mapping[str, Any]]


def merging_markdown(result: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    units, lines = result["units"], ["# Merging families of image networks", ""]
    recovered = sum(unit["families_recovered"] for unit in units)
    seconds = sum(unit["seconds"] for unit in units)
    lines += [
        f"`{result['command']}`: {len(units)} families from {len(result['seeds'])} seeds, "
        f"{seconds:.0f} s of one process for their rows on {result['environment']['machine']}. "
        f"The two planted families and the unrelated networks were told apart in {recovered} of "
        f"{len(units)} cases.",
        "",
        NOTES,
        "",
    ]
    for scenario in result["domains"]:
        own = of_scenario(units, scenario)
        lines += _scenario(scenario, own, result)
    lines += [
        "## Named pairs",
        "",
        "The pairs were named in the code before the run.",
        "",
        *_pairs(result),
    ]
    return "\n".join([*lines, "", "![differences to the best single member](plot.png)", ""])


def of_scenario(units: Units, scenario: str) -> list[Mapping[str, Any]]:
    """The families of one scenario.

    Args:
        units: results of all families.
        scenario: name of the scenario.
    """
    return [unit for unit in units if unit["scenario"] == scenario]


def _scenario(scenario: str, units: Units, result: Mapping[str, Any]) -> list[str]:
    domains = ", ".join(result["domains"][scenario])
    similarity = np.mean([unit["similarity"] for unit in units])
    rows = summarised(units)
    return [
        f"## Scenario {scenario}",
        "",
        f"{len(units)} families of {units[0]['members']} members; judged on {domains}; mean column "
        f"cosine within a family {similarity:.3f}.",
        "",
        *_table(rows),
        "",
        account(rows),
        "",
        "Regret of choices:",
        "",
        *_regrets(units),
        "",
        "Merges of random subsets of the members, probabilities on test:",
        "",
        *_subsets(units),
        "",
        "Choices that see few val images: test accuracy, val less test accuracy in brackets, and "
        "what the few images cost on test against a choice on all of them.",
        "",
        *_overfitting(units),
        "",
    ]


def summarised(units: Units) -> dict[str, dict[str, Any]]:
    """Means over families by row, and the difference to the best single member.

    Args:
        units: results of the families of one scenario.
    """
    names = [name for name in units[0]["rows"] if all(name in unit["rows"] for unit in units)]
    rows = {}
    for name in names:
        test_F, val_F = _column(units, name, "test"), _column(units, name, "val")
        mean, interval = difference(units, name, SINGLE)
        rows[name] = {
            "test": float(test_F.mean()),
            "difference": mean,
            "interval": interval,
            "gap": float((val_F - test_F).mean()),
            "evaluations": float(_column(units, name, "evaluations").mean()),
        }
    return rows


def difference(units: Units, one: str, other: str) -> tuple[float, tuple[float, float]]:
    """Mean difference in test accuracy of two rows within families, and its 95 % interval.

    Args:
        units: results of F families.
        one: name of a row.
        other: name of the row that is subtracted.
    """
    differences_F = _column(units, one, "test") - _column(units, other, "test")
    return mean_interval(differences_F)


def _column(units: Units, name: str, key: str) -> np.ndarray:
    return np.array([float(unit["rows"][name][key]) for unit in units])


def mean_interval(differences_F: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Mean of F differences, and its 95 % interval from resampling them.

    Args:
        differences_F: one difference per family.
    """
    count = len(differences_F)
    draws = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    low, high = np.quantile(differences_F[draws].mean(1), [0.025, 0.975])
    return float(differences_F.mean()), (float(low), float(high))


def _table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "| row | test | less the best single member | val less test | evaluations |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        low, high = row["interval"]
        lines.append(
            f"| {name} | {row['test']:.3f} | {row['difference']:+.3f} [{low:+.3f}, {high:+.3f}] | "
            f"{row['gap']:+.3f} | {row['evaluations']:.0f} |"
        )
    return lines


def account(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Which rows differ from the best single member beyond their interval.

    Args:
        rows: summarised rows.
    """
    usable = {
        name: row["interval"]
        for name, row in rows.items()
        if name != HINDSIGHT and not name.startswith("oracle")  # they look at test labels
    }
    better = [name for name, (low, _) in usable.items() if low > 0]
    worse = [name for name, (_, high) in usable.items() if high < 0]
    return (
        f"Better than the best single member beyond the interval: {', '.join(better) or 'none'}. "
        f"Worse: {', '.join(worse) or 'none'}."
    )


def _regrets(units: Units) -> list[str]:
    names = [name for name in units[0]["rows"] if name.startswith("rule, ")]
    lines = ["| chosen by | merges | regret on test |", "| --- | --- | ---: |"]
    for name in [PICK, *names, "mean", SINGLE]:
        regret, (low, high) = difference(units, HINDSIGHT, name)
        picks = dict.fromkeys(unit["rows"][name].get("pick", name) for unit in units)
        lines.append(f"| {name} | {', '.join(picks)} | {regret:.3f} [{low:.3f}, {high:.3f}] |")
    return lines


def _subsets(units: Units) -> list[str]:
    keys = ("beats_base", "beats_best_single")
    lines = [
        "| method | beats the base | beats the best member of the subset |",
        "| --- | ---: | ---: |",
    ]
    for method in units[0]["subsets"]:
        base, single = (np.mean([unit["subsets"][method][key] for unit in units]) for key in keys)
        lines.append(f"| {method} | {base:.2f} | {single:.2f} |")
    return lines


def _overfitting(units: Units) -> list[str]:
    """One row per choice and number of val images."""
    lines = [
        "| chosen by | val images | test (val less test) | cost on test |",
        "| --- | ---: | ---: | ---: |",
    ]
    counts = list(units[0]["overfitting"])
    for name in units[0]["overfitting"][counts[0]]:
        whole = _column(units, name, "test")
        lines.append(f"| {name} | all | {_cell([unit['rows'][name] for unit in units])} | |")
        for count in counts:
            rows = [unit["overfitting"][count][name] for unit in units]
            cost, (low, high) = mean_interval(whole - [float(row["test"]) for row in rows])
            cells = f"{_cell(rows)} | {cost:+.3f} [{low:+.3f}, {high:+.3f}]"
            lines.append(f"| {name} | {count} | {cells} |")
    return lines


def _cell(rows: Sequence[Mapping[str, float]]) -> str:
    test = np.mean([row["test"] for row in rows])
    return f"{test:.3f} ({np.mean([row['val'] for row in rows]) - test:+.3f})"


def _pairs(result: Mapping[str, Any]) -> list[str]:
    scenarios = list(result["domains"])
    lines = [
        f"| pair | {' | '.join(scenarios)} |",
        f"| --- |{' ---: |' * len(scenarios)}",
    ]
    for one, other in PAIRS:
        cells = []
        for scenario in scenarios:
            mean, (low, high) = difference(of_scenario(result["units"], scenario), one, other)
            cells.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        lines.append(f"| {one} − {other} | {' | '.join(cells)} |")
    return lines


def leaderboard_section(result: Mapping[str, Any]) -> str:
    """Section of the leaderboard: the main table of each scenario and the named pairs."""
    parts = [
        "## merging: what do merges and mixtures of a family add?\n",
        NOTES,
        "",
    ]
    for scenario in result["domains"]:
        own = of_scenario(result["units"], scenario)
        parts += [
            f"Scenario *{scenario}*, {len(own)} families of {own[0]['members']} members:",
            "",
            *_table(summarised(own)),
            "",
            *_regrets(own),
            "",
        ]
    parts += ["Pairs named before the run, difference in test accuracy:", "", *_pairs(result), ""]
    environment, seeds = result["environment"], ", ".join(map(str, result["seeds"]))
    parts.append(
        f"`{result['command']}`, seeds {seeds}; {environment['machine']}, torch "
        f"{environment['torch']}.\n"
    )
    return "\n".join(parts)


def plot_merging(result: Mapping[str, Any], path: Path) -> None:
    """Draw the difference of every row to the best single member, with its interval.

    Args:
        result: result of the benchmark.
        path: PNG file to write.
    """
    scenarios = list(result["domains"])
    drawing, axes = figure(len(scenarios))
    drawing.set_size_inches(5 * len(scenarios), 7)
    for axis, scenario in zip(axes, scenarios, strict=True):
        rows = summarised(of_scenario(result["units"], scenario))
        names = list(rows)[::-1]
        middle = np.array([rows[name]["difference"] for name in names])
        ends = np.array([rows[name]["interval"] for name in names]).T
        spread = np.abs(ends - middle)
        axis.errorbar(middle, range(len(names)), xerr=spread, fmt="o", markersize=3)
        axis.axvline(0, color="gray", linewidth=1)
        axis.set_yticks(range(len(names)), names, fontsize=5)
        axis.set_xlabel("test accuracy less that of the best single member", fontsize=7)
        axis.set_title(scenario, fontsize=8)
    save(drawing, path, grid=False)
