"""Runs a script of this folder as a user does, and reads what it counted."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from report import FOLDER_VARIABLE

FOLDER = Path(__file__).parent


def run_script(name: str, *arguments: str, record: str | None = None) -> dict[str, Any]:
    """The record of a script; what it prints is shown if a test fails.

    Args:
        name: file name of the script.
        arguments: its arguments.
        record: name of its record; None is the script's own. It is kept where the environment
            names a folder for it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.environ.get(FOLDER_VARIABLE, scratch)
        done = subprocess.run(
            [sys.executable, FOLDER / name, *arguments],
            env=os.environ | {FOLDER_VARIABLE: folder, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        print(done.stdout, done.stderr[-3000:])
        if done.stdout.startswith("skipped: "):
            pytest.skip(done.stdout.strip())
        assert done.returncode in (0, 1), done.stderr
        file = Path(folder) / f"{record or Path(name).stem}.json"
        return dict(json.loads(file.read_text()))
