"""Cost of layer sets (each layer as a set of weight chunks) relative to flat batches.

    python benchmarks/speed/layer_sets.py [--architecture cnn-s|resnet18] [--batch 256]
        [--clock process_time] [--json FILE]

Writes a synthetic zoo (random weights, the real columns) to a temporary folder and prints two
Markdown tables: random batches read from the file, flat and as layer sets of every tokenizer, as
multiples of the time of flat batches; and flat rows in memory cut into tokens and joined again,
as multiples of a memcpy of the rows. "Without a compiler" is the numpy that takes the place of the
compiled copies. All runs take turns in one process with one thread, with the
file in the page cache.

Shape letters: B rows of a batch, D length of the flat weight vector, N tokens, S values per token.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from synthetic_zoo import synthetic_columns
from torch import Tensor, nn

from weightzoo.loaders import load_zoo
from weightzoo.loaders.dataset import formats
from weightzoo.zoos.format import ZooHeader, create_zoo_file, finish_zoo_file, open_zoo_file
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.recipe import hyper_parameter_names, load_recipe
from weightzoo.zoos.tokens import copy_plan
from weightzoo.zoos.tokens.chunks import Chunks
from weightzoo.zoos.tokens.neurons import Neurons, RowChunks
from weightzoo.zoos.tokens.tokenizers import Tokenizer

SEED = 0
ROWS = {"cnn-s": 50_000, "resnet18": 24}
BATCH = {"cnn-s": 256, "resnet18": 4}
FLAT, COPIED = "flat gather, `WeightRows.take`", "the same, then memcpy of the batch"
THROUGH = "flat, all columns, `ds.__getitems__`"
MEMCPY = "memcpy of the flat rows"
Run = Callable[[], Any]


def main() -> None:
    """Parse arguments, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--architecture", choices=ROWS, default="cnn-s", help="default cnn-s")
    parser.add_argument("--rows", type=int, help="rows of the zoo (default 50000; resnet18: 24)")
    parser.add_argument("--batch", type=int, help="rows per batch B (default 256; resnet18: 4)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds (default 15)")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="per run and round, in seconds (default 0.2)"
    )
    clocks = ("perf_counter", "process_time")
    parser.add_argument("--clock", choices=clocks, default=clocks[0], help="clock of the rates")
    parser.add_argument("--json", type=Path, help="also write header and numbers to this file")
    args = parser.parse_args()
    args.rows = args.rows or ROWS[args.architecture]
    args.batch = args.batch or BATCH[args.architecture]
    torch.set_num_threads(1)
    result: dict[str, Any] = {"header": _header(args)}
    print(result["header"], flush=True)
    table = layer_table(args.architecture)
    with tempfile.TemporaryDirectory(prefix="layer_sets_") as folder:
        path = Path(folder) / "train.h5"
        _write_zoo(path, table, args.rows)
        for title, runs, base in (
            ("random batches from the file", _file_runs(path, table, args.batch), FLAT),
            ("flat rows in memory", _memory_runs(table, args.batch), MEMCPY),
        ):
            result[title] = _summary(_measure(runs, args), args.batch, base)
            print(f"\n**{title}**\n\n{_markdown(result[title], base)}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def layer_table(name: str) -> LayerTable:
    """CNN-s of Model Zoos, or torchvision's ResNet-18 with 10 classes."""
    if name == "cnn-s":
        return load_recipe("digits-cnn").architecture.layer_table()
    with torch.device("meta"):
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, bias=False), nn.BatchNorm2d(64)]
        before = 64
        for width in (64, 128, 256, 512):
            for inputs in (before, width, width, width):
                layers += [nn.Conv2d(inputs, width, 3, bias=False), nn.BatchNorm2d(width)]
            if before != width:
                layers += [nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)]
            before = width
        return LayerTable.from_module(nn.Sequential(*layers, nn.Linear(512, 10)))


def _write_zoo(path: Path, table: LayerTable, rows: int) -> None:
    """Write a zoo file of random weights, row by row."""
    header = ZooHeader(
        architecture=None,
        layer_table=table,
        hyper_parameters=hyper_parameter_names(),
        recipe={"name": "random"},
    )
    rng = np.random.default_rng(SEED)
    create_zoo_file(path, header, synthetic_columns(rows, rng))
    weights = open_zoo_file(path).map_weights("r+")
    for row in weights:
        row[:] = rng.standard_normal(table.width, dtype=np.float32)
    weights.flush()
    del weights
    finish_zoo_file(path, header, {})


def _tokenizers(table: LayerTable) -> dict[str, Tokenizer]:
    """Every tokenizer with a usual size, by its name in the table."""
    size = 64 if table.width < 10_000 else 288
    found = {
        "`Chunks(32)`": Chunks(table, 32),
        '`Chunks(32, "row")`': Chunks(table, 32, "row"),
        f"`RowChunks({size})`": RowChunks(table, size),
        "`Neurons()`": Neurons(table),
    }
    return {f"{name}, {_shape(tokens)}": tokens for name, tokens in found.items()}


