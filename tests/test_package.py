"""The package as a whole: what ships, what importing costs, and who may import whom."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from package_layout import (
    MOST_MODULES,
    RANKS,
    imports,
    layout_faults,
    module_files,
    own_imports,
    packages,
)

ROOT = Path(__file__).parents[1]
LAZY = {"datasets", "huggingface_hub", "matplotlib", "pandas", "ray", "scipy", "sklearn"}


def modules() -> list[str]:
    """Every module of the package, by its full name."""
    parts = [("weightzoo", *file.with_suffix("").parts) for file in module_files(ROOT)]
    return sorted(".".join(part).removesuffix(".__init__") for part in parts)


def run(code: str) -> str:
    """Run Python in a fresh process, away from the checkout, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to put faults into."""
    for file in module_files(ROOT):
        target = tmp_path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, target)
    return tmp_path


def test_layout_of_the_package_has_no_fault() -> None:
    assert len(module_files(ROOT)) > 150
    assert layout_faults(ROOT) == []


def test_layout_reports_an_arrow_that_runs_up(copy: Path) -> None:
    text = "def late():\n    from ..tasks.merge_methods.linear_methods import x\n"
    (copy / "zoos" / "lineage.py").write_text(text)
    assert layout_faults(copy) == [
        "zoos/lineage.py:2 imports tasks, which does not stand below zoos"
    ]


def test_layout_reports_an_arrow_between_neighbours(copy: Path) -> None:
    (copy / "encoders" / "parts" / "late.py").write_text("from ...loaders import load_zoo\n")
    (fault,) = layout_faults(copy)
    assert "encoders/parts/late.py:1 imports loaders" in fault


def test_layout_reports_a_circle_of_modules_behind_type_checking(copy: Path) -> None:
    (copy / "loaders" / "first.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .second import b\n"
    )
    (copy / "loaders" / "second.py").write_text("def late():\n    from . import first\n")
    faults = layout_faults(copy)
    assert len(faults) == 2
    assert all("loaders/first.py" in fault and "circle" in fault for fault in faults)


def test_layout_reports_a_circle_of_sub_folders(copy: Path) -> None:
    for folder, other in (("texts", "images"), ("images", "texts")):
        (copy / "zoos" / folder / "plain.py").write_text("")
        (copy / "zoos" / folder / "late.py").write_text(f"from ..{other}.plain import x\n")
    (fault,) = layout_faults(copy)
    assert fault.startswith("circle of sub-folders: ")
    assert "zoos/images" in fault


def test_layout_reports_a_third_level(copy: Path) -> None:
    (copy / "tasks" / "scoring" / "deep").mkdir()
    (copy / "tasks" / "scoring" / "deep" / "__init__.py").write_text("")
    assert layout_faults(copy) == ["tasks/scoring/deep is a third level"]


def test_layout_reports_the_21st_module(copy: Path) -> None:
    folder = copy / "builders" / "engines"
    for number in range(MOST_MODULES + 1 - len(list(folder.glob("[!_]*.py")))):
        (folder / f"more_{number}.py").write_text("")
    assert layout_faults(copy) == ["builders/engines holds 21 modules, more than 20"]


def test_every_folder_with_code_is_shipped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {".".join(("weightzoo", *folder.parts)) for folder in packages(ROOT)}
    assert set(project["tool"]["setuptools"]["packages"]) == {"weightzoo", *names}


def test_every_folder_of_modules_is_a_package() -> None:
    """The timing scripts are no part of the package."""
    files = [file for top in RANKS for file in (ROOT / top).rglob("*.py")]
    folders = {file.parent.relative_to(ROOT) for file in files}
    scripts = {Path("benchmarks", room) for room in ("speed", "peers", "studies")}
    assert folders - set(packages(ROOT)) == scripts


def test_tests_mirror_the_tree() -> None:
    """Every folder of tests is a folder of the package; `data` holds helpers."""
    folders = {file.parent.relative_to(ROOT / "tests") for file in ROOT.glob("tests/**/test_*.py")}
    assert folders <= {Path(), Path("attacks"), *packages(ROOT)}


def test_every_module_imports_without_slow_libraries() -> None:
    output = run(f"""
import importlib, sys
for name in {modules()!r}:
    importlib.import_module(name)
    print(*(f"{{name}} imports {{slow}}" for slow in {sorted(LAZY)!r} if slow in sys.modules))
""")
    assert output.strip() == ""


@pytest.mark.slow
def test_every_module_imports_alone_and_without_slow_libraries() -> None:
    """Each import starts without any other of our modules loaded, so a cycle cannot hide.

    Slow because it imports most modules hundreds of times; circles are found by the layout too.
    """
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
    code = "import sys; from weightzoo.cli.main import _parser; _parser().format_help()"
    loaded = set(run(f"{code}; print(*sys.modules)").split())
    assert "weightzoo.cli.commands" in loaded
    assert loaded & (LAZY | {"numpy", "torch", "h5py"}) == set()


def test_the_command_is_found_under_both_names() -> None:
    code = "import weightzoo.cli, weightzoo.cli.main as module, importlib\n"
    code += "print(importlib.import_module('weightzoo.cli.main').main is weightzoo.cli.main)"
    assert run(code).strip() == "True"


@pytest.mark.parametrize("package", ["weightzoo", "weightzoo.tasks"])
def test_public_names_resolve(package: str) -> None:
    assert run(f"import {package} as own; [getattr(own, name) for name in own.__all__]") == ""
    with pytest.raises(AssertionError, match="has no attribute 'nothing'"):
        run(f"import {package}; {package}.nothing")


def test_encoders_read_no_files() -> None:
    """An encoder knows tensors, a layer table and networks; of `zoos` it takes nothing else."""
    files = [file for file in module_files(ROOT) if file.parts[0] == "encoders"]
    found = [one.name for file in files for one in own_imports(ROOT, file)]
    used = {name[2] for name in found if name[1] == "zoos"}
    assert used <= {"networks", "errors", "named_objects", "tokens"}


def test_imports_inside_the_package_are_relative() -> None:
    found = [one for file in module_files(ROOT) for one in own_imports(ROOT, file)]
    assert len(found) > 500
    assert [one for one in found if not one.level] == []


def test_import_scan_sees_every_form(tmp_path: Path) -> None:
    """The rules above would pass on anything if the scan saw nothing."""
    (tmp_path / "zoos").mkdir()
    (tmp_path / "zoos" / "format.py").write_text(
        "import os, weightzoo.tasks.plots\nfrom .. import builders\nfrom ..loaders.rows import x\n"
        "from .errors import y\nif x:\n    from weightzoo.encoders import z\nfrom . import card\n"
    )
    found = imports(tmp_path, Path("zoos/format.py"))
    seen = [(one.level, one.name[1]) for one in found if one.name[0] == "weightzoo"]
    assert sorted(seen) == sorted(
        [(0, "tasks"), (2, "builders"), (2, "loaders"), (1, "zoos"), (0, "encoders"), (1, "zoos")]
    )
