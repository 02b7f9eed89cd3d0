"""DeviceLoader against the machine's limits: copies within, and to, the device; cold disks.

    python benchmarks/speed/device_loader.py [--device cuda] [--rows 200000] [--batch 2048] [--cold]

Writes a synthetic zoo to a temporary folder and reads random batches of it, weights alone and
with all columns of numbers. On CUDA every 16th batch waits for the device. The limits:

- resident mode: copies of as many bytes as a batch within the device;
- streaming mode: copies of one pinned batch to the device, over and over;
- on the CPU: `np.take` from a memmap into one buffer.

With --cold the file's pages are dropped from memory before each turn, and the limit is reading
the file in order.

Shape letters: N rows, D length of the flat weight vector.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from synthetic_zoo import SEED, write_zoo
from timing import Reader, machine, measure, summary, table

from weightzoo.loaders import BlockShuffle, DeviceLoader, ZooDataset, load_zoo
from weightzoo.zoos.format import ZooFile, open_zoo_file

COPY_WITHIN = "copy within the device"
COPY_TO = "copy of one pinned batch to the device"
MEMMAP = "numpy memmap, `np.take` into one buffer"
IN_ORDER = "reading the file in order"


def main() -> None:
    """Parse arguments, measure, print the tables."""
    args = _arguments()
    result: dict[str, Any] = {"header": _header(args)}
    print(result["header"], flush=True)
    with tempfile.TemporaryDirectory(prefix="device_loader_", dir=args.folder) as folder:
        path = Path(folder) / "train.h5"
        write_zoo(path, args.rows, args.width)
        for title, rates in _measured(open_zoo_file(path), args):
            limit, ours = list(rates)[:2]
            result[title] = summary(rates, limit, ours)
            print(f"\n**{title}**\n\n{table(result[title], 4 * args.width)}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def _measured(
    file: ZooFile, args: argparse.Namespace
) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Title and rates by reader of every table, the limit first, our loader second."""
    if args.cold:
        yield "cold disk", _cold_rates(file, args)
        return
    for mode in ("resident", "streaming"):
        readers = _mode_readers(file, args, mode)
        yield f"{mode} mode", measure(readers, args.batch, args.rounds, args.seconds)


def _mode_readers(file: ZooFile, args: argparse.Namespace, mode: str) -> list[Reader]:
    """The limit of a mode, and our loaders in it."""
    dataset = load_zoo(file.path, split="train")
    loaders = {
        "weights alone": {"columns": []},
        "with all numbers": {},
        "with layer sets": {"columns": [], "transform": _tokenizer(dataset)},
    }
    readers = [_limit_reader(file, args, mode)]
    for what, options in loaders.items():
        loader = DeviceLoader(dataset, args.batch, args.device, mode=mode, **options)
        if loader.mode != mode:
            raise SystemExit(f"{args.rows} rows do not fit {args.device}: take fewer --rows")
        readers.append(Reader(f"{mode}, {what}", _synchronised(_endless(loader), args)))
    return readers


def _cold_rates(file: ZooFile, args: argparse.Namespace) -> dict[str, list[float]]:
    """Rows per second of every order of reading a file whose pages are not in memory at first.

    Pages that a process has mapped are not dropped, so each turn opens the file anew.
    """
    ways: dict[str, bool | BlockShuffle] = {
        IN_ORDER: False,
        "block shuffle": BlockShuffle(),
        "full random": True,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            _forget(file)
            dataset = load_zoo(file.path, split="train", columns=[])
            loader = DeviceLoader(dataset, args.batch, shuffle=way, mode="streaming")
            start, rows = time.perf_counter(), 0
            for batch in loader:
                rows += len(batch["weights"])
                if time.perf_counter() - start > args.seconds:
                    break
            rates[name].append(rows / (time.perf_counter() - start))
            del dataset, loader, batch
    return rates


def _limit_reader(file: ZooFile, args: argparse.Namespace, mode: str) -> Reader:
    """The machine's limit for a mode."""
    if args.device == "cpu":
        return Reader(MEMMAP, _memmap_batches(file, args.batch))
    shape = (args.batch, file.width)
    target = torch.empty(shape, device=args.device)
    if mode == "resident":
        source, name = torch.zeros(shape, device=args.device), COPY_WITHIN
    else:
        source, name = torch.zeros(shape, pin_memory=True), COPY_TO
    return Reader(name, _synchronised(_copies(source, target), args))


def _copies(source: torch.Tensor, target: torch.Tensor) -> Iterator[torch.Tensor]:
    """The same copy, repeated endlessly."""
    while True:
        yield target.copy_(source, non_blocking=True)


def _endless(loader: DeviceLoader) -> Iterator[Any]:
    """Endless passes over a loader."""
    while True:
        yield from loader


def _synchronised(batches: Iterator[Any], args: argparse.Namespace) -> Iterator[Any]:
    """Batches that on CUDA wait for the device every 16, so that finished work is measured."""
    for number, batch in enumerate(batches, 1):
        if args.device != "cpu" and number % 16 == 0:
            torch.cuda.synchronize()
        yield batch


def _forget(file: ZooFile) -> None:
    """Drop a file's pages from memory."""
    with file.path.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memmap_batches(file: ZooFile, batch: int) -> Iterator[np.ndarray]:
    """The limit on the CPU."""
    rows, buffer = np.asarray(file.map_weights()), np.empty((batch, file.width), np.float32)
    rng = np.random.default_rng(SEED)
    while True:
        order = rng.permutation(file.rows)
        for start in range(0, file.rows - batch + 1, batch):
            yield np.take(rows, order[start : start + batch], axis=0, mode="clip", out=buffer)


def _tokenizer(dataset: ZooDataset) -> Any:
    return dataset.select_columns([]).with_format("layer_sets").tokenizer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help=f"(default here {default})")
    parser.add_argument("--rows", type=int, default=50_000, help="rows N (default 50000)")
    parser.add_argument("--width", type=int, default=2464, help="values per row D (default 2464)")
    parser.add_argument("--batch", type=int, default=256, help="rows per batch (default 256)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument(
        "--seconds", type=float, default=0.7, help="per reader and round, in seconds (default 0.7)"
    )
    parser.add_argument("--cold", action="store_true", help="drop the file's pages (needs Linux)")
    parser.add_argument("--folder", help="where the temporary folder is made")
    parser.add_argument("--json", type=Path, help="also write header and numbers to this file")
    return parser.parse_args()


def _header(args: argparse.Namespace) -> str:
    what = args.device
    if args.device != "cpu":
        what = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return (
        f"{machine()}, numpy {np.__version__}, torch {torch.__version__}; on {what}; {args.rows} "
        f"rows of {args.width} float32, batches of {args.batch}, seed {SEED}, median of "
        f"{args.rounds} rounds of {args.seconds} s; command: python {shlex.join(sys.argv)}"
    )


if __name__ == "__main__":
    main()
