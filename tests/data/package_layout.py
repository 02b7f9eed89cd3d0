"""Faults of a package's layout: levels, crowded folders, arrows that run up, circles of imports.

Every import counts, also those inside functions and under `TYPE_CHECKING`.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

MOST_MODULES = 20
RANKS = {
    "zoos": 0,
    "loaders": 1,
    "builders": 1,
    "encoders": 1,
    "tasks": 2,
    "benchmarks": 3,
    "cli": 4,
}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        file: importing file, relative to the root.
        line: line number.
        level: leading dots.
        name: imported name in full, in parts, starting with the package "weightzoo" for own names.
    """

    file: Path
    line: int
    level: int
    name: tuple[str, ...]


def packages(root: Path) -> list[Path]:
    """Folders with an `__init__.py` below the top folders, relative to the root."""
    found = [file.parent for top in RANKS for file in (root / top).rglob("__init__.py")]
    return sorted(folder.relative_to(root) for folder in found)


def module_files(root: Path) -> list[Path]:
    """Every Python file of the package, relative to the root."""
    files = [*root.glob("*.py"), *(f for top in packages(root) for f in (root / top).glob("*.py"))]
    return sorted(file.relative_to(root) for file in files)


def imports(root: Path, file: Path) -> Iterator[Import]:
    """Everything that a file imports, wherever the statement stands."""
    here = ("weightzoo", *file.parent.parts)
    for node in _statements((root / file).read_text()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, 0, tuple(alias.name.split(".")))
        else:
            base = here[: len(here) - node.level + 1] if node.level else ()
            base = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield Import(file, node.lineno, node.level, (*base, alias.name))


@cache  # tests look at many copies of the package
def _statements(text: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    nodes = ast.walk(ast.parse(text))
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def own_imports(root: Path, file: Path) -> Iterator[Import]:
    """What a file imports from this package."""
    return (one for one in imports(root, file) if one.name[0] == "weightzoo")


def module_graph(root: Path) -> dict[Path, set[Path]]:
    """The modules that each module imports, by file."""
    files = set(module_files(root))
    return {
        file: {target for one in own_imports(root, file) if (target := _file_of(one, files))}
        for file in files
    }


def layout_faults(root: Path) -> list[str]:
    """Every fault of the layout, one line each; empty for a package in order."""
    graph = module_graph(root)
    return [*_levels(root), *_crowds(root), *_arrows_up(root), *_circles(graph)]


def _file_of(one: Import, files: set[Path]) -> Path | None:
    """The file that an imported name is or lies in; None for a package's bare name."""
    if Path(*one.name[1:], "__init__.py") in files and one.name[1:]:
        return None
    for parts in (one.name[1:], one.name[1:-1]):
        for file in (Path(*parts[:-1], f"{parts[-1]}.py") if parts else Path("__init__.py"),):
            if file in files:
                return file
        if (package := Path(*parts, "__init__.py")) in files and parts != one.name[1:]:
            return package
    return None


def _levels(root: Path) -> Iterator[str]:
    for folder in packages(root):
        if len(folder.parts) > 2:
            yield f"{folder} is a third level"


def _crowds(root: Path) -> Iterator[str]:
    for folder in packages(root):
        count = len([file for file in (root / folder).glob("*.py") if file.stem != "__init__"])
        if count > MOST_MODULES:
            yield f"{folder} holds {count} modules, more than {MOST_MODULES}"


def _arrows_up(root: Path) -> Iterator[str]:
    for file in module_files(root):
        own = file.parts[0]
        for one in own_imports(root, file) if own in RANKS else ():
            other = one.name[1]
            if other != own and RANKS.get(other, 9) >= RANKS[own]:
                yield f"{file}:{one.line} imports {other}, which does not stand below {own}"


def _circles(graph: Mapping[Path, set[Path]]) -> Iterator[str]:
    rooms: dict[Path, set[Path]] = {}
    for file, targets in graph.items():
        if file.name != "__init__.py":
            rooms.setdefault(_room(file), set()).update(
                _room(target) for target in targets if _room(target) != _room(file)
            )
    for kind, arrows in (("modules", graph), ("sub-folders", rooms)):
        try:
            TopologicalSorter(arrows).prepare()
        except CycleError as error:
            yield f"circle of {kind}: {' <- '.join(str(path) for path in error.args[1])}"


def _room(file: Path) -> Path:
    """The sub-folder of a file; a file directly in a top folder counts by itself."""
    return Path(*file.parts[:2])
