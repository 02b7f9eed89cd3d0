"""Commands that are killed go on; see `kills.py`."""

import pytest
from attack_scripts import run_script
from commands import COMMANDS, STAGES


@pytest.mark.slow
def test_build_killed_in_any_stage_resumes_to_equal_columns() -> None:
    kills = run_script("kills.py", "--small")["cases"]
    assert [kill["stage"] for kill in kills] == list(STAGES)
    assert {kill["outcome"] for kill in kills} <= {"resumed", "complete"}, kills


@pytest.mark.slow
def test_every_command_killed_in_any_stage_resumes_to_an_equal_result() -> None:
    kills = [kill for kill in run_script("kills.py")["cases"] if kill["outcome"] != "not killed"]
    bad = [kill for kill in kills if kill["outcome"] not in ("resumed", "complete")]
    assert bad == []
    assert len(kills) >= 200
    for command in COMMANDS:
        stages = [kill["stage"] for kill in kills if kill["command"] == command.name]
        assert len(stages) >= 15, command.name
        assert all(stages.count(stage) >= 5 for stage in STAGES), (command.name, stages)
