"""What all commands have in common: how one is added, and how its result is printed.

The modules named `*_commands` that add commands import what a command needs when it runs, so that
`weightzoo --help` loads no library.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any


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
    print(json.dumps(data, indent=1) if options.json else text)
