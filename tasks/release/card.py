"""Card, licence and citation of a collection, from its plan and what was measured.

Without measurements the card is a function of the plan alone: `DATASET_CARD.md` is that card of the
project's own collection. `docs/generate.py` writes it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from ...zoos.cards.card import collection_card
from ...zoos.cards.section import PLOT_NAME
from ...zoos.format import SPLITS
from ...zoos.index import FILE_SPLITS
from .collection import Collection
from .matrix_table import TABLE_NAME
from .members import Member, Population, RankingMatrix
from .units import Unit, command_text, described

TEMPLATE_PATH = Path(__file__).parent / "card_template.md"
PLACEHOLDER = "ORG/NAME"  # stands for the repository before a push
LICENCE_NAMES = {"cc-by-4.0": "CC BY 4.0"}
LICENCE_URLS = {"cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/"}


def release_card(
    collection: Collection, repo: str = PLACEHOLDER, units: Mapping[str, Unit] | None = None
) -> str:
    """The card of a collection.

    Args:
        collection: plan of the collection.
        repo: repository on the Hub, "org/name".
        units: records of all members, whose measurements are added; None leaves them out.
    """
    populations = collection.populations()
    zoos = [one for one in collection.members if not isinstance(one, RankingMatrix)]
    matrices = [one for one in collection.members if isinstance(one, RankingMatrix)]
    first = (zoos or list(collection.members))[0].name
    text = Template(TEMPLATE_PATH.read_text(encoding="utf-8")).substitute(
        title=collection.title,
        repo=repo,
        first=first,
        licence=LICENCE_NAMES.get(collection.licence, collection.licence or "not stated"),
        contents=_contents(zoos, populations),
        matrices=_matrices(matrices, populations, repo),
        splits=_splits(zoos, populations),
        commands=_commands(collection),
        measured="" if units is None else _measured(units),
    )
    rows = sum(populations[zoo.name].rows for zoo in zoos)
    configs = [_config(member, populations[member.name]) for member in collection.members]
    return collection_card(collection.title, collection.licence, configs, rows, text)


def licence_text(collection: Collection) -> str:
    """The file LICENSE of a collection."""
    name = LICENCE_NAMES.get(collection.licence, collection.licence)
    url = LICENCE_URLS.get(collection.licence)
    where = f" The full text is at {url}." if url else ""
    return (
        f"{collection.title}: weights, columns, plots and tables are licensed under {name}."
        f"{where}\n\n"
        "The networks were trained with weightzoo, whose code is under the Apache License 2.0. "
        "Some were trained on\nOptical Recognition of Handwritten Digits by E. Alpaydin and C. "
        "Kaynak, UCI Machine Learning Repository,\nCC BY 4.0; the images are not included.\n"
    )


def citation_text(collection: Collection, repo: str = PLACEHOLDER) -> str:
    """The file CITATION.cff of a collection.

    Args:
        collection: plan of the collection.
        repo: repository on the Hub, "org/name".
    """
    lines = {
        "cff-version": "1.2.0",
        "message": '"If you use these zoos, please cite them, and the papers that the card names."',
        "title": f'"{collection.title}: populations of small networks as data"',
        "type": "dataset",
        "url": f"https://huggingface.co/datasets/{repo}",
        "license": _spdx(collection.licence),
    }
    text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value)
    return f'{text}authors:\n  - name: "The weightzoo authors"\n'


def _spdx(licence: str) -> str:
    return {"cc-by-4.0": "CC-BY-4.0", "apache-2.0": "Apache-2.0"}.get(licence, "")


def _config(member: Member, population: Population) -> dict[str, Any]:
    """The config of a member for stock `datasets`; names of shards are patterns."""
    if isinstance(member, RankingMatrix):
        files = [{"split": "train", "path": f"{member.name}/{TABLE_NAME}"}]
    else:
        splits = {model.split for model in population.models}
        files = [
            {"split": FILE_SPLITS[split], "path": f"{member.name}/{FILE_SPLITS[split]}-*.h5"}
            for split in SPLITS
            if split in splits
        ]
    return {"config_name": member.name, "data_files": files}


def _contents(zoos: Sequence[Member], populations: Mapping[str, Population]) -> str:
    rows = []
    for zoo in zoos:
        own = populations[zoo.name]
        most = "" if own.exact else "at most "
        size = f"{own.rows * own.width * 4 / 1e6:.1f} MB"
        counts = [len(own.models), len(own.recipe.checkpoints), own.rows, own.width]
        cells = [f"{count:,}" for count in counts]
        cells[0] = most + cells[0]
        rows.append((f"`{zoo.name}`", zoo.about, *cells, size))
    head = ("config", "contents", "models", "checkpoints each", "rows", "D", "weights")
    return _table(head, rows)


def _matrices(
    matrices: Sequence[RankingMatrix], populations: Mapping[str, Population], repo: str
) -> str:
    """What is said about ranking matrices; nothing if there are none."""
    parts = []
    for matrix in matrices:
        models = len(populations[matrix.name].models)
        cells = models * len(matrix.targets) * matrix.seeds
        seeds = "1 seed" if matrix.seeds == 1 else f"{matrix.seeds} seeds"
        parts.append(
            f"The config `{matrix.name}` is a table instead: {matrix.about}. It has {cells:,} "
            f"rows, {models:,} models times {len(matrix.targets)} targets times {seeds}; "
            f'`load_dataset("{repo}", "{matrix.name}")` reads it. `{matrix.name}/matrix.h5` '
            "holds the same for `weightzoo rank --matrix` and `weightzoo benchmark ranking "
            "--matrix`.\n"
        )
    return "\n".join(parts)


def _splits(zoos: Sequence[Member], populations: Mapping[str, Population]) -> str:
    rows = []
    for zoo in zoos:
        own = populations[zoo.name]
        found = [model.split for model in own.models]
        most = "" if own.exact else "at most "
        counts = [f"{most}{found.count(split):,}" if split in found else "–" for split in SPLITS]
        rows.append((f"`{zoo.name}`", *counts))
    return _table(("models of", *SPLITS), rows)


def _commands(collection: Collection) -> str:
    rows = []
    for member in collection.members:
        parents = ", ".join(f"`{parent}`" for parent in member.parents) or "–"
        rows.append((f"`{member.name}`", parents, f"`{command_text(described(member))}`"))
    return _table(("member", "reads", "command"), rows)


def _measured(units: Mapping[str, Unit]) -> str:
    """Table of what was measured when the collection was built."""
    rows = []
    for name, unit in units.items():
        passed = sum(check["passed"] is True for check in unit.checks)
        seconds = "–" if unit.seconds is None else f"{unit.seconds:,.0f}"
        rows.append(
            (
                f"`{name}`",
                f"{unit.models:,}",
                f"{unit.rows:,}",
                f"{unit.size_bytes / 1e6:,.1f} MB",
                seconds,
                f"{passed} of {len(unit.checks)}",
                f"`{unit.columns_sha256[:16]}…`",
            )
        )
    head = ("member", "models", "rows", "files", "seconds", "checks passed", "digest of columns")
    note = (
        f"{_built_on(list(units.values()))} `release.json` holds the whole digests and all "
        "checks; a dash stands for a member that was continued after a stop.\n"
    )
    plots = "\n".join(f"![{name}]({name}/{PLOT_NAME})" for name in units)
    return f"## As it was built\n\n{note}\n{_table(head, rows)}\n\n{plots}\n\n"


def _built_on(units: Sequence[Unit]) -> str:
    machine = units[0].machine
    if any(unit.machine != machine for unit in units):
        return "Members were built on different machines or with different versions."
    return (
        f"Built on {machine['system']} {machine['processor']}, worker processes: "
        f"{machine['workers']}, torch {machine['torch']}, numpy {machine['numpy']}."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
