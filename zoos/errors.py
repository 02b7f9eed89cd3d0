"""The errors that weightzoo raises about zoos, recipes, builds and trainings."""


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


class UnsuitableError(ZooError, ValueError):
    """An encoder or a predictor cannot take an architecture, a zoo or a target, by its nature.

    Benchmarks print it as a refusal; any other error ends them.
    """


class DivergedError(ZooError, RuntimeError):
    """A training, or what it predicts, went to infinity or NaN."""


class MergeError(ZooError, ValueError):
    """Models cannot be merged or mixed as asked; nothing was written under the final name."""
