"""Error boundary for reading a foreign file: every failure becomes an `UnreadableFileError`.

A damaged or hostile file can raise any error of Python, numpy or a parser. `reading` converts all
of them, and importers report them in one line. Messages never contain foreign data in full:
`shown` cuts it, because the text of a nested object can be endless.
"""

import errno
import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from ...zoos.errors import ZooError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
TEXT_LIMIT = 500  # characters of a message about foreign data
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class UnreadableFileError(ZooError, ValueError):
    """A file is damaged, or of another format than expected."""


@contextmanager
def reading() -> Iterator[None]:
    """Read one foreign file; every failure becomes an `UnreadableFileError`.

    Errors of weightzoo pass unchanged, and so do errors about a full disk, memory or file handles:
    they are no fault of the file.

    Raises:
        UnreadableFileError: if the block fails.
    """
    try:
        yield
    except Exception as error:
        if _is_ours(error):
            raise
        raise UnreadableFileError(f"damaged: {error_text(error)}") from error


def guarded(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Wrap a function so that it runs under `reading`."""

    @wraps(function)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with reading():
            return function(*arguments, **named)

    return call


def shown(value: object) -> str:
    """Text of a foreign value for a message: its `repr`, cut in length, width and depth."""
    try:
        return _SHORT.repr(value)[:TEXT_LIMIT]
    except Exception:  # such as an integer with more digits than Python prints
        return f"<{type(value).__name__}>"


def error_text(error: BaseException) -> str:
    """Type and message of an error, in one line of limited length."""
    plain = all(isinstance(argument, str | int) for argument in error.args)
    text = str(error) if plain and not isinstance(error, KeyError) else ", ".join(_parts(error))
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def one_line(text: str) -> str:
    """Text without line breaks and control characters, cut if it is too long."""
    cut = text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 4] + " ..."
    return "".join(sign if sign.isprintable() else " " for sign in cut)


def is_machine_error(error: BaseException) -> bool:
    """Whether an error concerns the machine, such as a full disk, instead of a file."""
    return isinstance(error, OSError) and error.errno in _MACHINE


def _is_ours(error: Exception) -> bool:
    """Whether an error concerns weightzoo or the machine instead of the file."""
    return is_machine_error(error) or isinstance(error, ZooError)


def _parts(error: BaseException) -> Iterator[str]:
    for argument in error.args[:5]:
        yield argument[:TEXT_LIMIT] if isinstance(argument, str) else shown(argument)


class _Short(reprlib.Repr):
    """Cuts after a few levels and entries."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = self.maxdict = self.maxset = self.maxfrozenset = 3
        self.maxlist = self.maxtuple = 8
        self.maxstring = self.maxlong = self.maxother = 120

    def repr_dict(self, x: dict[object, object], level: int) -> str:
        """Text of a dict in its own order: sorting would compare foreign keys."""
        if not x or level <= 0:
            return "{...}" if x else "{}"
        first = [(key, value) for _, (key, value) in zip(range(self.maxdict), x.items())]  # noqa: B905
        parts = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in first]
        return "{" + ", ".join(parts + ["..."] * (len(x) > self.maxdict)) + "}"


_SHORT = _Short()
