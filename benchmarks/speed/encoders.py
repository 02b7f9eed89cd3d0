"""Speed and memory of every encoder, with DeepSets as unit.

    python benchmarks/speed/encoders.py --rounds 5 --seconds 0.3
    python benchmarks/speed/encoders.py --presets inr --encoders sne-paper:chunk_size=4 sne-paper

Encoders take turns in every round, so that other load on the machine affects all alike; a ratio is
the median over rounds. Forward is without gradient; a step is forward, backward and AdamW on one
batch; options of an encoder follow its name. Memory is the peak of one step in a forked process
above its memory before (Linux).
"""

import argparse
import json
import multiprocessing
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from timing import Reader, machine, measure
from torch import nn

from weightzoo.encoders.registry import ENCODERS, EncoderEntry
from weightzoo.tasks.training.encoder_reader import declared_input, network_batch
from weightzoo.tasks.training.settings import adamw
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.networks.presets import preset

PRESETS = ("cnn-s", "inr")
UNIT = "deepsets"
SCALE = 0.1  # deviation of the random weights
SEED = 0


def main() -> None:
    """Measure and print tables."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    memory = {name: _memories(name, options.batch, options.encoders) for name in options.presets}
    results = {name: _measured(name, memory[name], options) for name in options.presets}
    print(f"{machine()}; torch {torch.__version__}, one thread; batch {options.batch}, seed {SEED}")
    for name, rows in results.items():
        print(f"\n{name}, D={preset(name).layer_table().width:,}\n\n{_table(rows)}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def _memories(name: str, batch: int, encoders: Sequence[str]) -> dict[str, float]:
    """Megabytes of a step of every encoder; before any rate, whose freed memory would be reused."""
    linear = nn.Linear(1, 1)  # torch loads parts of itself at the first step
    linear(torch.zeros(1, 1)).sum().backward()
    torch.optim.AdamW(linear.parameters()).step()
    architecture = preset(name)
    return {
        encoder: _step_megabytes(make, architecture, batch)
        for encoder, make in _makers(architecture.layer_table(), encoders).items()
    }


def _measured(
    name: str, memory: dict[str, float], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Rates, ratios and memory of every encoder that accepts the architecture."""
    architecture, batch = preset(name), options.batch
    encoders = _makers(architecture.layer_table(), options.encoders)
    rates = {}
    for mode in ("forward", "step"):
        readers = [
            Reader(encoder, _batches(make, architecture, batch, mode == "step"))
            for encoder, make in encoders.items()
        ]
        rates[mode] = measure(readers, batch, options.rounds, options.seconds)
    return {
        encoder: {
            "parameters": sum(parameter.numel() for parameter in make().parameters()),
            **_rates(rates["forward"], encoder, "forward"),
            **_rates(rates["step"], encoder, "step"),
            "step_megabytes": memory[encoder],
        }
        for encoder, make in encoders.items()
    }


def _makers(layer_table: LayerTable, encoders: Sequence[str]) -> dict[str, Callable[[], nn.Module]]:
    """Constructors of the named encoders that accept the architecture, and of the unit."""
    made: dict[str, Callable[[], nn.Module]] = {}
    for name in dict.fromkeys([*encoders, UNIT]):
        encoder, *given = name.split(":")
        options = {key: json.loads(value) for key, value in (text.split("=") for text in given)}
        make = partial(_make, ENCODERS[encoder], layer_table, options)
        try:
            make()
        except ValueError:  # the encoder does not accept the architecture
            continue
        made[name] = make
    return made


def _make(entry: EncoderEntry, layer_table: LayerTable, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(SEED)
    return entry.make(layer_table, **options)


def _batches(
    make: Callable[[], nn.Module], architecture: Architecture, batch: int, train: bool
) -> Iterator[None]:
    """Endless steps, or passes without gradient, on one batch."""
    encoder, layer_table = make().train(train), architecture.layer_table()
    given = encoder_input(encoder, architecture, SCALE * torch.randn(batch, layer_table.width))
    optimizer = adamw(encoder.parameters(), lr=1e-4, weight_decay=1e-2)
    while True:
        with torch.set_grad_enabled(train):
            outputs = encoder(given, layer_table)
        if train:
            optimizer.zero_grad()
            outputs.square().mean().backward()
            optimizer.step()
        yield


def encoder_input(encoder: nn.Module, architecture: Architecture, weights: torch.Tensor) -> Any:
    """Networks, if the encoder runs networks; else their flat weights.

    Args:
        encoder: encoder that reads them.
        architecture: architecture of the networks.
        weights: flat weights, (B, D).
    """
    if declared_input(encoder) == "networks":
        return network_batch(architecture, weights, None)
    return weights


def _step_megabytes(make: Callable[[], nn.Module], architecture: Architecture, batch: int) -> float:
    """Peak of a training step above what the process held before it, in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_step, args=(sender, make, architecture, batch))
    process.start()
    megabytes: float = receiver.recv()
    process.join()
    return megabytes


def _measure_step(
    sender: Connection, make: Callable[[], nn.Module], architecture: Architecture, batch: int
) -> None:
    before = _resident_kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    next(_batches(make, architecture, batch, True))
    sender.send((_resident_kilobytes("VmHWM") - before) / 1024)


def _resident_kilobytes(key: str) -> int:
    [found] = re.findall(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found)


def _rates(rates: dict[str, list[float]], encoder: str, mode: str) -> dict[str, float]:
    ratios = [own / unit for own, unit in zip(rates[encoder], rates[UNIT], strict=True)]
    return {
        f"{mode}_models_per_second": statistics.median(rates[encoder]),
        f"{mode}_of_{UNIT}": statistics.median(ratios),
    }


def _table(rows: dict[str, dict[str, float]]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| encoder | parameters | forward, models/s | × DeepSets | step, models/s | × DeepSets "
        "| step, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['parameters']:,} | {row['forward_models_per_second']:,.0f} "
            f"| {row['forward_of_deepsets']:.3g} | {row['step_models_per_second']:,.0f} "
            f"| {row['step_of_deepsets']:.3g} | {row['step_megabytes']:,.0f} |"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=PRESETS, help="architectures")
    parser.add_argument(
        "--encoders",
        nargs="+",
        default=list(ENCODERS),
        metavar="NAME[:OPTION=VALUE]",
        help=f"of {', '.join(ENCODERS)} (default: all)",
    )
    parser.add_argument("--batch", type=int, default=16, help="models per batch (default: 16)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--seconds", type=float, default=0.3, help="per encoder and round")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    return parser


if __name__ == "__main__":
    main()
