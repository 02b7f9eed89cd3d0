"""What a user finds after `import weightzoo`: names, version, sub-packages, and how fast."""

import importlib
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import weightzoo
from weightzoo.zoos.provenance import package_version


def printed(*command: str) -> str:
    """Standard output of Python in a fresh process, away from the checkout."""
    done = subprocess.run(
        [sys.executable, *command], cwd="/", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_dir_lists_public_names_and_sub_packages_before_they_are_imported() -> None:
    names = set(printed("-c", "import weightzoo; print(*dir(weightzoo))").split())
    assert {*weightzoo.__all__, "loaders", "encoders", "tasks", "__version__"} <= names


def test_sub_packages_are_reached_without_their_own_import() -> None:
    code = "import weightzoo; print(weightzoo.encoders.SNE, weightzoo.tasks.train_encoder)"
    assert "SNE" in printed("-c", code)


def test_dir_of_tasks_lists_its_public_names() -> None:
    tasks = importlib.import_module("weightzoo.tasks")
    assert set(tasks.__all__) <= set(dir(tasks))


def test_version_is_that_of_the_package() -> None:
    assert weightzoo.__version__ == package_version()
    assert printed("-m", "weightzoo", "--version") == f"weightzoo {package_version()}"


def test_unknown_names_stay_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_zooo'"):
        weightzoo.load_zooo  # noqa: B018


def test_importing_the_package_costs_less_than_a_twentieth_of_a_second() -> None:
    """The least of several starts, because other processes use the machine too."""

    def least(code: str) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            printed("-c", code)
            times.append(time.perf_counter() - started)
        return min(times)

    assert least("import weightzoo") - least("pass") < 0.05


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["build", "--help"]])
def test_command_that_only_tells_imports_no_torch(arguments: list[str]) -> None:
    code = f"import sys; from weightzoo.cli import main; sys.argv[1:] = {arguments}\n"
    code += "try: main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    assert printed("-c", code).endswith("False")


def test_editable_installs_link_files_that_type_checkers_find() -> None:
    """With the default, an import hook, mypy and IDEs find no module."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert project["tool"]["distutils"]["editable_wheel"]["mode"] == "strict"
