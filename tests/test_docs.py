"""Documentation: pages that are made from the code, the site, its notebooks, and the examples."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from package_layout import packages

from weightzoo.zoos.recipe_table import recipe_table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script that writes pages."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run a program in a folder and return what it prints."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_generated_pages_are_those_of_the_code(generator: ModuleType) -> None:
    made = generator.pages()
    assert len(made) >= 4
    stale = [name for name, text in made.items() if (DOCS / name).read_text() != text]
    assert stale == [], "run `python docs/generate.py`"


def test_table_of_recipes_is_that_of_the_recipes(generator: ModuleType) -> None:
    assert generator.recipe_rows() == recipe_table(), "run `python docs/generate.py`"


def test_the_reference_has_every_public_name(generator: ModuleType) -> None:
    text = (DOCS / "reference.md").read_text()
    described = set(re.findall(r"^      heading: (.+)$|^`([\w.]+)`: see above", text, re.MULTILINE))
    names = {one or other for one, other in described}
    homes = [".".join(("weightzoo", *folder.parts)) for folder in packages(ROOT)]
    public = {
        f"{home}.{name}"
        for home in ("weightzoo", *homes)
        for name in getattr(importlib.import_module(home), "__all__", ())
        if home != "weightzoo.cli"  # its one name is the command
    }
    assert len(public) > 40 and names == public


def test_the_commands_page_has_every_command_and_option(generator: ModuleType) -> None:
    text = generator.command_page()
    assert text.count("## weightzoo ") >= 26
    assert "| `--sparsity SPARSITY` |" in text and "%%" not in text


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": ([\w/]+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.M))
    written = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*") if _is_page(page)}
    assert written == listed - {"commands.md", "leaderboard.md", "changelog.md"}


def _is_page(path: Path) -> bool:
    return path.suffix in (".md", ".ipynb") and ".ipynb_checkpoints" not in path.parts


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


@pytest.mark.slow
def test_the_site_builds_with_warnings_as_errors_and_runs_the_notebooks(tmp_path: Path) -> None:
    nbconvert = importlib.util.find_spec("nbconvert")
    if nbconvert is None or nbconvert.origin is None:
        pytest.skip("the extra `docs` is not installed")
    data = Path(nbconvert.origin).parents[4] / "share" / "jupyter"  # templates of nbconvert
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    run(
        command,
        ROOT,
        JUPYTER_PATH=str(data),
        MPLBACKEND="module://matplotlib_inline.backend_inline",
    )
    notebook = (tmp_path / "notebooks" / "explore_a_zoo" / "index.html").read_text()
    assert "recorded 0." in notebook and "data:image/png" in notebook
    assert "weightzoo.load_zoo" in (tmp_path / "reference" / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain_torch", "lightning_encoder"])
def test_examples_run(name: str, tmp_path: Path) -> None:
    if name == "lightning_encoder" and importlib.util.find_spec("lightning") is None:
        pytest.skip("the extra `examples` is not installed")
    printed = run([sys.executable, str(ROOT / "examples" / f"{name}.py")], tmp_path)
    assert re.search(r"mean absolute error on \d+ test rows: 0\.\d{3}", printed)
