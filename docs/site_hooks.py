"""What the documentation site adds to the pages of this folder when it is built."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File, Files

HERE = Path(__file__).parent
REPOSITORY_LINK = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the commands, made from the parser alone, and results and files of the repository."""
    made = {"commands.md": _generator().command_page()}
    for name in ("LEADERBOARD.md", "CHANGELOG.md"):
        made[name.lower()] = (HERE.parent / name).read_text(encoding="utf-8")
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    results = HERE.parent / "benchmarks" / "results"
    for path in sorted([*results.glob("*/*.md"), *results.glob("*/*.png")]):
        name = path.relative_to(HERE.parent).as_posix()  # where the leaderboard links to
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Write links to other files of the repository as names, because the site holds no copy."""
    return REPOSITORY_LINK.sub(r"`\1`", markdown)


def _generator() -> ModuleType:
    """The script beside this file."""
    spec = importlib.util.spec_from_file_location("docs_generate", HERE / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
