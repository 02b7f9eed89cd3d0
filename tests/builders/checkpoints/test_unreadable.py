import errno
import json
import os
from typing import Any

import pytest

from weightzoo.builders.checkpoints.unreadable import (
    TEXT_LIMIT,
    UnreadableFileError,
    error_text,
    one_line,
    reading,
    shown,
)
from weightzoo.zoos.errors import BuildError


def doubled(levels: int) -> Any:
    """A tuple whose text has 2 ** levels entries."""
    value: Any = ()
    for _ in range(levels):
        value = (value, value)
    return value


def test_reading_gives_every_failure_one_name() -> None:
    failures = [
        lambda: 1 / 0,
        lambda: {}[doubled(20)],
        lambda: json.loads("[" * 100_000),
        lambda: bytes(2**62),
        lambda: int("9" * 5000),
        lambda: open("/nowhere"),
    ]
    for failure in failures:
        with pytest.raises(UnreadableFileError) as caught, reading():
            failure()
        assert len(str(caught.value)) <= TEXT_LIMIT + 50 and "\n" not in str(caught.value)


def test_reading_passes_what_is_no_fault_of_the_file() -> None:
    for error in (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), BuildError("ours")):
        with pytest.raises(type(error)) as caught, reading():
            raise error
        assert caught.value is error
    with pytest.raises(KeyboardInterrupt), reading():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "value",
    [doubled(60), [doubled(60)] * 50, {doubled(10): "x" * 10**6}, "x" * 10**7, 10**6000, {1, 2}],
    ids=["tuple", "list", "dict", "text", "number", "set"],
)
def test_shown_is_short_whatever_the_value(value: Any) -> None:
    assert 0 < len(shown(value)) <= TEXT_LIMIT


def test_shown_is_repr_of_what_is_small() -> None:
    for value in (None, 3, "text", (1, 2), [1.5], {"a": (1,)}):
        assert shown(value) == repr(value)


def test_error_text_never_shows_a_value_in_full() -> None:
    assert error_text(KeyError(doubled(60))).startswith("KeyError: (")
    assert error_text(ValueError("a\nb\x1b[31m")) == "ValueError: a b [31m"
    assert error_text(RecursionError()) == "RecursionError"


def test_one_line_cuts_long_text() -> None:
    assert one_line("x" * 10**6) == "x" * (TEXT_LIMIT - 4) + " ..."
