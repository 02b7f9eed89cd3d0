"""The GPU suite, tried on the CPU with tiny sizes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEED = ROOT / "benchmarks" / "speed"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts of the speed folder as modules."""
    monkeypatch.syspath_prepend(str(SPEED))
    yield
    for name in ("gpu_parts", "gpu_suite"):
        sys.modules.pop(name, None)


def test_populations_train_as_many_steps_on_both_sides() -> None:
    import gpu_parts

    rows = gpu_parts.populations("cpu", tiny=True)
    assert list(rows) == ["CNN-s", "INR"]
    assert rows["CNN-s"]["steps"] == 2 and rows["INR"]["steps"] == 8
    assert all(row["ratio"] > 0 for row in rows.values())


def test_whole_zoo_is_extrapolated_from_its_steps() -> None:
    import gpu_parts

    [row] = gpu_parts.whole_zoo("cpu", tiny=True).values()
    assert row["steps measured"] == row["steps of an epoch"] == 2
    minutes = (row["s an epoch, extrapolated"] + row["s an evaluation"]) * 50 / 60
    assert row["minutes in all, extrapolated"] == pytest.approx(minutes)


def test_layers_are_timed_in_each_way() -> None:
    import gpu_parts

    rows = gpu_parts.layers("cpu", tiny=True)
    assert len(rows) == 3
    *convolutions, norm = rows.values()
    for row in convolutions:
        assert list(row) == ["grouped, µs a model", "windows, µs a model"]
    assert list(norm) == ["one call, µs a model", "one call per model, µs a model"]


def test_report_shows_failed_parts_and_the_others() -> None:
    import gpu_suite

    parts = {
        "population": {"seconds": 1.0, "failed": None, "rows": {"CNN-s": {"ratio": 4.0}}},
        "epochs": {"seconds": 2.0, "failed": "stopped after 40 s", "rows": ""},
    }
    text = gpu_suite.report({"command": "c", "machine": "m", "tiny": True, "parts": parts})
    assert "| CNN-s | 4 |" in text and "stopped after 40 s" in text and "trial run" in text


def test_limits_of_all_parts_are_five_minutes() -> None:
    import gpu_suite

    assert sum(gpu_suite.LIMITS.values()) <= 300


@pytest.mark.slow
def test_suite_runs_whole_without_a_gpu(tmp_path: Path) -> None:
    command = [str(SPEED / "gpu_suite.sh"), "--device", "cpu", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--patience", "10"],
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu_suite.json").read_text())["parts"]
    assert list(parts) == ["tests", "loader", "population", "layers", "epochs", "encoders"]
    assert {"sne, cnn-s", "deepsets, cnn-s"} <= set(parts["encoders"]["rows"])
