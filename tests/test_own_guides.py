"""The guides to encoders and image sets of one's own: their code runs, their commands parse."""

import re
import shlex
from pathlib import Path

import pytest

from weightzoo.cli.main import _parser
from weightzoo.encoders.registry import encoder_names

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = ["your_encoder.md", "your_images.md"]


@pytest.mark.parametrize("name", GUIDES)
def test_code_of_a_guide_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    assert len(blocks) >= 4
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "guide"}
    for block in blocks:
        exec(block, scope)
    assert "spread" not in encoder_names()
    for expected in {"your_encoder.md": ["model", "ae"], "your_images.md": ["stripes"]}[name]:
        assert (tmp_path / expected).is_dir()


@pytest.mark.parametrize("name", GUIDES)
def test_commands_of_a_guide_parse(name: str) -> None:
    lines = (DOCS / name).read_text().splitlines()
    commands = [line for line in lines if line.startswith("weightzoo ")]
    assert commands
    for command in commands:
        assert _parser().parse_args(shlex.split(command)[1:]).run is not None
