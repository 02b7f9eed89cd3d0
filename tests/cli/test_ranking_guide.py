"""The guide: its commands parse, and its scores are those there are."""

import re
import shlex
from pathlib import Path

from weightzoo.cli.main import _parser
from weightzoo.tasks.transferability.scores import SCORES

GUIDE = (Path(__file__).parents[2] / "docs" / "ranking.md").read_text()


def test_commands_of_the_guide_parse() -> None:
    commands = [line for line in GUIDE.splitlines() if line.startswith("weightzoo ")]
    assert len(commands) >= 7
    for command in commands:
        assert _parser().parse_args(shlex.split(command)[1:]).run is not None


def test_code_of_the_guide_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})


def test_guide_names_every_score() -> None:
    table = GUIDE[GUIDE.index("| score |") : GUIDE.index("A score that is equal")]
    named = set(re.findall(r"`([a-z-]+)`", table))
    ours = {name for name in SCORES if not name.startswith("zood-")}
    assert named == ours and {f"`{name}`" for name in ("zood-stability",)} <= set(
        re.findall(r"`[a-z-]+`", GUIDE)
    )
