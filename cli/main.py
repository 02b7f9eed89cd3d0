"""The command `weightzoo`: build, inspect, verify, publish and learn from zoos.

The other modules of this package hold the commands by subject. Results go to stdout, progress and
errors to stderr. Exit status: 0 done, 1 failed, 2 wrong usage, 141 if the reader of stdout closed
the pipe (128 + SIGPIPE, as of other commands).

PYTHON_ARGCOMPLETE_OK
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..zoos.errors import ZooError, did_you_mean
from .benchmarks import add_benchmark_commands
from .building import add_building_commands
from .completion import add_completion_command
from .dynamics import add_dynamics_commands
from .editing import add_editing_commands
from .merging import add_merging_commands
from .models import add_model_commands
from .ranking import add_ranking_commands
from .zoos import add_zoo_commands

GROUPS = (
    add_building_commands,
    add_zoo_commands,
    add_editing_commands,
    add_model_commands,
    add_merging_commands,
    add_ranking_commands,
    add_dynamics_commands,
    add_benchmark_commands,
    add_completion_command,
)
CLOSED_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
        return CLOSED_PIPE


def _run(arguments: Sequence[str] | None) -> int:
    options = _parsed(arguments)
    try:
        return int(options.run(options) or 0)
    except (ZooError, ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            raise
        print(f"weightzoo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "weightzoo: stopped; give the same command again to continue a build", file=sys.stderr
        )
        return 1


def _stdout_is_closed() -> bool:
    """Whether the reader of stdout is gone; pipes to worker processes break for other reasons."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # errors are reported always
    except AttributeError:  # Windows has no poll
        return True
    except OSError:  # stdout is no file
        return False
    return bool(poll.poll(0))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command; an unknown option is an error with the usage of its command."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [name for action in options.parser._actions for name in action.option_strings]
        given = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        suggestion = did_you_mean(given, known)
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion}")
    return options


class _Parser(argparse.ArgumentParser):
    """A parser that suggests similar words for an unknown command or choice."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with status 2."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            message += did_you_mean(wrong[1], re.findall(r"[\w.-]+", wrong[2]))
        super().error(message)


class _Version(argparse.Action):
    """`--version`, which looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> NoReturn:
        from ..zoos.provenance import package_version

        print(f"{parser.prog} {package_version()}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="weightzoo",
        description="Populations of trained networks as datasets.",
        epilog="`weightzoo COMMAND --help` shows the options of a command, with an example. "
        "Results go to stdout, progress and errors to stderr. Exit status: 0 done, 1 failed, "
        "2 wrong usage.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_group in GROUPS:
        add_group(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
