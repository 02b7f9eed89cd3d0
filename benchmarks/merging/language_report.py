"""Report of the language benchmark: bits per byte of three domains; lower is better.

Shape letters: F families.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .report import HINDSIGHT, PICK, SINGLE, mean_interval

FORMAT = "weightzoo-merging-language-1"
PAIRS = (  # named before the run
    ("mean", SINGLE),
    ("task_arithmetic", SINGLE),
    (PICK, SINGLE),
    (PICK, "base"),
    (PICK, HINDSIGHT),
    ("rule, base known", HINDSIGHT),
    ("ensemble of probabilities", SINGLE),
    ("mixture of models: loss of the prefix", PICK),
    ("block mixture: fitted gates", "block mixture: random gates"),
    ("block mixture: fitted gates", "block mixture: prompt gates"),
    ("block mixture: fitted gates", "mean"),
    ("model mixture: fitted gates", "block mixture: fitted gates"),
    ("model mixture: fitted gates", "mixture of models: loss of the prefix"),
    ("block mixture: all trained", "mean, trained as long"),
    ("FFN mixture: prompt gates", "FFN mixture: random gates"),
    ("FFN mixture: gates trained", "mean, trained as long"),
    ("FFN mixture: all trained", "mean, trained as long"),
    ("stack, concatenated, trained", "mean, trained as long"),
)
NOTES = f"""Bits per byte on test text, after the first 32 bytes of a window; lower is better.
Scales, weights and picks look at val text; test text is used once. Differences have 95 % intervals
from resampling the families. *{PICK}* takes the best of all methods and the
search on val; *{HINDSIGHT}* is chosen on test and no method. The rows *rule* are what the
rule by kinship names before any merge is evaluated. *Cloze* is the share of test windows whose own
last 16 bytes are more likely than those of three other windows (chance 0.25). Block and model
mixtures choose decoder layers by the hidden state of the first 32 bytes; *fitted* gates are a
regression from that state to the domain on train text, *trained* rows train on all domains. Rows
stand for the families that have them."""
Units = Sequence[Mapping[str, Any]]


def language_markdown(result: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    corpus = ", ".join(
        f"{name} ({one['bytes']['train']} train bytes, {one['fingerprint'][:12]})"
        for name, one in result["corpus"].items()
    )
    told = "were" if result["families_recovered"] else "were not"
    return "\n".join(
        [
            "# Merging families of language models",
            "",
            f"`{result['command']}`: {len(result['units'])} families of "
            f"{result['units'][0]['members']} children, {_models(result)}. Corpus: {corpus}. The "
            f"families {told} recovered from the weights.",
            "",
            *_body(result),
            *_by_architecture(result),
        ]
    )


def leaderboard_section(result: Mapping[str, Any]) -> str:
    """Section of the leaderboard: the table of rows and the named pairs."""
    environment, seeds = result["environment"], ", ".join(map(str, result["seeds"]))
    return "\n".join(
        [
            "## merging-language: what do merges and mixtures of language models add?\n",
            *_body(result),
            f"`{result['command']}`, seeds {seeds}; {_models(result)}; "
            f"{environment['machine']}, torch {environment['torch']}, transformers "
            f"{environment['transformers']}.\n",
        ]
    )


def _body(result: Mapping[str, Any]) -> list[str]:
    units, domains = result["units"], list(result["corpus"])
    lines = [NOTES, "", *_table(units, domains), ""]
    lines += ["Pairs named before the run, difference in mean bits per byte:", ""]
    lines += ["| pair | difference | families |", "| --- | ---: | ---: |"]
    for one, two in PAIRS:
        both = [unit for unit in units if {one, two} <= set(unit["rows"])]
        if both:
            lines.append(f"| {one} − {two} | {_difference(both, one, two)} | {len(both)} |")
    return [*lines, ""]


def _by_architecture(result: Mapping[str, Any]) -> list[str]:
    """The table of every architecture alone, where there are several."""
    kinds = dict.fromkeys(unit.get("architecture") for unit in result["units"])
    lines = list[str]()
    for kind in kinds if len(kinds) > 1 else ():
        own = [unit for unit in result["units"] if unit["architecture"] == kind]
        lines += [f"## Architecture {kind}", "", *_table(own, list(result["corpus"])), ""]
    return lines


def _table(units: Units, domains: Sequence[str]) -> list[str]:
    """One line per row; the mean of the families that have it."""
    lines = [
        f"| row | {' | '.join(domains)} | mean | less the best single member | cloze | "
        "evaluations | families |",
        f"| --- |{' ---: |' * (len(domains) + 5)}",
    ]
    for name in dict.fromkeys(name for unit in units for name in unit["rows"]):
        own = [unit for unit in units if name in unit["rows"]]
        cells = [f"{_column(own, name, one).mean():.3f}" for one in (*domains, "mean")]
        spent = np.mean([unit["rows"][name]["evaluations"] for unit in own])
        cells += [_difference(own, name, SINGLE), _cloze(own, name), f"{spent:.0f}", f"{len(own)}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cloze(units: Units, name: str) -> str:
    """Mean cloze accuracy; a dash where a row has none."""
    rows = [unit["rows"][name] for unit in units]
    if not all("cloze" in row for row in rows):
        return "–"
    return f"{np.mean([row['cloze']['mean'] for row in rows]):.3f}"


def _column(units: Units, name: str, domain: str) -> np.ndarray:
    """(F,): bits per byte of a row on test."""
    return np.array([float(unit["rows"][name]["test"][domain]) for unit in units])


def _difference(units: Units, one: str, other: str) -> str:
    mean, (low, high) = mean_interval(_column(units, one, "mean") - _column(units, other, "mean"))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _models(result: Mapping[str, Any]) -> str:
    """Kinds of models with their numbers of parameters."""
    counts = result["parameters"]
    if isinstance(counts, int):  # of one kind, as results of the first version say it
        return f"models of {counts} parameters"
    return (
        "models of " + " and ".join(f"{n} ({kind})" for kind, n in counts.items()) + " parameters"
    )
