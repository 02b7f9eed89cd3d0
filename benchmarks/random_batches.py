"""Rows per second in random batches: our loader beside other ways to read the same rows.

    python benchmarks/random_batches.py [--rows 50000] [--width 2464] [--batch 256] [--json FILE]

Writes a synthetic zoo (random weights, the real columns) to a temporary folder, reads random
batches from it with every reader in turn, several rounds, and prints the median rates and ratios
as a Markdown table, once for the weights alone and once with all columns. All readers run in one
process with one thread, with the file in the page cache; slow ones are stopped by time.

Shape letters: N rows, D length of the flat weight vector.
"""

import argparse
import json
import logging
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from weightzoo.loaders import load_zoo
from weightzoo.zoos.architectures import Architecture
from weightzoo.zoos.format import (
    METRICS,
    WEIGHTS,
    ZooFile,
    ZooHeader,
    create_zoo_file,
    finish_zoo_file,
    open_zoo_file,
)
from weightzoo.zoos.recipe import hyper_parameter_columns, hyper_parameter_names, load_recipe

SEED = 0
EPOCHS = 7
DISTINCT_MODELS = 500  # models whose hyper-parameters are repeated over the rows
STATE_DICTS = 5_000  # rows in the torch.load-ed list: 50,000 take minutes to write and load
BLOCK_ROWS = 4096
WARM_UP_BATCHES = 4  # what two workers prefetch
LIMIT = "(a) numpy memmap, `np.take` into one buffer"
OURS = "ours, `DataLoader`"


@dataclass(frozen=True)
class Reader:
    """One way to read.

    Attributes:
        name: in the table.
        batches: endless batches; nothing is read before the first is asked for.
    """

    name: str
    batches: Iterator[Any]


def main() -> None:
    """Parse arguments, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=50_000, help="rows N (default 50000)")
    parser.add_argument("--width", type=int, default=2464, help="values per row D (default 2464)")
    parser.add_argument("--batch", type=int, default=256, help="rows per batch (default 256)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument(
        "--seconds", type=float, default=0.7, help="per reader and round, in seconds (default 0.7)"
    )
    parser.add_argument("--json", type=Path, help="also write header and numbers to this file")
    args = parser.parse_args()
    _quiet()
    result: dict[str, Any] = {"header": _header(args)}
    print(result["header"], flush=True)
    with tempfile.TemporaryDirectory(prefix="random_batches_") as folder:
        path = Path(folder) / "train.h5"
        write_zoo(path, args.rows, args.width)
        for title, every_column in (("weights alone", False), ("all columns", True)):
            readers = make_readers(Path(folder), path, args.batch, every_column)
            rates = measure(readers, args.batch, args.rounds, args.seconds)
            result[title] = summary(rates)
            print(f"\n**{title}**\n\n{table(result[title])}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def write_zoo(path: Path, rows: int, width: int) -> None:
    """Write a zoo file of random weights block by block, in flat memory."""
    header = ZooHeader(
        architecture=None,
        layer_table=architecture(width).layer_table(),
        hyper_parameters=hyper_parameter_names(),
        recipe={"name": "random"},
    )
    rng = np.random.default_rng(SEED)
    create_zoo_file(path, header, synthetic_columns(rows, rng))
    weights = open_zoo_file(path).map_weights("r+")
    for start in range(0, rows, BLOCK_ROWS):
        block = weights[start : start + BLOCK_ROWS]
        block[:] = rng.standard_normal(block.shape, dtype=np.float32)
    weights.flush()
    del weights
    finish_zoo_file(path, header, {})


def architecture(width: int) -> Architecture:
    """The CNN of digits-cnn if it has that width, else one neuron of the width."""
    cnn = load_recipe("digits-cnn").architecture
    if cnn.layer_table().width == width:
        return cnn
    layers = [{"kind": "linear", "out": 1}]
    return Architecture.from_json({"name": "n", "input_shape": [width - 1], "layers": layers})


def synthetic_columns(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The columns that a built zoo has: identity, hyper-parameters, metrics."""
    models = load_recipe("digits-cnn").models(DISTINCT_MODELS)
    number = np.arange(rows)
    model_id = number // EPOCHS
    columns: dict[str, np.ndarray] = {
        "model_id": model_id,
        "epoch": number % EPOCHS,
        "split": np.full(rows, "train", dtype=object),
        "seed": model_id * 7919,
        "status": np.full(rows, "ok", dtype=object),
    }
    for name, values in hyper_parameter_columns(models).items():
        dtype = object if isinstance(values[0], str) else None
        columns[name] = np.array(values, dtype)[model_id % DISTINCT_MODELS]
    for name in METRICS:
        columns[name] = rng.random(rows, dtype=np.float32)
    return columns


