"""Parsers of the command line; the parser of a command is built when it is first used.

Building all parsers takes longer than starting Python, and most calls need one or none.
"""

import argparse
import re
from collections.abc import Callable

from ..zoos.errors import did_you_mean

TYPE_CHECKING = False  # read by type checkers as true; importing `typing` would cost 3 ms
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that suggests similar words for an unknown command or choice."""

    def error(self, message: str) -> "NoReturn":
        """Print usage and message, and exit with status 2."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            message += did_you_mean(wrong[1], re.findall(r"[\w.-]+", wrong[2]))
        super().error(message)


class CommandParser(Parser):
    """The parser of one command; the first use of any attribute builds it."""

    def __init__(self, build: Callable[[], None], **options: "Any") -> None:
        """Keep what the parser is built with.

        Args:
            build: function that calls `start` and adds the arguments.
            **options: arguments of `argparse.ArgumentParser`.
        """
        self._build: Callable[[], None] | None = build
        self._options = options

    @property
    def is_built(self) -> bool:
        """Whether the parser was started."""
        return self._build is None

    def start(self, **options: "Any") -> None:
        """Make this a parser without arguments.

        Args:
            **options: further arguments of `argparse.ArgumentParser`.
        """
        self._build = None
        super().__init__(**self._options, **options)

    def __getattr__(self, name: str) -> "Any":
        """Build the parser, and return the attribute that was missing."""
        build = vars(self).get("_build")
        if build is None:  # also while it is built
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        build()
        return getattr(self, name)

    def _check_help(self, action: argparse.Action) -> None:
        """Check a help text, as Python 3.14 does; that of the command itself would build it."""
        if self.is_built:
            super()._check_help(action)  # type: ignore[misc]


class CommandGroup:
    """The commands of one module, in place of `add_subparsers` for the function that adds them."""

    def __init__(self, build: Callable[["CommandGroup"], None]) -> None:
        """Keep how the commands are built.

        Args:
            build: function that adds all commands of the group to this object.
        """
        self.choices: dict[str, CommandParser] = {}
        self._build = build

    def add_line(self, commands: "Any", name: str, text: str) -> None:
        """List a command in the help of the program, without building it.

        Args:
            commands: result of `ArgumentParser.add_subparsers`.
            name: name of the command.
            text: its line in the help.
        """
        build = self._build_all
        self.choices[name] = commands.add_parser(name, help=text, build=build)

    def add_parser(self, name: str, *, help: str, **options: "Any") -> CommandParser:
        """Start the parser of a command that was listed.

        Args:
            name: name of the command.
            help: its line in the help, which was listed already.
            **options: arguments of `argparse.ArgumentParser`.

        Raises:
            LookupError: if the command was not listed.
        """
        if name not in self.choices:
            raise LookupError(f"command {name!r} is missing in the table COMMANDS, with {help!r}")
        command = self.choices[name]
        command.start(**options)
        return command

    def _build_all(self) -> None:
        self._build(self)
        if missing := [name for name, one in self.choices.items() if not one.is_built]:
            raise LookupError(f"commands {missing} of the table COMMANDS were not added")
