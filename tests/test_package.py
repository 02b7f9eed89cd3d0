"""The package as a whole: what ships, what importing costs, and who may import whom."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = {"tests", "benchmarks"}
LAZY = {"datasets", "huggingface_hub", "matplotlib", "ray", "scipy", "sklearn"}
MAY_IMPORT = {
    "zoos": {"zoos"},
    "builders": {"builders", "zoos"},
    "loaders": {"loaders", "zoos"},
    "encoders": {"encoders", "zoos"},
    "tasks": {"tasks", "builders", "loaders", "encoders", "zoos"},
}


def folders() -> list[str]:
    """Top-level folders of the package, as they lie in the tree."""
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    return sorted(found - NOT_SHIPPED)


def modules() -> list[str]:
    """Every module of the package, by its full name."""
    files = [
        *ROOT.glob("*.py"),
        *(file for name in folders() for file in (ROOT / name).glob("*.py")),
    ]
    parts = [("weightzoo", *file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return sorted(".".join(part).removesuffix(".__init__") for part in parts)


def run(code: str) -> str:
    """Run Python in a fresh process, away from the checkout, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imports(file: Path) -> Iterator[tuple[int, int, list[str]]]:
    """(line, leading dots, absolute name in parts) of everything that `file` imports."""
    here = ["weightzoo", *file.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                yield node.lineno, node.level, [*base, alias.name]


def package_imports(folder: str) -> Iterator[tuple[str, int, list[str]]]:
    """(place, leading dots, name in parts) of what a folder imports from this package."""
    for file in sorted((ROOT / folder).glob("*.py")):
        for line, level, name in imports(file):
            if name[0] == "weightzoo":
                yield f"{folder}/{file.name}:{line}", level, name


def test_every_folder_with_code_is_shipped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]
    assert sorted(packages) == sorted(["weightzoo", *(f"weightzoo.{name}" for name in folders())])


def test_no_code_lies_deeper_than_the_shipped_folders() -> None:
    deeper = [path for name in folders() for path in (ROOT / name).glob("*/**/*.py")]
    assert deeper == []


def test_every_module_imports_alone_and_without_slow_libraries() -> None:
    """Each import starts without any other of our modules loaded, so a cycle cannot hide."""
    assert {"weightzoo", "weightzoo.zoos.format"} <= set(modules())
    output = run(f"""
import importlib, sys
for name in {modules()!r}:
    for loaded in [key for key in sys.modules if key.split(".")[0] == "weightzoo"]:
        del sys.modules[loaded]
    importlib.import_module(name)
    for slow in {sorted(LAZY)!r}:
        if slow in sys.modules:
            print(name, "imports", slow)
            for loaded in [key for key in sys.modules if key.split(".")[0] == slow]:
                del sys.modules[loaded]
""")
    assert output == ""


def test_importing_the_package_loads_no_slow_library() -> None:
    loaded = set(run("import weightzoo, sys; print(*sys.modules)").split())
    assert "weightzoo" in loaded
    assert loaded & (LAZY | {"torch", "h5py"}) == set()


def test_help_of_the_command_loads_no_slow_library() -> None:
    loaded = set(
        run(
            "import sys, weightzoo.cli; weightzoo.cli._parser().format_help(); print(*sys.modules)"
        ).split()
    )
    assert "weightzoo.tasks.model_commands" in loaded
    assert loaded & (LAZY | {"numpy", "torch", "h5py"}) == set()


@pytest.mark.parametrize("package", ["weightzoo", "weightzoo.tasks"])
def test_public_names_resolve(package: str) -> None:
    assert run(f"import {package} as own; [getattr(own, name) for name in own.__all__]") == ""
    with pytest.raises(AssertionError, match="has no attribute 'nothing'"):
        run(f"import {package}; {package}.nothing")


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder: str) -> None:
    wrong = {
        f"{place} imports {'.'.join(name)}"
        for place, _, name in package_imports(folder)
        if name[1] not in MAY_IMPORT[folder]
    }
    assert wrong == set()


def test_encoders_read_no_files() -> None:
    """An encoder knows tensors and a layer table; of `zoos` it takes nothing else."""
    from_zoos = {name[2] for _, _, name in package_imports("encoders") if name[1] == "zoos"}
    assert from_zoos <= {"layer_table", "errors"}


def test_imports_inside_the_package_are_relative() -> None:
    absolute = [place for f in folders() for place, level, _ in package_imports(f) if not level]
    assert absolute == []


def test_import_scan_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan above would pass on anything if it saw nothing."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "zoos").mkdir()
    (tmp_path / "zoos" / "format.py").write_text(
        "import os, weightzoo.tasks.plots\nfrom .. import builders\nfrom ..loaders.rows import x\n"
        "from .errors import y\nif x:\n    from weightzoo.encoders import z\nfrom . import card\n"
    )
    seen = [(level, name[1]) for _, level, name in package_imports("zoos")]
    assert sorted(seen) == sorted(
        [(0, "tasks"), (2, "builders"), (2, "loaders"), (1, "zoos"), (0, "encoders"), (1, "zoos")]
    )
