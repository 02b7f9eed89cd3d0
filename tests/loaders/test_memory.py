"""Memory of opening a file much larger than it, measured in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_tiny_zoo import tiny_architecture, tiny_rows

from weightzoo.zoos.format import ZooHeader, create_zoo_file, writing
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
RING_BATCHES, BATCH_BYTES = 5, 256 * 2464 * 4  # what a pool keeps
READ_AN_EPOCH = """
import sys
from weightzoo.loaders import DeviceLoader, load_zoo

def own_mb():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

dataset = load_zoo(sys.argv[1], split="train", columns=[]).select(range(200_000))
loader = DeviceLoader(dataset, 256, mode="streaming")
before, most, rows = own_mb(), 0, 0
for batch in loader:
    most, rows = max(most, own_mb()), rows + len(batch["weights"])
assert rows == 200_000
print(most - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 10 GB; its weights are a hole on the disk."""
    header = ZooHeader(
        architecture=None,
        layer_table=load_recipe("digits-cnn").architecture.layer_table(),
        hyper_parameters=hyper_parameter_names(),
    )
    columns, _ = tiny_rows(tiny_architecture(), ["train"] * 8)
    path = tmp_path_factory.mktemp("large") / "large.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_reserve", leave_a_hole)
        create_zoo_file(path, header, {name: np.resize(c, ROWS) for name, c in columns.items()})
    assert path.stat().st_size > 10e9
    return path


def measured_mb(script: str, path: Path) -> float:
    """What a script prints, in a process of its own."""
    command = [sys.executable, "-c", script, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's count of memory")
def test_ten_gigabytes_open_in_little_memory(large: Path) -> None:
    """Opening 10 GB with all columns and reading 100 random rows."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's count of memory")
def test_streaming_takes_no_more_memory_than_its_ring(large: Path) -> None:
    """An epoch over 2 GB; beside the batches there are the order and the threads."""
    ring_mb = RING_BATCHES * BATCH_BYTES / 2**20
    assert ring_mb / 2 < measured_mb(READ_AN_EPOCH, large) < ring_mb + 20


def leave_a_hole(path: Path, offset: int, size_bytes: int) -> None:
    """Make the file as long as it should be without taking disk."""
    os.truncate(path, max(path.stat().st_size, offset + size_bytes))