def make_readers(folder: Path, path: Path, batch: int, every_column: bool) -> list[Reader]:
    """Every reader over the same rows and columns; checks first that they read the same."""
    file = open_zoo_file(path)
    ours = load_zoo(path, split="train", columns=None if every_column else [])
    stock = stock_dataset(folder, path, every_column)
    rows = H5pyRows(path, list(ours.columns))
    models = state_dicts(folder, file, every_column)
    check_equal(ours, stock, rows, models, file)
    limit, direct = memmap_reader(file, batch), each_batch(len(ours), batch, ours.__getitems__)
    return [
        Reader(LIMIT, each_batch(file.rows, batch, limit)),
        Reader(OURS, loop(ours, batch)),
        Reader("ours, `ds.__getitems__`", direct),
        Reader("(b) stock `datasets`, torch, `DataLoader`", loop(stock, batch)),
        Reader("(b) the same, 2 workers", loop(stock, batch, workers=2)),
        Reader("(b) the same, `ds[indices]`", each_batch(len(stock), batch, stock.__getitem__)),
        Reader("(c) h5py row by row, `DataLoader`", loop(rows, batch)),
        Reader("(d) list of state dicts, `DataLoader`", loop(models, batch)),
    ]


def each_batch(rows: int, batch: int, read: Callable[[list[int]], Any]) -> Iterator[Any]:
    """Endless random batches of a function that takes a list of row numbers."""
    rng = np.random.default_rng(SEED)
    while True:
        order = rng.permutation(rows).tolist()
        for start in range(0, rows - batch + 1, batch):
            yield read(order[start : start + batch])


def loop(dataset: Any, batch: int, workers: int = 0) -> Iterator[Any]:
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


def memmap_reader(file: ZooFile, batch: int) -> Callable[[list[int]], np.ndarray]:
    """The limit: a raw gather without columns, checks or new memory."""
    rows = np.memmap(file.path, "<f4", "r", file.weights_offset, (file.rows, file.width))
    table, buffer = np.asarray(rows), np.empty((batch, file.width), np.float32)
    return lambda index: np.take(table, np.array(index), axis=0, mode="clip", out=buffer)


def stock_dataset(folder: Path, path: Path, every_column: bool) -> Any:
    """The file through `load_dataset`, memory-mapped Arrow in torch format."""
    import datasets

    cache = str(folder / "cache")
    stock = datasets.load_dataset("hdf5", data_files=str(path), split="train", cache_dir=cache)
    return (stock if every_column else stock.select_columns([WEIGHTS])).with_format("torch")


class H5pyRows(Dataset[dict[str, Any]]):
    """What one writes first: an open h5py file, one read per value."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        """Open the file and the datasets."""
        file = h5py.File(path, "r")
        text = {name for name in columns if h5py.check_string_dtype(file[name].dtype)}
        self._columns = {n: file[n].asstr() if n in text else file[n] for n in columns}
        self._weights = file[WEIGHTS]

    def __len__(self) -> int:
        """N."""
        return len(self._weights)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row."""
        row = {name: column[index] for name, column in self._columns.items()}
        return row | {WEIGHTS: torch.from_numpy(self._weights[index])}


