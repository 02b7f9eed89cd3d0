"""Which code made a zoo."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def package_version() -> str:
    """The version of weightzoo, or "unknown" for a checkout that was not installed."""
    try:
        return version("weightzoo")
    except PackageNotFoundError:  # run from a checkout on the path
        return "unknown"


def commit() -> str:
    """The commit of the checkout this package runs from, or "" for an installed package."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
