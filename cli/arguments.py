"""Shared parts of all commands: adding a command, checking its input, printing its result.

The other modules of this package import a command's libraries when it runs, so that
`weightzoo --help` loads none.
"""

import argparse
from collections.abc import Callable, Sequence
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
        commands: result of `ArgumentParser.add_subparsers`.
        name: name of the command.
        run: function from the options to the exit status, or to None for 0.
        text: description of the command; the list of all commands shows it up to the first
            semicolon.
        example: complete command line, shown below the options.

    Returns:
        The parser of the command, for further arguments.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text.split(";")[0], description=text, epilog=f"example: {example}"
    )
    command.add_argument(
        "--json", action="store_true", help="print the result as JSON instead of text, on stdout"
    )
    command.set_defaults(run=run, parser=command)
    return command


def print_result(options: argparse.Namespace, data: Any, text: str) -> None:
    """Print the result of a command on stdout.

    Args:
        options: options of the command.
        data: result for `--json`.
        text: result as text, printed without `--json`.
    """
    print(json_text(data, indent=1) if options.json else text)


def print_checks(options: argparse.Namespace, checks: Sequence[Any]) -> int:
    """Print checks, one line each, and return the exit status: 1 if one failed.

    Args:
        options: options of the command.
        checks: dataclasses with `name`, `passed` and `detail`.
    """
    from dataclasses import asdict

    marks = {True: "ok", False: "FAILED", None: "skipped"}
    lines = [f"{marks[check.passed]:<9}{check.name}: {check.detail}" for check in checks]
    text = "\n".join(line.removesuffix(": ") for line in lines)
    print_result(options, [asdict(check) for check in checks], text)
    return int(any(check.passed is False for check in checks))


def add_name(command: argparse.ArgumentParser, use: str = "") -> None:
    """Add `--name`, which chooses a zoo where a folder or repository holds several.

    Args:
        command: parser of the command.
        use: what several names are for; "" allows one name.
    """
    text = "name of the zoo, if there are several (default: the only one)"
    if use:
        text += f"; may be repeated to {use} several of them"
    command.add_argument("--name", action="append" if use else "store", help=text)


def add_rebuilt_rows(command: argparse.ArgumentParser) -> None:
    """Add `--models` and `--seed`, which choose the rows whose models are rebuilt and tested."""
    command.add_argument(
        "--models",
        type=whole(1),
        default=8,
        help="number of random rows whose model is rebuilt and tested (default: 8)",
    )
    command.add_argument(
        "--seed", type=whole(0), default=0, help="seed for choosing these rows (default: 0)"
    )


def zoo_folder(zoo: str, name: str | None) -> Path:
    """Find a zoo file or folder; a zoo on the Hub is downloaded.

    Args:
        zoo: path, folder of zoo folders, or repository on the Hub.
        name: name of the zoo where there are several; None if there is one.
    """
    from ..loaders.hub.fetching import fetch_zoo, is_hub_path
    from ..loaders.storage.opening import find_zoo

    return fetch_zoo(zoo, name) if is_hub_path(zoo) else find_zoo(Path(zoo), name)


def named_zoo(zoo: str, name: str | None) -> str | Path:
    """The zoo itself, or with a name the zoo of that name in a folder or repository.

    Args:
        zoo: path, folder of zoo folders, or repository on the Hub.
        name: name of the zoo; None takes what is given.
    """
    return zoo if name is None else zoo_folder(zoo, name)


def named_zoos(zoos: Sequence[str], names: Sequence[str] | None) -> list[str | Path]:
    """Every zoo, or with names the zoos of these names in each folder or repository.

    Args:
        zoos: paths, folders of zoo folders, or repositories on the Hub.
        names: names of zoos; None takes what is given.
    """
    chosen: Sequence[str | None] = names or [None]
    return [named_zoo(zoo, name) for zoo in zoos for name in chosen]


def whole(least: int) -> Callable[[str], int]:
    """A type for `add_argument`: whole numbers from `least`."""

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
    """Refuse an output folder that cannot be one, before any work.

    Raises:
        ValueError: if the path is a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, and {str(out)!r} is a file: choose another")


def check_file(out: Path) -> None:
    """Refuse an output file that cannot be written, before any work.

    Raises:
        ValueError: if the path is a folder, or its parent folder is missing.
    """
    if out.is_dir():
        raise ValueError(f"--out must be a file, and {str(out)!r} is a folder: choose another")
    if not out.parent.is_dir():
        raise ValueError(
            f"the folder of --out {str(out)!r} does not exist: make {str(out.parent)!r} first, or "
            "choose another"
        )


def check_device(device: str | None, here: bool = True) -> None:
    """Refuse a device that does not exist, before any work.

    Args:
        device: name of the device; None is not checked.
        here: whether the device must exist on this machine.

    Raises:
        ValueError: if the name is unknown, or this machine has no such device.
    """
    if device is not None:
        from ..zoos.networks.devices import device_name

        device_name(device, here)
