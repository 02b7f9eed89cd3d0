"""Processor time to open a zoo of many files, and to filter many rows.

    python benchmarks/speed/opening.py [--rows 1000000] [--shards 1000] [--folder FOLDER]
        [--json FILE]

Writes a zoo file of short rows with the columns of a real zoo, and a zoo folder of equal small
files. Opening is measured once in a round, from `load_zoo` on: the call alone, the first random
batch of weights, then all columns of all files. Filters are measured on a dataset whose columns
were read and which has kept no column of an earlier filter. Files that `--folder` holds already are
used again. Figures are medians over rounds of milliseconds of processor time.
"""

import argparse
import json
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from synthetic_zoo import SEED, write_sharded_zoo, write_zoo
from timing import machine

from weightzoo.loaders import load_zoo
from weightzoo.zoos.index import ZooIndex, shard_name

WIDTH, SHARD_WIDTH, SHARD_ROWS, BATCH = 8, 2464, 20, 256
CONDITIONS: dict[str, Any] = {
    "a number": "epoch == 6",
    "a text": "activation == 'tanh'",
    "a text in a list": "activation in ('tanh', 'relu')",
    "two numbers and a text": "epoch >= 3 and test_accuracy > 0.5 and activation == 'tanh'",
    "a function of a number": lambda columns: columns["epoch"] == 6,
}


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to filter, 0 for none")
    parser.add_argument("--shards", type=int, default=1000, help="files to open, 0 for none")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--folder", type=Path, help="folder of the files, kept")
    parser.add_argument("--json", type=Path, help="also write header and figures to this file")
    args = parser.parse_args()
    versions = f"numpy {np.__version__}, h5py {h5py.__version__}"
    result: dict[str, Any] = {
        "header": f"{machine()}, {versions}; command: python {shlex.join(sys.argv)}"
    }
    with tempfile.TemporaryDirectory(prefix="opening_") as temporary:
        folder = args.folder or Path(temporary)
        if args.shards:
            opened = _opening(folder / f"shards-{args.shards}", args.shards, args.rounds)
            result["opening"] = opened
            print(json.dumps(opened, indent=2), flush=True)
        if args.rows:
            filtered = _filters(folder / f"rows-{args.rows}.h5", args.rows, args.rounds)
            result["filter"] = filtered
            print(json.dumps(filtered, indent=2), flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def _filters(path: Path, rows: int, rounds: int) -> dict[str, float]:
    """Milliseconds of the first reading of all columns, and of every filter."""
    if not path.exists():
        write_zoo(path, rows, WIDTH)
    dataset = load_zoo(path, split="train")
    found = {"first reading of all columns": _milliseconds(partial(load_zoo, path))}
    for name, condition in CONDITIONS.items():
        times = []
        for _ in range(rounds):
            fresh = replace(dataset)  # without the columns that the one before has kept
            times.append(_milliseconds(partial(fresh.filter, condition)))
        found[name] = statistics.median(times)
    return found


def _opening(folder: Path, shards: int, rounds: int) -> dict[str, float]:
    """Milliseconds to open a zoo of many files."""
    if not folder.exists():
        _write_equal_shards(folder, shards)
    order = np.random.default_rng(SEED).permutation(SHARD_ROWS * shards)[:BATCH]
    names = ("load_zoo", "load_zoo, first batch of weights", "load_zoo, all columns")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(_milliseconds(partial(_open, folder, name, order)))
    return {name: statistics.median(values) for name, values in times.items()}


def _open(folder: Path, name: str, order: np.ndarray) -> None:
    dataset = load_zoo(folder, split="train")
    if name.endswith("weights"):
        dataset.weights(order)
    if name.endswith("columns"):
        dataset.columns["epoch"]


def _write_equal_shards(folder: Path, shards: int) -> None:
    """A zoo folder that lists one file many times, each time as a copy."""
    write_sharded_zoo(folder, SHARD_ROWS, SHARD_WIDTH, 1)
    listed = ZooIndex.read(folder).shards[0]
    first = (folder / listed.path).rename(folder / "first.h5")
    names = [shard_name("train", index, shards) for index in range(shards)]
    for name in names:
        shutil.copyfile(first, folder / name)
    first.unlink()
    copies = [
        replace(listed, path=name, sha256=f"{index:064x}") for index, name in enumerate(names)
    ]  # an index lists no checksum twice; opening reads no checksum
    ZooIndex(name="random", shards=tuple(copies)).write(folder)


def _milliseconds(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return 1000 * (time.process_time() - start)


if __name__ == "__main__":
    main()
