"""The command `weightzoo memorisation`: its report as Markdown, JSON and a plot.

Shape letters: M networks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...loaders import load_zoo
from ...loaders.concatenation import concatenate_zoos
from ...zoos.disk import write_whole
from ...zoos.errors import UnsuitableError
from ...zoos.strict_json import finite_or_null, json_text
from ..inspection.plots import figure, save
from .memorisation import GENERATED, MEASURES, Memorisation, difference_interval, judge_generated

HEADS = {
    "distance": "distance to nearest",
    "agreement": "agreement",
    "error_overlap": "overlap of errors",
    "accuracy": "accuracy",
}
REPORT, DATA, PLOT = "report.md", "report.json", "plot.png"


def write_memorisation(
    zoo: str | Path, generated: str | Path, out: Path, *, models: int = 100, seed: int = 0
) -> tuple[dict[str, Any], str]:
    """Judge a generated zoo, and write report, data and plot.

    Args:
        zoo: zoo that the generator was trained on.
        generated: generated zoo.
        out: output folder, created if missing.
        models: largest number of networks in every set.
        seed: seed of all draws.

    Returns:
        The data and the report.

    Raises:
        UnsuitableError: if the zoo has no train split, or for the reasons in `judge_generated`.
    """
    splits = load_zoo(zoo)
    if "train" not in splits:
        raise UnsuitableError(f"zoo {zoo} has no train split, it has {list(splits)}")
    unseen = [rows for split, rows in splits.items() if split != "train"]
    made = concatenate_zoos(list(load_zoo(generated).values()))
    found = judge_generated(splits["train"], unseen, made, models=models, seed=seed)
    data, text = to_json(found), to_markdown(found)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / DATA, f"{json_text(data, indent=1)}\n".encode())
    write_whole(out / REPORT, text.encode())
    draw(found, out / PLOT)
    return data, text


def to_json(found: Memorisation) -> dict[str, Any]:
    """The verdict, its intervals, and the measures of every network, as plain data."""
    data: dict[str, Any] = finite_or_null(
        {
            "zoo": found.zoo,
            "generated": found.generated,
            "images": found.images,
            "training_models": found.training_models,
            "not_finite": found.not_finite,
            "reference": found.reference,
            "verdict": found.verdict,
            "closer_than_unseen": found.is_closer,
            "beaten_by": found.beaten_by,
            "settings": dict(found.settings),
            "differences": {
                name: {measure: list(found.difference(measure, name)) for measure in MEASURES}
                for name in found.sets
                if name != GENERATED
            },
            "sets": {
                name: {field: values.tolist() for field, values in vars(one).items()}
                for name, one in found.sets.items()
            },
        }
    )
    return data


def to_markdown(found: Memorisation) -> str:
    """The verdict, a table of the sets, and how to read it."""
    head = ["networks", "number", *HEADS.values()]
    rows = [
        [name, str(len(one.distance)), *(_interval(found, name, measure) for measure in MEASURES)]
        for name, one in found.sets.items()
    ]
    lines = [
        f"# Memorisation: {found.generated}",
        "",
        f"**Verdict: {found.verdict}.** {_reasons(found)}",
        "",
        _line(head),
        _line(["---"] + ["---:"] * (len(head) - 1)),
        *map(_line, rows),
        "",
        f"Compared with the {found.training_models} training networks of {found.zoo} on the test "
        f"images of {found.images}, last checkpoints only; in brackets 95 % intervals over "
        "networks. Generated networks that are not finite, left out: "
        f"{found.not_finite}.",
        "",
        "- *Distance to nearest*: distance of the weights to the nearest training network after "
        "weight matching, layers standardised, in units of the mean distance between nearest "
        "training networks.",
        "- *Agreement*: largest share of images on which one training network predicts the same. "
        "*Overlap of errors*: largest intersection over union of misclassified images. Both rise "
        "with accuracy, so compare sets of equal accuracy.",
        f"- The generator memorised if its networks are closer to training networks than "
        f"{found.reference} are, by an interval that excludes zero. A control beats it unless an "
        "interval shows the generator to be more accurate, or farther from training networks.",
    ]
    return "\n".join(lines) + "\n"


def draw(found: Memorisation, path: Path) -> None:
    """Draw agreement and accuracy against the distance, a point per network.

    Args:
        found: judged networks.
        path: picture to write.
    """
    drawing, panels = figure(2)
    for panel, measure in zip(panels, ("agreement", "accuracy"), strict=True):
        for name, one in found.sets.items():
            size = 22 if name == GENERATED else 9
            panel.scatter(
                one.distance, getattr(one, measure), s=size, alpha=0.6, linewidths=0, label=name
            )
        panel.set(xlabel=HEADS["distance"], ylabel=HEADS[measure])
    panels[0].legend(fontsize=7)
    drawing.suptitle(f"{found.generated}: {found.verdict}")
    save(drawing, path)


def _reasons(found: Memorisation) -> str:
    parts = []
    for measure in ("distance", "agreement"):
        mean, low, high = found.difference(measure, found.reference)
        parts.append(
            f"{HEADS[measure]} minus that of {found.reference}: {mean:+.3f} "
            f"[{low:+.3f}, {high:+.3f}]"
        )
    beaten = ", ".join(found.beaten_by)
    last = f"as good, in accuracy and distance: {beaten}" if beaten else "no control is as good"
    return f"{'; '.join(parts)}; {last}."


def _interval(found: Memorisation, name: str, measure: str) -> str:
    values = getattr(found.sets[name], measure)
    zero = values * 0
    mean, low, high = difference_interval(values, zero, int(found.settings["seed"]))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
