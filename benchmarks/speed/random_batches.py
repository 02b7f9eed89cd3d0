"""Rows per second in random batches: our loader beside other ways to read the same rows.

    python benchmarks/speed/random_batches.py [--rows 50000] [--width 2464] [--batch 256]
        [--json FILE] [--tables weights columns parts] [--lance PYTHON]
        [--clock process_time]

Writes a synthetic zoo (random weights, the real columns) to a temporary folder, reads random
batches from it with every reader in turn, several rounds, and prints the median rates and ratios
as Markdown tables: weights alone, all columns, one layer or tenth of every row. All readers run
with one thread, with the file in the page cache; a reader whose batch takes longer than its time
reads one batch per round. Readers of streams (webdataset, `datasets` streaming) do not read at
random, but in file order or shuffled within a buffer. webdataset is left out if it is not
installed (`pip install weightzoo[bench]`). Lance needs an environment of its own, `--lance PYTHON`
with pylance: it reads in a process of its own, which gets the rows in an Arrow file.

Shape letters: N rows, D length of the flat weight vector.
"""

import argparse
import json
import logging
import os
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from synthetic_zoo import SEED, write_sharded_zoo, write_zoo
from timing import Reader, machine, measure, summary, table
from torch.utils.data import DataLoader

from weightzoo.loaders import BatchOrder, DeviceLoader, ZooDataset, load_zoo
from weightzoo.zoos.format import WEIGHTS, ZooFile, open_zoo_file

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
from arrow_peers import ArrowRows, LanceRows
from readers import (
    H5pyRows,
    SafetensorsFiles,
    StateDicts,
    WebShards,
    model_count,
    stock_dataset,
    stock_stream,
)

LIMIT = "(a) numpy memmap, `np.take` into one buffer"
PART_LIMIT = "(a) numpy memmap, `rows[index, start:stop]`"
OURS = "ours, `DataLoader`"
OUR_ORDER = "ours, `DataLoader(batch_sampler=BatchOrder)`"
TABLES = {"weights": "weights alone", "columns": "all columns", "parts": "a part of every row"}
MOST_BYTES_TO_WORKERS = 2**26  # largest batch that worker processes pass on
OUR_PART = "ours, `ds.window(start, stop)`, `ds.__getitems__`"


