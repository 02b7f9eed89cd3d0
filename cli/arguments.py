"""What all commands have in common: how one is added, its input checked, its result printed.

The modules named `*_commands` that add commands import what a command needs when it runs, so that
`weightzoo --help` loads no library.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..zoos.strict_json import json_text


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    text: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command to the subparsers of `weightzoo`.

    Args:
        commands: what `ArgumentParser.add_subparsers` returns.
        name: of the command.
        run: takes the options; returns the exit status, or None for 0.
        text: what the command does; the list of all commands shows it up to the first semicolon.
        example: a whole command line, shown below the options.

    Returns:
        Its parser, to which arguments are added.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text.split(";")[0], description=text, epilog=f"example: {example}"
    )
    command.add_argument(
        "--json", action="store_true", help="print the result as JSON instead of text, on stdout"
    )
    command.set_defaults(run=run)
    return command


def print_result(options: argparse.Namespace, data: Any, text: str) -> None:
    """Print data for machines (`--json`) or text for people, on stdout."""
    print(json_text(data, indent=1) if options.json else text)


def whole(least: int) -> Callable[[str], int]:
    """A type of arguments: whole numbers from `least`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, got {text!r}")
        return number

    return convert


def check_folder(out: Path) -> None:
    """Refuse what cannot be a folder to write in, before any work.

    Raises:
        ValueError: if a file is there.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, and {str(out)!r} is a file: choose another")


def check_file(out: Path) -> None:
    """Refuse what cannot be a file to write, before any work.

    Raises:
        ValueError: if a folder is there, or there is none that would hold the file.
    """
    if out.is_dir():
        raise ValueError(f"--out must be a file, and {str(out)!r} is a folder: choose another")
    if not out.parent.is_dir():
        raise ValueError(
            f"--out {str(out)!r} lies in no folder: make {str(out.parent)!r} first, or choose "
            "another"
        )


def check_device(device: str | None, here: bool = True) -> None:
    """Refuse a device that there is not, before any work.

    Args:
        device: its name; None is not looked at.
        here: whether it has to be on this machine.

    Raises:
        ValueError: if the name is unknown, or there is no such device here.
    """
    if device is None or device == "cpu":
        return
    import torch

    try:
        known = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be cpu, cuda or cuda:NUMBER, got {device!r}") from error
    try:
        if here:
            torch.empty(1, device=known)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        raise ValueError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}): torch finds "
            f"{torch.cuda.device_count()} CUDA devices; cpu always works"
        ) from error
