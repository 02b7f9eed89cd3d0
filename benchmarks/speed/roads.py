"""Losses, memory and speed of every road from the file to the encoder.

    python benchmarks/speed/roads.py --rounds 3 --against ../main
    python benchmarks/speed/roads.py --large 5

Roads: rows in memory, rows from the files, a stream of a Hub on this machine, and two processes of
`torch.distributed` with half the batch each. `--against` names another checkout, whose trainers
take turns with ours. Every road is one process that trains all encoders in turn; memory is the
largest anonymous resident memory during a training above that before it.

`--large` writes a zoo of so many gigabytes, limits the data segment of the process (RLIMIT_DATA,
which counts all private writable memory) to 1 GiB above the imports, and trains every encoder for a
few steps after all passes over the rows that come before them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROADS = ("memory", "files", "hub", "two processes", "other checkout")
ENCODERS = ("flat-mlp", "sne", "hyper-representation", "sane")
ROWS, VAL_ROWS, LARGE_WIDTH = 224, 28, 10_853
BATCH, EPOCHS, SEED = 16, 2, 0
LARGE_STEPS, LARGE_BATCH = 5, 64
SHAPE = {"latent": 8, "width": 16, "heads": 2, "blocks": 1}
SNE = {"width": 8, "heads": 1, "blocks": 1, "element_size": 8, "features": "scales"}


class Stopped(Exception):
    """Enough steps were taken."""


def main() -> None:
    """Measure and print a table, or train as one process of a road."""
    options = _parser().parse_args()
    if options.child:
        return _child(options)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        if options.large:
            _write_zoo(folder / "zoo", int(options.large * 1e9 / 4 / LARGE_WIDTH), LARGE_WIDTH)
            print(json.dumps(_run(folder, "files", folder / "zoo", ["--large", "1"]), indent=1))
            return None
        _write_zoo(folder / "hub" / "zoo", ROWS, 2464)
        runs: dict[str, list[dict[str, Any]]] = {}
        for _ in range(options.rounds):
            for road in ROADS:
                if road != "other checkout" or options.against:
                    made = _round(folder, road, folder / "hub" / "zoo", options.against)
                    runs.setdefault(road, []).append(made)
                    print(road, json.dumps(made), file=sys.stderr, flush=True)
        print(_table(runs))
    return None


def _round(folder: Path, road: str, zoo: Path, against: Path | None) -> dict[str, Any]:
    if road == "hub":
        sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "data"))
        from hub_server import HubServer

        with HubServer() as server:
            server.add_repo("org/zoos", zoo.parent)
            home = {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(folder / "home")}
            return _run(folder, road, "org/zoos", environment=home)
    if road == "two processes":
        store = folder / "store"
        store.unlink(missing_ok=True)
        both = [
            _start(folder, road, zoo, ["--rank", str(rank), "--store", str(store)])
            for rank in range(2)
        ]
        return [_result(process) for process in both][0]
    if road == "other checkout":
        return _run(folder, road, zoo, environment=_as_package(folder, against))
    return _run(folder, road, zoo)


def _as_package(folder: Path, checkout: Path | None) -> dict[str, str]:
    """Import path on which a checkout is the package."""
    link = folder / "other" / "weightzoo"
    link.parent.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        link.symlink_to(Path(checkout or ".").resolve())
    return {"PYTHONPATH": str(link.parent)}


def _run(
    folder: Path,
    road: str,
    zoo: Path | str,
    more: list[str] | None = None,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    return _result(_start(folder, road, zoo, more or [], environment))


def _start(
    folder: Path,
    road: str,
    zoo: Path | str,
    more: list[str],
    environment: dict[str, str] | None = None,
) -> subprocess.Popen:
    command = [sys.executable, __file__, "--child", road, "--zoo", str(zoo), *more]
    env = os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {})
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=folder)


def _result(process: subprocess.Popen) -> dict[str, Any]:
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a road failed: {process.args!r}")
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _child(options: argparse.Namespace) -> None:
    """Train all encoders on one road and print what came of it."""
    import torch

    from weightzoo import load_zoo

    torch.set_num_threads(1)
    processes = 1
    if options.store:
        processes, store = 2, torch.distributed.FileStore(options.store, 2)
        torch.distributed.init_process_group("gloo", store=store, rank=options.rank, world_size=2)
    if options.child == "files":
        from weightzoo.tasks.training import encoder_reader

        encoder_reader.RESIDENT_BYTES = 0
    streaming: dict[str, Any] = {"streaming": True} if options.child == "hub" else {}
    train, val = (load_zoo(options.zoo, split=split, **streaming) for split in ("train", "val"))
    result = {}
    for encoder in ENCODERS:
        few = train.select(range(64)) if options.large else train
        _trainer(encoder, 1, 4)(few, val)  # torch loads parts of itself at the first step
        if options.large:
            _limit_memory()
        with _stopping(LARGE_STEPS if options.large else None), _anonymous_peak() as peak:
            start = time.process_time(), time.perf_counter()
            batch = LARGE_BATCH if options.large else BATCH // processes
            losses = _trainer(encoder, EPOCHS, batch)(train, val)
            seconds = time.process_time() - start[0]
        rows = len(losses) * ROWS / processes
        result[encoder] = {
            "losses": losses,
            "anonymous_mb": round(peak[0], 1),
            "rows_per_cpu_second": round(rows / seconds, 1),
            "cpu_seconds": round(seconds, 1),
        }
    print(json.dumps(result))


def _trainer(encoder: str, epochs: int, batch: int) -> Callable[[Any, Any], list[float]]:
    """A function of train and val rows that trains an encoder and returns the losses by epoch."""
    from weightzoo.tasks import (
        EncoderSpec,
        TrainingSettings,
        train_encoder,
        train_hyper_representation,
        train_sane,
    )
    from weightzoo.tasks.autoencoding.sane import SequenceSettings
    from weightzoo.tasks.autoencoding.settings import AutoencoderSettings

    common: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "progress": False}
    auto: dict[str, Any] = common | {"shape": SHAPE, "aligned": False}

    def property_losses(train: Any, val: Any) -> list[float]:
        spec = EncoderSpec(encoder, SNE if encoder == "sne" else {"widths": [16]})
        settings = TrainingSettings(**common)
        model = train_encoder(spec, train, val, "test_accuracy", settings, SEED)
        return [epoch["train_loss"] for epoch in model.training["history"]]

    def autoencoder_losses(train: Any, val: Any) -> list[float]:
        try:
            if encoder == "sane":
                made: Any = train_sane(train, val, SequenceSettings(**auto), SEED)
            else:
                made = train_hyper_representation(train, val, AutoencoderSettings(**auto), SEED)
        except Stopped:
            return []
        return [epoch["loss"] for epoch in made.history]

    if encoder in ("flat-mlp", "sne"):
        return lambda train, val: _unless_stopped(property_losses, train, val)
    return autoencoder_losses


def _unless_stopped(train_it: Callable[..., list[float]], *rows: Any) -> list[float]:
    try:
        return train_it(*rows)
    except Stopped:
        return []


@contextmanager
def _stopping(steps: int | None) -> Iterator[None]:
    """Stop every training after so many steps; None never stops."""
    import torch

    step, taken = torch.optim.AdamW.step, [0]

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        taken[0] += 1
        if taken[0] == steps:
            raise Stopped
        return step(self, *arguments, **options)

    torch.optim.AdamW.step = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.optim.AdamW.step = step  # type: ignore[method-assign]


@contextmanager
def _anonymous_peak() -> Iterator[list[float]]:
    """Largest anonymous resident memory within the block above that before, in megabytes."""
    before, peak, done = _anonymous(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], _anonymous() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _anonymous() -> float:
    return _status("RssAnon")


def _status(name: str) -> float:
    """A line of /proc/self/status, in megabytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"this system does not report {name}")


