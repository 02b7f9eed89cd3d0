"""Report of the language benchmark: bits per byte of three domains; lower is better.

Shape letters: F families.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .report import PICK, SINGLE, mean_interval

FORMAT = "weightzoo-merging-language-1"
PAIRS = (  # named before the run
    ("mean", SINGLE),
    ("task_arithmetic", SINGLE),
    (PICK, SINGLE),
    (PICK, "base"),
    ("ensemble of probabilities", SINGLE),
    ("mixture of models: loss of the prefix", PICK),
    ("FFN mixture: prompt gates", "FFN mixture: random gates"),
    ("FFN mixture: gates trained", "mean, trained as long"),
    ("FFN mixture: all trained", "mean, trained as long"),
    ("stack, concatenated, trained", "mean, trained as long"),
)
NOTES = f"""Bits per byte on test text, after the first 32 bytes of a window; lower is better.
Scales, weights and picks look at val text; test text is used once. Differences have 95 % intervals
from resampling the families. *{PICK}* takes the best of all methods and the
search on val."""


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
            f"{result['units'][0]['members']} children, models of {result['parameters']} "
            f"parameters. Corpus: {corpus}. The families {told} recovered from the weights.",
            "",
            *_body(result),
        ]
    )


def leaderboard_section(result: Mapping[str, Any]) -> str:
    """Section of the leaderboard: the table of rows and the named pairs."""
    environment, seeds = result["environment"], ", ".join(map(str, result["seeds"]))
    return "\n".join(
        [
            "## merging-language: what do merges and mixtures of language models add?\n",
            *_body(result),
            f"`{result['command']}`, seeds {seeds}; models of {result['parameters']} parameters; "
            f"{environment['machine']}, torch {environment['torch']}, transformers "
            f"{environment['transformers']}.\n",
        ]
    )


def _body(result: Mapping[str, Any]) -> list[str]:
    units = result["units"]
    domains = list(result["corpus"])
    head = " | ".join(domains)
    lines = [
        NOTES,
        "",
        f"| row | {head} | mean | less the best single member | evaluations |",
        f"| --- |{' ---: |' * (len(domains) + 3)}",
    ]
    for name in units[0]["rows"]:
        cells = [f"{_column(units, name, one).mean():.3f}" for one in (*domains, "mean")]
        spent = np.mean([unit["rows"][name]["evaluations"] for unit in units])
        cells += [_difference(units, name, SINGLE), f"{spent:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Pairs named before the run, difference in mean bits per byte:", ""]
    lines += ["| pair | difference |", "| --- | ---: |"]
    lines += [f"| {one} − {two} | {_difference(units, one, two)} |" for one, two in PAIRS]
    return [*lines, ""]


def _column(units: Sequence[Mapping[str, Any]], name: str, domain: str) -> np.ndarray:
    """(F,): bits per byte of a row on test."""
    return np.array([float(unit["rows"][name]["test"][domain]) for unit in units])


def _difference(units: Sequence[Mapping[str, Any]], one: str, other: str) -> str:
    mean, (low, high) = mean_interval(_column(units, one, "mean") - _column(units, other, "mean"))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
