"""The errors that weightzoo raises about zoos, recipes, builds and trainings."""

from collections.abc import Iterable


class ZooError(Exception):
    """Base of every error about a zoo; the CLI prints it without a traceback."""


class ZooNotFoundError(ZooError, FileNotFoundError):
    """No zoo lies where one was looked for."""


class ZooFormatError(ZooError, ValueError):
    """A file is not a zoo of a format version we read, or contradicts itself."""


class RecipeError(ZooError, ValueError):
    """A recipe has an unknown key, a value out of range, or expands to no model."""


class BuildError(ZooError, RuntimeError):
    """A build cannot start or go on; what existed before is untouched."""


class FolderBusyError(BuildError):
    """Another command is writing the same zoo."""


class UnsuitableError(ZooError, ValueError):
    """An encoder or a predictor cannot take an architecture, a zoo or a target, by its nature.

    Benchmarks print it as a refusal; any other error ends them.
    """


class DivergedError(ZooError, RuntimeError):
    """A training, or what it predicts, went to infinity or NaN."""


class DeviceMemoryError(ZooError, MemoryError):
    """A step does not fit the memory of its device."""


class MergeError(ZooError, ValueError):
    """Models cannot be merged or mixed as asked; nothing was written under the final name."""


def did_you_mean(unknown: str | Iterable[str], known: Iterable[str]) -> str:
    """Suggest known names for unknown ones, as the end of an error message.

    Args:
        unknown: name or names that do not exist.
        known: names that exist.

    Returns:
        "; did you mean 'name'?", or "" if no known name is similar.
    """
    from difflib import get_close_matches

    names, known = [unknown] if isinstance(unknown, str) else list(unknown), list(known)
    close = [match for name in names for match in get_close_matches(str(name), known, n=1)]
    return f"; did you mean {' and '.join(map(repr, close))}?" if close else ""