def _shape(tokenizer: Tokenizer) -> str:
    size = tokenizer.shape[0] * tokenizer.shape[1] / tokenizer.layer_table.width
    return f"{tokenizer.shape[0]} × {tokenizer.shape[1]} ({size:.2f} D)"


def _file_runs(path: Path, table: LayerTable, batch: int) -> dict[str, Run]:
    """Runs that read one random batch each and keep nothing of the batch before."""
    zoo = load_zoo(path, split="train")
    source, rng = zoo.source, np.random.default_rng(SEED)
    order = [rng.choice(len(zoo), batch, replace=False) for _ in range(200)]
    number = iter(range(10**12))

    def index() -> np.ndarray:
        return order[next(number) % len(order)]

    def cut(tokenizer: Tokenizer) -> Run:
        return lambda: tokenizer(torch.from_numpy(source.take(index())))

    def cut_mapped(tokenizer: Tokenizer) -> Run:
        return lambda: tokenizer.cut_blocks((mapped[row][None] for row in index()), batch)

    copy = np.empty((batch, table.width), np.float32)
    runs: dict[str, Run] = {
        FLAT: lambda: source.take(index()),
        COPIED: lambda: np.copyto(copy, source.take(index())),
    }
    mapped = np.asarray(open_zoo_file(path).map_weights())
    for name, tokenizer in _tokenizers(table).items():
        runs[name] = cut(tokenizer)
        if table.width > 2**14:
            runs[f"{name}, from the map"] = cut_mapped(tokenizer)
    sets = zoo.with_format("layer_sets", Chunks(table, 32))
    runs[THROUGH] = lambda: zoo.__getitems__(index())
    runs[f"{THROUGH}, then memcpy"] = lambda: np.copyto(
        copy, zoo.__getitems__(index()).as_numpy()["weights"]
    )
    through = "`Chunks(32)`, all columns, `ds.__getitems__`"
    runs[through] = lambda: sets.__getitems__(index())
    runs[f"{through}, without a compiler"] = _without_compiler(runs[through])
    return runs


def _without_compiler(run: Run) -> Run:
    """The same run with the copies of numpy."""

    def plain() -> Any:
        copies, reads = copy_plan.library, formats.can_cut_rows
        copy_plan.library, formats.can_cut_rows = lambda: None, lambda: False
        try:
            return run()
        finally:
            copy_plan.library, formats.can_cut_rows = copies, reads

    return plain


def _memory_runs(table: LayerTable, batch: int) -> dict[str, Run]:
    """Cuts and joins of the same rows; checks first that they are exact."""
    weights = torch.randn(batch, table.width)
    copy = torch.empty_like(weights)
    runs: dict[str, Run] = {MEMCPY: lambda: copy.copy_(weights)}
    for name, tokenizer in _tokenizers(table).items():
        values = tokenizer(weights)["values"]
        if not torch.equal(tokenizer.inverse(values), weights):
            raise SystemExit(f"{name} does not give back the weights")
        runs[f"{name}: cut"] = _bound(tokenizer, weights)
        runs[f"{name}: cut, without a compiler"] = _without_compiler(runs[f"{name}: cut"])
        runs[f"{name}: inverse"] = _bound(tokenizer.inverse, values.clone())
    return runs


def _bound(function: Callable[[Tensor], Any], argument: Tensor) -> Run:
    return lambda: function(argument)


def _measure(runs: dict[str, Run], args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per run in every round, runs taking turns; the first round is thrown away."""
    now: Callable[[], float] = getattr(time, args.clock)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(-1, args.rounds):
        for name, run in runs.items():
            run()
            start, count = now(), 0
            while (elapsed := now() - start) < args.seconds or count == 0:
                run()
                count += 1
            if round_ >= 0:
                times[name].append(elapsed / count)
    return times


def _summary(
    times: dict[str, list[float]], batch: int, base: str
) -> dict[str, dict[str, float | None]]:
    """Median rate, and median over rounds of the ratio of times to the base's."""
    return {
        name: {
            "rows_per_second": batch / statistics.median(values),
            "times_base": _ratio(values, times[base]),
            "times_dataset": _ratio(values, times[THROUGH]) if "__getitems__" in name else None,
        }
        for name, values in times.items()
    }


def _ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _markdown(numbers: dict[str, dict[str, Any]], base: str) -> str:
    """The results as a Markdown table, with runs through the dataset compared with flat batches."""
    lines = [f"| run | rows/s | time × {base} |", "|---|---|---|"]
    for name, row in numbers.items():
        through = row["times_dataset"]
        extra = f" ({through:.2f} × flat through the dataset)" if through else ""
        lines.append(f"| {name} | {row['rows_per_second']:,.0f} | {row['times_base']:.2f}{extra} |")
    return "\n".join(lines)


def _header(args: argparse.Namespace) -> str:
    return (
        f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} cores, 1 thread; "
        f"Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}; "
        f"{args.rows} rows of {layer_table(args.architecture).width} float32, batches of "
        f"{args.batch}, seed {SEED}, median of {args.rounds} rounds of {args.seconds} s; "
        f"command: python {shlex.join(sys.argv)}"
    )


if __name__ == "__main__":
    main()
