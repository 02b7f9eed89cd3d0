"""Options that choose the rows of a zoo whose models are merged."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .arguments import (
    add_name,
    zoo_folder,
)


def add_zoo_rows(command: argparse.ArgumentParser) -> None:
    """Add the options that choose rows where the members are one zoo."""
    add_name(command)
    command.add_argument(
        "--split", default="train", help="of a zoo, e.g. val or train[:20] (default: train)"
    )
    command.add_argument(
        "--where", default="", help="condition on a zoo's columns (default: last checkpoints)"
    )


def add_images(command: argparse.ArgumentParser) -> None:
    """Add the option that names what merges of a zoo's models are measured on."""
    command.add_argument(
        "--images",
        default="",
        metavar="NAME",
        help="image set or text that merges of a zoo's models are measured on (default: the one "
        "that the zoo records)",
    )


def zoo_rows(options: argparse.Namespace, members: Sequence[str]) -> Any:
    """Rows of the zoo that is the only member; None if the members are checkpoints.

    Args:
        options: parsed arguments, with those of `add_zoo_rows`.
        members: paths or addresses of the members.

    Raises:
        ValueError: if a zoo is not the only member.
    """
    if not members or options.name is None and not _holds_zoo(members[0]):
        return None
    from ..tasks.merging.recipe import ZooRows

    if len(members) > 1:
        raise ValueError(f"a zoo is taken alone, got {len(members)} members: leave the others out")
    path = str(zoo_folder(members[0], options.name))
    return ZooRows(path=path, split=options.split, where=options.where)


def _holds_zoo(path: str) -> bool:
    """Whether a path is a zoo, a folder of zoos, or an address of the Hub."""
    folders = (Path(path), *Path(path).glob("*/"))
    return path.startswith("hf://datasets/") or any(
        (folder / "zoo.json").is_file() for folder in folders
    )
