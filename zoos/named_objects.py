"""Classes and functions that a user names as "package.module:Class".

Only a caller's own text is imported, never one that a file holds.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import did_you_mean


def named_object(path: str) -> Any:
    """Import what "package.module:Class" names; modules in the working folder are found.

    Args:
        path: module and name, joined by a colon.

    Raises:
        ValueError: if the text is no such name, or there is no such module or name in it.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name or "/" in path or module_name.endswith(".py"):
        raise ValueError(
            f"a class is named as 'package.module:Class', got {path!r}: for a class Own in mine.py "
            "of the working folder write 'mine:Own'"
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that no file there hides an installed package
    try:
        found: Any = import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"cannot import {module_name!r}: {error}; install the package, or give the command in "
            "the folder that holds the module"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            public = sorted(own for own in vars(found) if not own.startswith("_"))
            raise ValueError(
                f"module {module_name!r} has no {name!r}, it has {public}"
                + did_you_mean(name, public)
            )
        found = getattr(found, part)
    return found
