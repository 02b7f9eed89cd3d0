"""Which code made a zoo, and from which zoo."""

import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .format import ZooFile, open_zoo_file
from .index import INDEX_NAME, ZooIndex, file_sha256


def package_version() -> str:
    """The version of weightzoo, or "unknown" for a checkout that was not installed."""
    try:
        return version("weightzoo")
    except PackageNotFoundError:  # run from a checkout on the path
        return "unknown"


def commit() -> str:
    """The commit of the checkout this package runs from, or "" for an installed package."""
    root = Path(__file__).resolve().parent.parent  # an editable install links to the checkout
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def parent_provenance(folder: Path) -> dict[str, str]:
    """What the provenance of a descendant's zoo says under "parent".

    Args:
        folder: the parent's zoo folder.

    Returns:
        {"name", "sha256"}: the zoo's name, and the hex digest of its `zoo.json`, which lists the
        digest of every file; and "imported" if it, or what it descends from, was imported, since
        then others hold rights in it.

    Raises:
        ZooNotFoundError: if there is no zoo folder.
        ZooFormatError: if its `zoo.json` or first file is damaged.
    """
    index = ZooIndex.read(folder)
    parent = {"name": index.name, "sha256": file_sha256(folder / INDEX_NAME)}
    own = open_zoo_file(folder / index.shards[0].path).header.provenance
    return parent | imported_from(own)


def rows_provenance(name: str, files: Sequence[ZooFile]) -> dict[str, str]:
    """What the provenance says under "parent" where the parent's rows were read from files.

    Args:
        name: the parent's name.
        files: files that hold its rows.

    Returns:
        `parent_provenance` of their zoo folder, if they lie in one; else without "sha256".
    """
    folders = {file.path.parent for file in files}
    if len(folders) == 1 and (folder := folders.pop()).joinpath(INDEX_NAME).is_file():
        return parent_provenance(folder)
    imported = (imported_from(file.header.provenance) for file in files)
    return {"name": name} | next(filter(None, imported), {})


def imported_from(provenance: Mapping[str, Any]) -> dict[str, str]:
    """{"imported": format} if a zoo, or what it descends from, was imported; else {}."""
    parent = provenance.get("parent")
    further = parent.get("imported") if isinstance(parent, dict) else None
    imported = provenance.get("imported") or further
    return {"imported": str(imported)} if imported else {}
