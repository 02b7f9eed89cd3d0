"""The table of commands, and parsers that are built only when they are used."""

import argparse
import subprocess
import sys
from typing import Any

import pytest

from weightzoo.cli.commands import COMMANDS, add_all_commands
from weightzoo.cli.main import _parser
from weightzoo.cli.parsers import CommandGroup, CommandParser, Parser


def loaded_after(code: str) -> set[str]:
    """The modules of weightzoo that a fresh process has imported after some code."""
    code = f"import sys\nfrom weightzoo.cli.main import main\ntry:\n    main({code})\n"
    code += "except SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    return {name for name in done.stderr.split() if name.startswith("weightzoo.")}


def group_of(build: Any) -> tuple[CommandGroup, Any]:
    group = CommandGroup(build)
    return group, Parser().add_subparsers(parser_class=CommandParser)


def test_help_imports_no_module_of_a_command() -> None:
    modules = {f"weightzoo.cli.{path.partition('.')[0]}" for path in COMMANDS}
    loaded = loaded_after("['--help']")
    assert "weightzoo.cli.commands" in loaded
    assert loaded & (modules | {"weightzoo.cli.arguments"}) == set()


def test_help_of_a_command_imports_the_module_of_its_group_alone() -> None:
    loaded = loaded_after("['glue', '--help']")
    assert "weightzoo.cli.gluing" in loaded
    assert not loaded & {"weightzoo.cli.building", "weightzoo.cli.models", "weightzoo.cli.zoos"}


def test_every_line_of_the_table_is_the_start_of_the_description() -> None:
    commands = _parser()._actions[-1].choices
    lines = {name: text for texts in COMMANDS.values() for name, text in texts.items()}
    described = {name: one.description.split(";")[0] for name, one in dict(commands or {}).items()}
    assert lines == described


def test_parser_of_a_command_is_built_at_its_first_use() -> None:
    commands = Parser().add_subparsers(parser_class=CommandParser)
    add_all_commands(commands)
    assert not any(one.is_built for one in commands.choices.values())
    assert commands.choices["merge"].parse_args(["a", "--out", "b"]).members == ["a"]
    assert [name for name, one in commands.choices.items() if one.is_built] == [
        *COMMANDS["merging.add_merge_command"]
    ]


def test_command_without_a_line_in_the_table_is_refused() -> None:
    group, commands = group_of(lambda group: group.add_parser("other", help="do more"))
    group.add_line(commands, "one", "do it")
    with pytest.raises(LookupError, match=r"'other' is missing in the table COMMANDS.*do more"):
        commands.choices["one"].parse_args([])


def test_line_in_the_table_without_its_command_is_refused() -> None:
    group, commands = group_of(lambda group: None)
    group.add_line(commands, "one", "do it")
    with pytest.raises(LookupError, match=r"commands \['one'\] of the table COMMANDS"):
        commands.choices["one"].format_help()


def test_built_parser_has_no_attribute_by_chance() -> None:
    group, commands = group_of(lambda group: group.add_parser("one", help="do it"))
    group.add_line(commands, "one", "do it")
    assert isinstance(commands.choices["one"]._actions[0], argparse._HelpAction)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = commands.choices["one"].nothing