def main() -> None:
    """Parse arguments, measure, print the tables."""
    args = _arguments()
    _quiet()
    result: dict[str, Any] = {"header": _header(args)}
    print(result["header"], flush=True)
    with tempfile.TemporaryDirectory(prefix="random_batches_", dir=args.folder) as folder:
        if args.shards > 1:
            result |= _measure_shards(Path(folder) / "zoo", args)
        else:
            result |= _measure_file(Path(folder), args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def _measure_file(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The tables of one file, printed and returned."""
    path = folder / "train.h5"
    write_zoo(path, args.rows, args.width)
    file, found = open_zoo_file(path), {}
    for title, every_column in (("weights", False), ("columns", True)):
        if title in args.tables:
            readers = _make_readers(folder, file, args, every_column)
            rates = measure(readers, args.batch, args.rounds, args.seconds, args.clock)
            found[title] = summary(rates, LIMIT, OURS)
            print(f"\n**{TABLES[title]}**\n\n{table(found[title], 4 * args.width)}", flush=True)
    if "parts" in args.tables:
        title, start, stop = _largest_part(file)
        rates = measure(_part_readers(file, args, start, stop), args.batch, args.rounds, 0.3)
        found[title] = summary(rates, PART_LIMIT, OUR_PART)
        print(f"\n**{title}**\n\n{table(found[title], 4 * (stop - start))}", flush=True)
    return found


def _largest_part(file: ZooFile) -> tuple[str, int, int]:
    """The layer tensor nearest to a tenth of the row, or a tenth if there is but one."""
    tensors = file.header.layer_table.tensors
    if len(tensors) == 2:
        start, stop = file.width // 2, file.width // 2 + max(1, file.width // 10)
        return f"values {start} to {stop} of every row", start, stop
    part = min(tensors, key=lambda tensor: abs(tensor.size - file.width // 10))
    title = f"{part.name} alone, {part.size} of {file.width} values of every row"
    return title, part.offset, part.offset + part.size


def _measure_shards(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to open many files and read first rows, and rates of random batches."""
    write_sharded_zoo(folder, args.rows, args.width, args.shards)
    seconds, clock = {}, time.perf_counter()
    dataset = load_zoo(folder, split="train")
    seconds["load_zoo"], clock = time.perf_counter() - clock, time.perf_counter()
    dataset.columns["epoch"]
    seconds["open every file, read all columns"] = time.perf_counter() - clock
    readers = [
        Reader("ours, weights alone", _each_batch(args, dataset.select_columns([]).__getitems__)),
        Reader("ours, all columns", _each_batch(args, dataset.__getitems__)),
    ]
    rates = measure(readers, args.batch, args.rounds, args.seconds)
    numbers = summary(rates, readers[0].name, readers[0].name)
    lines = [f"- {what}: {1000 * value:,.1f} ms" for what, value in seconds.items()]
    print("\n".join([f"\n**{args.shards} files**\n", *lines, "", table(numbers, 4 * args.width)]))
    return {"seconds": seconds, "shards": numbers}


def _make_readers(
    folder: Path, file: ZooFile, args: argparse.Namespace, every_column: bool
) -> list[Reader]:
    """Every reader over the same rows and columns; checks first that they read the same."""
    batch = args.batch
    ours = load_zoo(file.path, split="train", columns=None if every_column else [])
    readers = [
        Reader(LIMIT, _each_batch(args, _memmap_reader(file, batch))),
        Reader(OURS, _loop(ours, batch)),
        Reader(OUR_ORDER, _ordered(ours, batch)),
        Reader("ours, `ds.__getitems__`", _each_batch(args, ours.__getitems__)),
        Reader("ours, `DeviceLoader`, streaming", _device_loop(ours, batch, "streaming")),
    ]
    if not every_column:
        readers.append(Reader("ours, layer sets, `DataLoader`", _layer_set_batches(ours, batch)))
    if args.peers:
        readers += _peer_readers(folder, file, ours, args, every_column)
    return readers


def _peer_readers(
    folder: Path, file: ZooFile, ours: ZooDataset, args: argparse.Namespace, every_column: bool
) -> list[Reader]:
    """Readers of other libraries."""
    batch = args.batch
    stock = stock_dataset(folder, file, every_column)
    rows = H5pyRows(file.path, list(ours.columns))
    models = StateDicts(folder, file, every_column)
    files = SafetensorsFiles(folder, file, every_column)
    _check_equal({"stock": stock, "h5py": rows, "list": models, "files": files}, ours, file)
    stream = stock_stream(file, every_column)
    _check_stream("stock streaming", stream, ours)
    readers = [
        Reader("(b) stock `datasets`, torch, `DataLoader`", _loop(stock, batch)),
        Reader("(b) the same, `ds[indices]`", _each_batch(args, stock.__getitem__)),
        Reader("(b) stock `datasets`, streaming, numpy, in file order", _endless(stream, batch)),
        Reader("(c) h5py row by row, `DataLoader`", _loop(rows, batch)),
        Reader("(d) list of state dicts, `DataLoader`", _loop(models, batch)),
        Reader("(e) one safetensors file per model, `DataLoader`", _loop(files, batch)),
    ]
    small = 4 * batch * file.width < MOST_BYTES_TO_WORKERS
    if small and args.clock == "perf_counter":  # the other clock does not count workers
        readers.append(Reader("(b) stock, `DataLoader`, 2 workers", _loop(stock, batch, workers=2)))
    arrow = ArrowRows(folder, file, ours if every_column else None)
    _check_equal({"Arrow IPC": arrow}, ours, file)
    readers.append(Reader("Arrow IPC, memory-mapped, `take`", _each_batch(args, arrow.take)))
    if args.lance:
        lance = LanceRows(args.lance, arrow, args.batch)
        readers.append(Reader("Lance, `take`", timed=lance.seconds_per_batch))
    if WebShards.installed:
        shards = WebShards(folder, file, every_column)
        _check_stream("webdataset", shards.rows(), ours)
        readers.append(Reader("(f) webdataset, shuffled within 1,000", shards.batches(batch)))
    else:
        print("webdataset is not installed: it is left out", file=sys.stderr)
    return readers


def _part_readers(file: ZooFile, args: argparse.Namespace, start: int, stop: int) -> list[Reader]:
    """Readers of a part of every row."""
    rows, batch = np.asarray(file.map_weights()), args.batch
    part = load_zoo(file.path, split="train", columns=[]).window(start, stop)
    opened = h5py.File(file.path, "r")[WEIGHTS]
    return [
        Reader(PART_LIMIT, _each_batch(args, lambda index: rows[np.array(index), start:stop])),
        Reader(OUR_PART, _each_batch(args, part.__getitems__)),
        Reader("ours, the same in a `DataLoader`", _loop(part, batch)),
        Reader(
            "whole rows, then cut", _each_batch(args, lambda i: rows[np.array(i)][:, start:stop])
        ),
        Reader(
            "h5py row by row, `dataset[row, start:stop]`",
            _each_batch(args, lambda i: np.stack([opened[row, start:stop] for row in i])),
        ),
    ]


def _each_batch(args: argparse.Namespace, read: Callable[[list[int]], Any]) -> Iterator[Any]:
    """Endless random batches of a function that takes a list of row numbers."""
    rng = np.random.default_rng(SEED)
    while True:
        order = rng.permutation(args.rows).tolist()
        for start in range(0, args.rows - args.batch + 1, args.batch):
            yield read(order[start : start + args.batch])


def _loop(dataset: Any, batch: int, workers: int = 0) -> Iterator[Any]:
    """Endless batches of a shuffling DataLoader with torch's default collate."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(SEED),
    )
    while True:
        yield from loader


def _endless(stream: Any, batch: int) -> Iterator[Any]:
    """Endless batches of a stock stream."""
    while True:
        yield from stream.iter(batch, drop_last_batch=True)


def _ordered(dataset: ZooDataset, batch: int) -> Iterator[Any]:
    """Endless batches of a DataLoader that follows our order, which makes no lists."""
    order = BatchOrder(len(dataset), batch, drop_last=True)
    loader: DataLoader[Any] = DataLoader(dataset, batch_sampler=order)  # type: ignore[arg-type]
    while True:
        yield from loader


def _device_loop(dataset: ZooDataset, batch: int, mode: str) -> Iterator[Any]:
    """Endless batches of a DeviceLoader on the CPU."""
    loader = DeviceLoader(dataset, batch, mode=mode, drop_last=True, columns=dataset.shown)
    while True:
        yield from loader


def _layer_set_batches(dataset: ZooDataset, batch: int) -> Iterator[Any]:
    """Endless batches of tokens, made on demand because the copy plan takes memory."""
    yield from _loop(dataset.with_format("layer_sets"), batch)


def _memmap_reader(file: ZooFile, batch: int) -> Callable[[list[int]], np.ndarray]:
    """The limit: a raw gather without columns, checks or new memory."""
    rows = np.memmap(file.path, "<f4", "r", file.weights_offset, (file.rows, file.width))
    table, buffer = np.asarray(rows), np.empty((batch, file.width), np.float32)
    return lambda index: np.take(table, np.array(index), axis=0, mode="clip", out=buffer)


def _check_equal(peers: dict[str, Any], ours: ZooDataset, file: ZooFile) -> None:
    """Refuse to time readers that read different rows."""
    numbers = [3, 1, model_count(file) - 1]
    expected = torch.from_numpy(np.array(file.map_weights()[numbers]))
    for name, dataset in {"ours": ours, **peers}.items():
        found = torch.stack([dataset[number][WEIGHTS] for number in numbers])
        if not torch.equal(found, expected) or set(dataset[0]) != {*ours.columns, WEIGHTS}:
            raise SystemExit(f"reader {name!r} does not read the same rows")


def _check_stream(name: str, stream: Any, ours: ZooDataset) -> None:
    """Refuse to time a stream that reads other rows."""
    for index, row in zip(range(3), stream, strict=False):
        weights = torch.as_tensor(row[WEIGHTS])
        names = {name for name in row if not name.startswith("__")}  # webdataset adds its key
        if not torch.equal(weights, ours[index][WEIGHTS]) or names != {*ours.columns, WEIGHTS}:
            raise SystemExit(f"stream {name!r} does not read the same rows")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=50_000, help="rows N (default 50000)")
    parser.add_argument("--width", type=int, default=2464, help="values per row D (default 2464)")
    parser.add_argument("--batch", type=int, default=256, help="rows per batch (default 256)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--shards", type=int, default=1, help="files; many skip the peers")
    parser.add_argument(
        "--seconds", type=float, default=0.7, help="per reader and round, in seconds (default 0.7)"
    )
    parser.add_argument(
        "--tables", nargs="+", choices=TABLES, default=list(TABLES), help="(default all)"
    )
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    clocks = ("perf_counter", "process_time")
    parser.add_argument("--clock", choices=clocks, default=clocks[0], help="clock of the rates")
    parser.add_argument("--lance", metavar="PYTHON", help="interpreter with pylance, as a peer")
    parser.add_argument("--folder", help="folder for the temporary folder")
    parser.add_argument("--json", type=Path, help="also write header and numbers to this file")
    args = parser.parse_args()
    if 2 * args.batch > args.rows:
        parser.error(f"--batch {args.batch} is more than half of --rows {args.rows}")
    return args


def _header(args: argparse.Namespace) -> str:
    import datasets

    versions = ", ".join(
        f"{module.__name__} {module.__version__}" for module in (np, torch, h5py, datasets)
    )
    return (
        f"{machine()}, {versions}, 1 thread; {args.rows} rows of {args.width} float32, "
        f"batches of {args.batch}, seed {SEED}, median of {args.rounds} rounds of "
        f"{args.seconds} s; (d) and (e) hold at most 5,000 rows or 2 GiB; "
        f"command: python {shlex.join(sys.argv)}"
    )


def _quiet() -> None:
    """One thread, no network, no progress bars."""
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module="datasets")


if __name__ == "__main__":
    main()
