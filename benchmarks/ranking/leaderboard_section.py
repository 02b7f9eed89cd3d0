"""Section of the leaderboard that a result file of a benchmark of rankers gives."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .claims import interval_note

QUESTIONS = {
    "ranking": "which pre-trained model is best to fine-tune?",
    "ood-ranking": "which pre-trained model is best for an unseen domain?",
}
HEAD = (
    "| ranker | tau_w, target held out | tau_w, family held out | τ_b, family | regret@1, family | "
    "regret@3, family | gain over the fixed order, family |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
)


def leaderboard_section(data: Mapping[str, Any]) -> str:
    """Markdown of one result file.

    Args:
        data: what `result.json` of `weightzoo benchmark ranking` or `ood-ranking` holds.
    """
    verdict, protocol = data["verdict"], data["protocol"]
    families = sorted(set(verdict["families"].values()))
    ceiling = verdict["ceiling"]
    parts = [
        f"## {data['benchmark']}: {_question(data)}",
        "\n".join([*HEAD, *_rows(verdict["rows"])]),
        f"{verdict['models']} models, {len(verdict['families'])} targets in {len(families)} "
        f"families, {verdict['seeds']} seeds of {protocol['epochs']} epochs with "
        f"{protocol['shots']} images a class. Seed-to-seed agreement of the truth: tau_w "
        f"{_number(ceiling['tau_w'])}, τ_b {_number(ceiling['tau_b'])}. tau_w is the weighted tau "
        "with ranks by the truth; regret is the best accuracy minus that of the first model, or of "
        "the best of the first three. Gains are differences of tau_w with 95 % intervals "
        f"{interval_note(list(verdict['families'].values()))}, corrected for the number of all "
        "rows; named comparisons are corrected for the number in their table.",
        *(_claims(measure, claims) for measure, claims in data["claims"].items()),
    ]
    if "accuracies" in data:
        parts.append(_accuracies(data["accuracies"]))
    machine = data["environment"]
    parts.append(f"`{data['command']}`; {machine['machine']}, torch {machine['torch']}.\n")
    return "\n\n".join(part for part in parts if part)


def _question(data: Mapping[str, Any]) -> str:
    """The question, with the image set of the user if there was one."""
    images = data.get("images")
    return QUESTIONS[data["benchmark"]] + (f" Targets of digits and {images}" if images else "")


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per ranker, the best with the family held out first."""
    ways: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        ways.setdefault(row["ranker"], {})[row["hold_out"]] = row
    ranked = sorted(ways.items(), key=lambda pair: -_key(pair[1]))
    return [_line(name, way) for name, way in ranked]


def _key(ways: Mapping[str, Mapping[str, Any]]) -> float:
    value = ways.get("family", ways["target"])["means"]["tau_w"]
    return -np.inf if value is None else float(value)


def _line(name: str, ways: Mapping[str, Mapping[str, Any]]) -> str:
    own, family = ways["target"], ways.get("family", ways["target"])
    means = [_number(family["means"][key]) for key in ("tau_w", "tau_b", "regret_1", "regret_3")]
    gain = "" if family["gain"] is None else _interval(family["gain"])
    bold = f"**{name}**" if name == "fixed order" else name
    return "| " + " | ".join([bold, _number(own["means"]["tau_w"]), *means, gain]) + " |"


def _claims(measure: str, claims: Sequence[Mapping[str, Any]]) -> str:
    """The comparisons that were named before the run."""
    if not claims:
        return ""
    lines = [f"| named before the run | held out | {measure} |", "| --- | --- | ---: |"]
    for one in claims:
        pair = f"{one['first']} against {one['second']}"
        lines.append(f"| {pair} | {one['under'] or '–'} | {_interval(one['difference'])} |")
    return "\n".join(lines)


def _accuracies(accuracies: Mapping[str, Sequence[float]]) -> str:
    """Accuracy on the unseen domain by choice, best first."""
    lines = ["| choice | accuracy on the unseen domain |", "| --- | ---: |"]
    means = {way: float(np.mean(values)) for way, values in accuracies.items()}
    for way, mean in sorted(means.items(), key=lambda pair: -pair[1]):
        lines.append(f"| {way} | {mean:.3f} |")
    return "\n".join(lines)


def _interval(gain: Mapping[str, float]) -> str:
    star = " \\*" if gain["low"] > 0 or gain["high"] < 0 else ""
    return f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]{star}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