class StateDicts(Dataset[dict[str, Any]]):
    """The list that `torch.load` gives, flattened on access."""

    def __init__(self, models: list[dict[str, Any]]) -> None:
        """Hold the list: (properties, state dict) per model."""
        self._models = models

    def __len__(self) -> int:
        """Number of models."""
        return len(self._models)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One model."""
        model = self._models[index]
        flat = torch.cat([tensor.flatten() for tensor in model["state_dict"].values()])
        return model["properties"] | {WEIGHTS: flat}


def state_dicts(folder: Path, file: ZooFile, every_column: bool) -> StateDicts:
    """The first rows as a list of state dicts, saved and loaded with torch."""
    count, path = min(STATE_DICTS, file.rows), folder / "models.pt"
    if not path.exists():
        columns = {name: column[:count].tolist() for name, column in file.read_columns().items()}
        weights = torch.from_numpy(np.array(file.map_weights()[:count]))
        models = []
        for place, row in enumerate(weights):
            tensors = file.header.layer_table.split(row)
            state = {name: tensor.clone() for name, tensor in tensors.items()}
            values = {name: column[place] for name, column in columns.items()}
            models.append({"state_dict": state, "properties": values})
        torch.save(models, path)
    models = torch.load(path)
    if not every_column:
        models = [{"state_dict": model["state_dict"], "properties": {}} for model in models]
    return StateDicts(models)


def check_equal(ours: Any, stock: Any, rows: Any, models: Any, file: ZooFile) -> None:
    """Refuse to time readers that read different rows."""
    index = [3, 1, min(STATE_DICTS, len(ours)) - 1]
    expected = torch.from_numpy(np.array(file.map_weights()[index]))
    for name, dataset in {"ours": ours, "stock": stock, "h5py": rows, "list": models}.items():
        found = torch.stack([dataset[place][WEIGHTS] for place in index])
        if not torch.equal(found, expected) or set(dataset[0]) != {*ours.columns, WEIGHTS}:
            raise SystemExit(f"reader {name!r} does not read the same rows")


def measure(
    readers: list[Reader], batch: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Rows per second of every reader in every round, readers taking turns."""
    rates: dict[str, list[float]] = {reader.name: [] for reader in readers}
    for round_ in range(-1, rounds):  # the first round warms caches and worker processes
        for reader in readers:
            for _ in range(WARM_UP_BATCHES):
                next(reader.batches)
            rate = batch / _seconds_per_batch(reader.batches, seconds)
            if round_ >= 0:
                rates[reader.name].append(rate)
    return rates


def _seconds_per_batch(batches: Iterator[Any], seconds: float) -> float:
    """Mean over as many batches as fit the time, at least one."""
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or count == 0:
        next(batches)
        count += 1
    return elapsed / count


def summary(rates: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median rate, and median over rounds of the ratio to the limit and of ours to it."""
    return {
        name: {
            "rows_per_second": statistics.median(values),
            "of_limit": _median_ratio(values, rates[LIMIT]),
            "ours_is_times": _median_ratio(rates[OURS], values),
        }
        for name, values in rates.items()
    }


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def table(numbers: dict[str, dict[str, float]]) -> str:
    """Markdown."""
    lines = ["| reader | rows/s | × memmap | ours is × |", "|---|---|---|---|"]
    for name, row in numbers.items():
        lines.append(
            f"| {name} | {row['rows_per_second']:,.0f} | {row['of_limit']:.3g} | "
            f"{row['ours_is_times']:.3g} |"
        )
    return "\n".join(lines)


def _header(args: argparse.Namespace) -> str:
    import datasets

    versions = ", ".join(
        f"{module.__name__} {module.__version__}" for module in (np, torch, h5py, datasets)
    )
    return (
        f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} cores, 1 thread; "
        f"Python {platform.python_version()}, {versions}; {args.rows} rows of {args.width} float32 "
        f"(list of state dicts: {min(STATE_DICTS, args.rows)} rows), batches of {args.batch}, "
        f"seed {SEED}, median of {args.rounds} rounds of {args.seconds} s; "
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
