"""The report of `weightzoo glue`: every step's decision and cost, as Markdown and as a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..merge_methods.kinship import DUPLICATE, LEAST_SIMILARITY, RULE_SCALES

RULE = f"""The *rule* names a merge from what is known of a family before any merge is evaluated.
One member, duplicates (mean column cosine above {DUPLICATE}) and members below
{LEAST_SIMILARITY} keep the best single one; a known base gives task arithmetic with its scale
chosen on val among {", ".join(map(str, RULE_SCALES))}; otherwise the search *average* finds
weights. Regret is what the best candidate in hindsight has more on test."""


def glue_markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"# Merging {len(report['members'])} models",
        "",
        f"{len(report['families'])} families, cut at a mean column cosine of {report['cut']:.3f} "
        f"(unrelated weights reach {report['null']:.3f}). {report['evaluations']} evaluations on "
        f"val data, {report['new_evaluations']} of them in the last start; "
        f"{report['seconds']:.0f} s. Methods are chosen on val data, test data are used once.",
        "",
        "![families](families.png)",
        "",
        "## Families",
        "",
        "| family | members | kept | similarity | chosen | val | test | in hindsight | regret | "
        "rule | its regret |",
        "|---:|---:|---:|---:|---|---:|---:|---|---:|---|---:|",
    ]
    for number, (row, test) in enumerate(zip(report["steps"], report["test"], strict=True)):
        best = max(test, key=lambda name: test[name])
        chosen = row["chosen"]
        lines.append(
            f"| {number} | {len(row['members'])} | {len(row['kept'])} | {row['similarity']:.3f} | "
            f"{chosen} | {row['candidates'][chosen]['val']:.4f} | {test[chosen]:.4f} | {best} | "
            f"{test[best] - test[chosen]:.4f} | {row['rule']} ({row['reason']}) | "
            f"{test[best] - test[row['rule']]:.4f} |"
        )
    lines += ["", RULE, "", "## Candidates", "", *_candidates(report)]
    if report["mixture"]:
        lines += ["", "## Mixture of the families' merges", "", *_mixture(report["mixture"])]
        lines += ["", "![accuracies](report.png)"]
    return "\n".join([*lines, ""])


def _candidates(report: Mapping[str, Any]) -> list[str]:
    lines = [
        "| family | candidate | val | test | evaluations | weights |",
        "|---:|---|---:|---:|---:|---|",
    ]
    for number, (row, test) in enumerate(zip(report["steps"], report["test"], strict=True)):
        for name, one in row["candidates"].items():
            named = [
                f"{report['members'][member]} {weight:.3g}"
                for member, weight in zip(row["kept"], one.get("weights", ()), strict=False)
                if weight > 0
            ] or [f"scale {one['scale']}"]
            lines.append(
                f"| {number} | {name} | {one['val']:.4f} | {test[name]:.4f} | "
                f"{one['evaluations']} | {', '.join(named)} |"
            )
    return lines


def _mixture(mixture: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = ["| row | val accuracy | test accuracy |", "|---|---:|---:|"]
    for name, value in mixture["test"].items():
        lines.append(f"| {name} | {mixture['val'][name]:.4f} | {value:.4f} |")
    return lines


def plot_glue(report: Mapping[str, Any], path: Path) -> None:
    """Draw the test scores of all candidates, and of the mixture if there is one.

    Args:
        report: report of the pipeline, plain data.
        path: path of the file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [
        (f"family {number}: {name}", value, name == row["chosen"])
        for number, (row, test) in enumerate(zip(report["steps"], report["test"], strict=True))
        for name, value in test.items()
    ]
    if report["mixture"]:
        rows += [(f"mixture: {name}", v, False) for name, v in report["mixture"]["test"].items()]
    rows.reverse()
    figure, axes = plt.subplots(figsize=(7, 1 + 0.22 * len(rows)), constrained_layout=True)
    colors = ["tab:orange" if chosen else "tab:blue" for _, _, chosen in rows]
    axes.barh(range(len(rows)), [value for _, value, _ in rows], color=colors)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=7)
    axes.set_xlabel("test score (orange: chosen on val)")
    figure.savefig(path, dpi=150)
    plt.close(figure)
