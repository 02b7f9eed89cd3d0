"""Memory of opening a file much larger than it, measured in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_tiny_zoo import tiny_architecture, tiny_rows

from weightzoo.zoos import format as zoo_format
from weightzoo.zoos.format import ZooHeader, create_zoo_file
from weightzoo.zoos.recipe import hyper_parameter_names, load_recipe

ROWS = 1_015_000  # of 2,464 float32: 10 GB
LIMIT_MB = 300
READ_100_ROWS = """
import sys
import torch
from weightzoo.loaders import load_zoo

def peak_mb():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

before = peak_mb()
dataset = load_zoo(sys.argv[1], split="train")
rows = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:100]
batch = dataset[rows]
assert batch["weights"].shape == (100, 2464), batch["weights"].shape
assert batch["epoch"].tolist() == dataset.columns["epoch"][rows].tolist()
print(peak_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's count of memory")
def test_ten_gigabytes_open_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo_format, "_reserve", leave_a_hole)
    header = ZooHeader(
        architecture=None,
        layer_table=load_recipe("digits-cnn").architecture.layer_table(),
        hyper_parameters=hyper_parameter_names(),
    )
    columns, _ = tiny_rows(tiny_architecture(), ["train"] * 8)
    path = tmp_path / "large.h5"
    create_zoo_file(path, header, {name: np.resize(c, ROWS) for name, c in columns.items()})
    assert path.stat().st_size > 10e9
    command = [sys.executable, "-c", READ_100_ROWS, str(path)]
    peak_mb = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak_mb < LIMIT_MB


def leave_a_hole(path: Path, offset: int, size_bytes: int) -> None:
    """Make the file as long as it should be without taking disk."""
    os.truncate(path, max(path.stat().st_size, offset + size_bytes))
