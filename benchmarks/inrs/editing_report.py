"""Report of the benchmark `inr-editing`, made from its result file alone.

Shape letters: N test networks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...tasks.inspection.plots import figure, save
from ...tasks.scoring.ranks import difference
from ..cells import NOT_DEFINED, table

FORMAT = "weightzoo-editing-1"
NO_EDIT, MEAN, FLAT = "no edit", "mean edit", "flat MLP"
EDITOR, CEILING = "equivariant editor", "ceiling: trained on the dilated image"
PAIRS = (  # named before the run
    (MEAN, NO_EDIT),
    (FLAT, MEAN),
    (EDITOR, NO_EDIT),
    (EDITOR, MEAN),
    (EDITOR, FLAT),
    (CEILING, EDITOR),
)
UNIT = 1000  # errors are shown in thousandths
ABOUT = f"""An editor maps the weights of an implicit neural representation (INR) to weights whose
image is the dilated one: each pixel becomes the largest of its 3 x 3 neighbours. The score is the
mean squared error of the rendered image, pixels from 0 to 1, in thousandths, on test networks.
*{MEAN}* adds one learned change to all networks; *{FLAT}* is a perceptron over all weights;
*{EDITOR}* commutes with reordered hidden units. *Outputs averaged*: the images of the networks that
several editors make are averaged. The *ceiling* trains each network further on its dilated image.
Errors are means over seeds; intervals are 95 %, by bootstrap over test networks."""
PUBLISHED = (
    "Published errors are of MNIST INRs with pixels from -1 to 1, four times those here, and not "
    "comparable: 0.0510 to 0.0106 (arXiv 2602.01083)."
)


def averaged(editors: int) -> str:
    """Name of the row of averaged outputs of that many editors."""
    return f"{EDITOR}, {editors} outputs averaged"


def editing_markdown(result: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    models = result["models"]
    counts = " / ".join(str(models[split]) for split in ("train", "val", "test"))
    parts = [
        "# inr-editing: can weights be edited so that the image is dilated?",
        f"`{result['command']}`, seeds {', '.join(map(str, result['seeds']))}; zoo "
        f"{result['zoo']['name']}, {counts} models for training, val and test; "
        f"{result['seconds']:.0f} s on {result['environment']['machine']}, torch "
        f"{result['environment']['torch']}, weightzoo {result['environment']['weightzoo']}.",
        ABOUT,
        row_table(result),
        "## Named pairs",
        pair_table(result),
        PUBLISHED,
        "![errors of the editors](plot.png)",
    ]
    return "\n\n".join(parts) + "\n"


def leaderboard_section(result: Mapping[str, Any]) -> str:
    """The section of the leaderboard."""
    models = result["models"]["test"]
    return (
        "## inr-editing: can weights be edited so that the image is dilated?\n\n"
        f"{ABOUT}\n\n{row_table(result)}\n\n{pair_table(result)}\n\n"
        f"`{result['command']}`, seeds {', '.join(map(str, result['seeds']))}; tested on "
        f"{result['zoo']['name']} {models} models; {result['environment']['machine']}, torch "
        f"{result['environment']['torch']}.\n"
    )


def row_table(result: Mapping[str, Any]) -> str:
    """Error of every editor, with its interval and the seconds of a fit."""
    rows = []
    for name, row in result["rows"].items():
        found = difference(_errors(row), np.zeros(result["models"]["test"]))
        seeds = row["by_seed"]
        spread = f" ± {UNIT * np.std(seeds, ddof=1):.2f}" if len(seeds) > 1 else ""
        seconds = NOT_DEFINED if row["seconds"] is None else f"{row['seconds']:.0f}"
        interval = f"{UNIT * found.low:.2f} to {UNIT * found.high:.2f}"
        rows.append([name, f"{UNIT * found.mean:.2f}{spread}", interval, seconds])
    return table(["editor", "error, 1/1000", "95 % interval", "seconds of a fit"], rows)


def pair_table(result: Mapping[str, Any]) -> str:
    """Paired differences on the same networks; the level is corrected for the number of pairs."""
    pairs = [*PAIRS, *((name, EDITOR) for name in result["rows"] if name.endswith("averaged"))]
    rows = []
    for one, other in pairs:
        first, second = (_errors(result["rows"][name]) for name in (one, other))
        gap = difference(first, second, comparisons=len(pairs))
        interval = f"{UNIT * gap.low:+.2f} to {UNIT * gap.high:+.2f}"
        rows.append([f"{one} − {other}", f"{UNIT * gap.mean:+.2f}", interval])
    level = f"interval, 95 % for all {len(pairs)} pairs together"
    return table(["pair, named before the run", "difference of errors, 1/1000", level], rows)


def plot_editing(result: Mapping[str, Any], path: Path) -> None:
    """Draw the error of every editor on a logarithmic axis.

    Args:
        result: result of the benchmark.
        path: PNG file to write.
    """
    names = list(result["rows"])
    every = [_errors(result["rows"][name]) for name in names]
    found = [difference(errors, np.zeros(len(errors))) for errors in every]
    means = np.array([one.mean for one in found])
    ends = np.abs(np.array([[one.low, one.high] for one in found]).T - means)
    drawing, (axis,) = figure(1)
    axis.errorbar(means, names, xerr=ends, fmt="o", capsize=2)
    axis.set_xscale("log")
    axis.set_xlabel("mean squared error of the dilated image, test networks, 95 % interval")
    save(drawing, path)


def _errors(row: Mapping[str, Any]) -> np.ndarray:
    """Errors of an editor, means over seeds, (N,)."""
    errors: Sequence[float] = row["errors"]
    return np.asarray(errors, np.float64)
