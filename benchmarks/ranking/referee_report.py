"""The referee's verdict as a Markdown report."""

from collections.abc import Mapping, Sequence

import numpy as np

from .referee import FIXED, HOLD_OUTS, RANDOM, Row, Verdict, drawn_families

COLUMNS = {
    "tau_w": "tau_w",
    "tau_w_both": "tau_w (both)",
    "tau_b": "tau_b",
    "pearson": "Pearson",
    "regret_1": "regret@1",
    "regret_3": "regret@3",
}
NOTES = """Weighted tau with ranks by the truth (tau_w) and by both sides; means over targets.
Regret: best accuracy minus that of the first model, or of the best of the first three. Picks:
different models ranked first. Gain: tau_w minus that of the fixed order, with a 95 % bootstrap
interval over {drawn}, corrected for {comparisons} comparisons (Bonferroni); a star where it leaves
out 0.
"""


def report_text(title: str, verdict: Verdict, notes: Sequence[str] = ()) -> str:
    """The whole report.

    Args:
        title: its first line.
        verdict: what the referee found.
        notes: further lines before the tables, such as costs.
    """
    families = sorted(set(verdict.families.values()))
    parts = [
        f"# {title}",
        f"{verdict.models} models, {len(verdict.families)} targets in {len(families)} families, "
        f"{verdict.seeds} seeds of the fine-tuning, {verdict.missing} cells not run.",
        _ceiling(verdict.ceiling),
        *notes,
    ]
    for way in HOLD_OUTS:
        rows = [row for row in verdict.rows if row.hold_out == way]
        if rows:
            drawn = drawn_families(list(verdict.families.values())) if way == "family" else None
            note = _notes(rows, "targets" if drawn is None else "families")
            parts += [f"## {way.capitalize()} held out", table(rows), note]
    refused = [
        f"- {row.ranker} ({row.hold_out}): {row.failed}" for row in verdict.rows if row.failed
    ]
    return (
        "\n\n".join([*parts, *(["Could not rank:", "\n".join(refused)] if refused else [])]) + "\n"
    )


def table(rows: Sequence[Row]) -> str:
    """One way of holding out, best mean weighted tau first; the fixed order is bold."""
    ranked = sorted((row for row in rows if not row.failed), key=lambda row: -row.means["tau_w"])
    head = ["ranker", *COLUMNS.values(), "picks", "gain"]
    lines = [head, ["---"] * len(head), *(_cells(row) for row in ranked)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Row) -> list[str]:
    name = f"**{row.ranker}**" if row.ranker == FIXED else row.ranker
    if row.constant:
        name += f" (constant on {row.constant} targets)"
    means = [f"{row.means[key]:.3f}" for key in COLUMNS]
    if row.ranker == RANDOM:
        means[0] += f" ± {row.spread:.3f}"
    gain = (
        ""
        if row.gain is None
        else f"{row.gain.mean:+.3f} [{row.gain.low:+.3f}, {row.gain.high:+.3f}]"
    )
    if row.gain is not None and (row.gain.low > 0 or row.gain.high < 0):
        gain += " *"
    return [name, *means, "" if row.ranker == RANDOM else str(row.picks), gain]


def _ceiling(ceiling: Mapping[str, float]) -> str:
    if not np.isfinite(ceiling["tau_b"]):
        return "One seed of the fine-tuning: how far the truth repeats itself is not known."
    return (
        f"Seed-to-seed agreement of the truth: tau_w {ceiling['tau_w']:.3f}, tau_b "
        f"{ceiling['tau_b']:.3f}. No ranker can be told from a perfect one above it."
    )


def _notes(rows: Sequence[Row], drawn: str) -> str:
    counts = [row.gain.comparisons for row in rows if row.gain is not None]
    return NOTES.format(comparisons=counts[0] if counts else 1, drawn=drawn)