def _limit_memory() -> None:
    """Allow 1 GiB of private writable memory above the imports."""
    import resource

    limit = int(_status("VmData") * 2**20) + 2**30
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


def _write_zoo(folder: Path, rows: int, width: int) -> None:
    """Write a zoo of random weights with a train and a val file."""
    import numpy as np
    from synthetic_zoo import architecture, synthetic_columns

    from weightzoo.zoos.format import (
        METRICS,
        ZooHeader,
        create_zoo_file,
        finish_zoo_file,
        open_zoo_file,
    )
    from weightzoo.zoos.index import ZooIndex, describe_shard, shard_name
    from weightzoo.zoos.recipe import hyper_parameter_names

    folder.mkdir(parents=True)
    listed = []
    for split, count in (("train", rows), ("val", VAL_ROWS)):
        rng = np.random.default_rng(len(split))
        columns = synthetic_columns(count, rng) | {"split": np.full(count, split, dtype=object)}
        assert set(METRICS) <= set(columns)
        network = architecture(width)
        header = ZooHeader(
            architecture=network,
            layer_table=network.layer_table(),
            hyper_parameters=hyper_parameter_names(),
            recipe={"name": "random"},
        )
        name = shard_name(split, 0, 1)
        create_zoo_file(folder / name, header, columns)
        weights = open_zoo_file(folder / name).map_weights("r+")
        for start in range(0, count, 4096):
            block = weights[start : start + 4096]
            block[:] = 0.1 * rng.standard_normal(block.shape, dtype=np.float32)
        weights.flush()
        del weights
        finish_zoo_file(folder / name, header, {})
        listed.append(describe_shard(folder, name, split, count // 7 + 1))
    ZooIndex(name="random", shards=tuple(listed)).write(folder)


def _table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """A Markdown table: last loss, its largest distance to rows in memory, memory and rate."""
    lines = [
        "| encoder | road | loss | off by | MB | rows per CPU second |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for encoder in ENCODERS:
        wanted = runs["memory"][0][encoder]["losses"]
        for road, rounds in runs.items():
            cells = [one[encoder] for one in rounds]
            off = max(
                abs(loss - want) / abs(want)
                for cell in cells
                for loss, want in zip(cell["losses"], wanted, strict=True)
            )
            memory = statistics.median(cell["anonymous_mb"] for cell in cells)
            rate = statistics.median(cell["rows_per_cpu_second"] for cell in cells)
            loss = cells[0]["losses"][-1]
            lines.append(
                f"| {encoder} | {road} | {loss:.6f} | {off:.0e} | {memory:.0f} | {rate:.1f} |"
            )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds, roads taking turns (3)")
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--large", type=float, default=0.0, help="gigabytes of a large zoo (none)")
    parser.add_argument("--scratch", type=Path, help="folder for the zoos (the system's)")
    for name in ("--child", "--zoo", "--store"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
