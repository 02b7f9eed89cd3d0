"""Batches from a cold disk and over a slow mount, by way of reading.

    python benchmarks/speed/slow_reads.py [--rows 10000] [--batches 16] [--latency 0.005]
        [--rate 2e7] [--places disk mount] [--json FILE]

Reads the first batches of an epoch after the file's pages were dropped from memory (posix_fadvise).
The mount is `../peers/slow_mount.py`: every answer of at most 128 KiB takes the latency, and all
answers share a line of the rate. Figures are rows per second of the clock, bytes that the disk or
the mount gave per byte of the rows, and requests to the mount or page faults that waited for the
disk, medians over rounds with the ways in turns. On a busy machine the bytes say more than the
clock.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from synthetic_zoo import write_zoo
from timing import machine

from weightzoo.loaders import BatchOrder, BlockShuffle, load_zoo
from weightzoo.loaders.storage import verified_reads

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
import slow_mount

WIDTH, BATCH = 2464, 256
ORDERS: dict[str, bool | BlockShuffle] = {
    "in order": False,
    "block shuffle": BlockShuffle(),
    "random": True,
}
MAPPED, NOT_ANNOUNCED = "mapped", "read, rows not announced"
READERS = (MAPPED, "read", NOT_ANNOUNCED)  # the last as before rows were announced to the system
Count = Callable[[], tuple[int, int]]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=10_000, help="rows (default 10000)")
    parser.add_argument("--batches", type=int, default=16, help="batches to read (default 16)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--latency", type=float, default=0.005, help="seconds of an answer")
    parser.add_argument("--rate", type=float, default=2e7, help="bytes per second of the line")
    places = ("disk", "mount")
    parser.add_argument("--places", nargs="+", choices=places, default=places, help="(both)")
    parser.add_argument("--folder", help="folder for the temporary folder, on the disk to measure")
    parser.add_argument("--json", type=Path, help="also write header and figures to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    versions = f"numpy {np.__version__}, torch {torch.__version__}"
    header = f"{machine()}, {versions}; command: python {shlex.join(sys.argv)}"
    result: dict[str, Any] = {"header": header}
    with tempfile.TemporaryDirectory(prefix="slow_reads_", dir=args.folder) as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        write_zoo(files / "train.h5", args.rows, WIDTH)
        if "disk" in args.places:
            result["disk"] = _table(files / "train.h5", files / "train.h5", _read_by_disk, args)
        if "mount" in args.places:
            with _mounted(files, Path(scratch) / "mount", args) as (mount, count):
                result["mount"] = _table(mount / "train.h5", files / "train.h5", count, args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def _table(path: Path, stored: Path, count: Count, args: argparse.Namespace) -> dict[str, Any]:
    """Figures of every way, printed."""
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for reader in READERS:
            for name, shuffle in ORDERS.items():
                _forget(path, stored)
                run = _run(path, shuffle, reader, count, args)
                runs.setdefault(f"{name}, {reader}", []).append(run)
    found = {
        way: {figure: statistics.median(run[figure] for run in many) for figure in many[0]}
        for way, many in runs.items()
    }
    print(f"\n{path}\n\n| way | rows/s | bytes per byte of rows | requests |\n|---|--:|--:|--:|")
    for way, run in found.items():
        numbers = f"{run['rows_per_second']:,.0f} | {run['bytes']:.2f} | {run['requests']:,.0f}"
        print(f"| {way} | {numbers} |", flush=True)
    return found


def _run(
    path: Path, shuffle: bool | BlockShuffle, reader: str, count: Count, args: argparse.Namespace
) -> dict[str, float]:
    """Read the first batches of an epoch from a file that is not in memory."""
    dataset = load_zoo(path, split="train", columns=[], verify_on_read=reader != MAPPED)
    order = BatchOrder(len(dataset), BATCH, shuffle=shuffle)
    before, start, rows = count(), time.perf_counter(), 0
    advice = os if reader != NOT_ANNOUNCED else object()  # a system without posix_fadvise
    with mock.patch.object(verified_reads, "os", advice):
        for batch in islice(order, args.batches):
            rows += len(dataset.__getitems__(batch))
    seconds, after = time.perf_counter() - start, count()
    return {
        "rows_per_second": rows / seconds,
        "bytes": (after[1] - before[1]) / (4 * WIDTH * rows),
        "requests": after[0] - before[0],
    }


def _forget(*paths: Path) -> None:
    """Drop the pages of files from memory."""
    for path in paths:
        with path.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_by_disk() -> tuple[int, int]:
    """Page faults that waited for the disk, and bytes that this process had read from it."""
    import resource

    lines = Path("/proc/self/io").read_text().splitlines()
    size = next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt, size


@contextmanager
def _mounted(files: Path, mount: Path, args: argparse.Namespace) -> Iterator[tuple[Path, Count]]:
    """A slow mount in a process of its own, and what it has sent."""
    mount.mkdir()
    server = Path(slow_mount.__file__)
    command = [sys.executable, str(server), str(files), str(mount), str(args.latency)]
    process = subprocess.Popen(
        [*command, str(args.rate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    questions, answers = process.stdin, process.stdout

    def sent() -> tuple[int, int]:
        questions.write("\n")
        questions.flush()
        requests, size = answers.readline().split()
        return int(requests), int(size)

    try:
        if answers.readline().strip() != "mounted":
            raise SystemExit("the slow mount did not start: it needs Linux and root")
        yield mount, sent
    finally:
        slow_mount.unmount(mount)
        questions.close()
        process.wait()


if __name__ == "__main__":
    main()
