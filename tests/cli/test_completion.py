"""Completion in the shell, suggestions, `--version` and closed pipes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from weightzoo.cli import completion
from weightzoo.cli.main import main
from weightzoo.tasks.trainings import TRAIN_KINDS
from weightzoo.zoos.images.catalog import IMAGE_SETS
from weightzoo.zoos.recipe import recipe_names


def completed(line: str, tmp_path: Path) -> list[str]:
    """The words that the shell is offered for an unfinished line."""
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words"),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, "-m", "weightzoo"]
    subprocess.run(command, cwd="/", env=environment, check=True, timeout=60)
    return [word.strip() for word in (tmp_path / "words").read_text().split("\n")]


def test_copies_of_names_are_complete() -> None:
    assert set(completion.ENCODERS) == set(TRAIN_KINDS)
    assert completion.IMAGE_SETS == list(IMAGE_SETS)
    assert completion.recipe_words() == recipe_names()


def test_the_shell_completes_commands_options_and_names(tmp_path: Path) -> None:
    assert completed("weightzoo fin", tmp_path) == ["finetune", "finetune-matrix"]
    assert "--epochs" in completed("weightzoo train sne zoo --ep", tmp_path)
    assert "digits-mlp" in completed("weightzoo build digits", tmp_path)
    assert completed("weightzoo train nf", tmp_path) == ["nfn-hnp", "nfn-np", "nft"]
    assert "glyphs-greek" in completed("weightzoo finetune z --images glyphs-g", tmp_path)


def test_the_shell_completes_columns_of_the_zoo(tiny_zoo: Path, tmp_path: Path) -> None:
    words = completed(f"weightzoo train sne {tiny_zoo} --target test_", tmp_path)
    assert set(words) == {"test_accuracy", "test_loss"}


def test_completion_prints_code_for_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert "complete " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [
        (["buld", "digits-mlp"], "build"),
        (["train", "sne", "zoo", "--out", "m", "--epocs", "3"], "--epochs"),
        (["build", "digits-mlp", "--engine", "rai"], "ray"),
    ],
)
def test_unknown_commands_and_options_suggest_one(
    arguments: list[str], suggested: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert f"did you mean '{suggested}'?" in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["completion", "bash"]])
def test_a_closed_pipe_is_silent(arguments: list[str], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "weightzoo", *arguments],
        cwd="/",
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141 or arguments == ["--help"]  # argparse ignores a failed write
