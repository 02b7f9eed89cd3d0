"""Claim: an import is no slower than `torch.load` of its files, in flat memory.

    python benchmarks/speed/importing.py [--models 20] [--checkpoints 50] [--rounds 5]
    python benchmarks/speed/importing.py --format lora [--models 200] [--rounds 5]

Both sides read the same small CNNs (2,464 parameters) from a warm page cache with one thread:
`torch.load` alone, which gives state dicts and nothing else, and the whole import, which also
reads the properties, checks, writes, syncs and checksums the zoo. Rounds alternate; the table
gives medians. Memory is measured in fresh processes on trees two and eight times as large: buffers
take about 25 MB, so that a smaller tree would not fill them.

`--format` times another format in processor time, with its memory at one and ten times the rows:
`lora` (PEFT folders of rank 8, 98,304 values), `small-transformers` (MNIST networks with their
table), `nino` (float16 memory maps of 14,378 values, against one `torch.from_file` of each map),
`weightclip` (CNN3, five checkpoints of each model), `mother` (trees of snapshots of 98,304 values)
and `model-j` (a layer of 98,304 values from repositories of 0.8 MB on a Hub on the loopback,
against the same ranges read with `HfFileSystem`). Their files: `../peers/import_sources.py`.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from weightzoo.builders.imports import import_zoo
from weightzoo.zoos.networks.presets import cnn_s

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
from import_sources import FORMATS, local_hub


def main() -> None:
    """Run the rounds and print the table."""
    options = _options()
    torch.set_num_threads(1)
    if options.format != "modelzoos-raw":
        with tempfile.TemporaryDirectory(dir=options.folder) as folder, local_hub(Path(folder)):
            _time_format(options.format, Path(folder), options.models, options.rounds)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tree = Path(folder) / "tree"
        _write_tree(tree, options.models, options.checkpoints)
        rows = options.models * options.checkpoints
        sides: dict[str, Callable[[], object]] = {
            "torch.load, weights_only": lambda: _load_all(tree, weights_only=True),
            "torch.load, any pickle": lambda: _load_all(tree, weights_only=False),
            "import, whole": lambda: _import_once(tree),
        }
        seconds = _measure(sides, options.rounds)
        _report(seconds, rows)
        for times in (2, 8):
            path = Path(folder) / f"tree-{times}"
            _write_tree(path, times * options.models, options.checkpoints)
            traced, resident = _in_new_process(_peak_memory, path)
            print(
                f"{times * rows} rows, {times * rows * 2464 * 4 / 1e6:.0f} MB of weights: peak "
                f"above the start {traced / 1e6:.1f} MB traced by Python, "
                f"{resident / 1e6:.1f} MB anonymous"
            )


def _time_format(format: str, folder: Path, models: int, rounds: int) -> None:
    """Print rates of processor time of one format, and the memory of its import."""
    case = FORMATS[format]
    case.write(folder / "one", models)
    rows = _import_format(format, folder / "one")
    sides: dict[str, Callable[[], object]] = {
        case.alone: lambda: case.load(folder / "one"),
        "import, whole": lambda: _import_format(format, folder / "one"),
    }
    _report(_measure(sides, rounds, time.process_time), rows)
    case.write(folder / "ten", 10 * models)
    for name in ("one", "ten"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            peak, rows = pool.submit(_peak_of_format, format, folder / name, folder).result()
        print(f"{rows} rows: peak above the start {peak / 1e6:.1f} MB anonymous")


def _import_format(format: str, source: Path) -> int:
    out = source.with_name("out")
    case = FORMATS[format]
    report = import_zoo(
        case.format or format, source, out, layer=case.layer or None, progress=False
    )
    shutil.rmtree(out)
    return report.rows


def _peak_of_format(format: str, source: Path, folder: Path) -> tuple[int, int]:
    """(peak of anonymous bytes above the start of an import, rows)."""
    FORMATS[format].write(folder / "small", 4)
    _import_format(format, folder / "small")  # imports of libraries do not count
    shutil.rmtree(folder / "small")
    rows, before, peak, ended = [0], _anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], _anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    rows[0] = _import_format(format, source)
    ended.set()
    watcher.join()
    return peak[0] - before, rows[0]


def _write_tree(folder: Path, models: int, checkpoints: int) -> None:
    """Write ray-tune folders of the published structure."""
    network = cnn_s(1).module()
    published = dict(zip((0, 3, 6, 9, 11), _layers(network), strict=True))
    for index in range(models):
        trial = folder / f"NN_tune_trainable_c0371_{index:05d}_{index}_seed={index}_2021-07-01"
        trial.mkdir(parents=True)
        config = {"model::type": "CNN", "model::nlin": "tanh", "seed": index, "optim::lr": 3e-4}
        (trial / "params.json").write_text(json.dumps(config))
        lines = []
        for epoch in range(checkpoints):
            state = {
                f"module_list.{position}.{role}": torch.randn(shape)
                for position, layer in published.items()
                for role, shape in layer.items()
            }
            (trial / f"checkpoint_{epoch:06d}").mkdir()
            torch.save(state, trial / f"checkpoint_{epoch:06d}" / "checkpoints")
            metrics = {"train_acc": 0.5, "test_acc": 0.4, "train_loss": 1.0, "test_loss": 1.1}
            lines.append(json.dumps(metrics | {"training_iteration": epoch, "config": config}))
        (trial / "result.json").write_text("\n".join(lines))


def _load_all(tree: Path, weights_only: bool) -> None:
    """Load every checkpoint and drop it."""
    for path in sorted(tree.glob("*/checkpoint_*/checkpoints")):
        torch.load(path, weights_only=weights_only)


def _import_once(tree: Path) -> None:
    """Import the tree and remove the zoo."""
    out = tree.with_name("out")
    import_zoo("modelzoos-raw", tree, out, progress=False)
    shutil.rmtree(out)


def _measure(
    sides: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every side in every round; a first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            started = clock()
            side()
            if number:
                seconds[name].append(clock() - started)
    return seconds


def _peak_memory(tree: Path) -> tuple[int, int]:
    """Peak bytes above the start of an import: traced by Python, and anonymous in all (Linux)."""
    _write_tree(tree.with_name("small"), 2, 2)
    _import_once(tree.with_name("small"))  # imports of libraries do not count
    shutil.rmtree(tree.with_name("small"))
    before, peak, ended = _anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], _anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    _import_once(tree)
    ended.set()
    watcher.join()
    tracemalloc.start()
    _import_once(tree)
    return tracemalloc.get_traced_memory()[1], peak[0] - before


def _anonymous_bytes() -> int:
    """Resident memory that is not a mapped file: those pages are the system's cache."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if "RssAnon" in line), 0)


def _report(seconds: dict[str, list[float]], rows: int) -> None:
    """Print rows per second of each side, and the ratio to the first."""
    first = statistics.median(next(iter(seconds.values())))
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {rows} checkpoints")
    print(f"{'side':<26}{'rows/s':>9}{'slowest':>9}{'fastest':>9}{'ratio':>7}")
    for name, values in seconds.items():
        middle = statistics.median(values)
        speeds = [rows / value for value in (middle, max(values), min(values))]
        print(f"{name:<26}" + "".join(f"{s:>9.0f}" for s in speeds) + f"{first / middle:>7.2f}")


def _layers(network: torch.nn.Module) -> list[dict[str, torch.Size]]:
    """Shapes of the tensors of each layer that has any."""
    layers = [{n: p.shape for n, p in child.named_parameters()} for child in network.children()]
    return [layer for layer in layers if layer]


def _in_new_process(function: Callable[[Path], tuple[int, int]], path: Path) -> tuple[int, int]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, path).result()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--format", default="modelzoos-raw", choices=("modelzoos-raw", *FORMATS), help="format"
    )
    parser.add_argument("--models", type=int, default=20, help="models in the tree (default 20)")
    parser.add_argument(
        "--checkpoints", type=int, default=50, help="checkpoints of each model (default 50)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--folder", type=Path, default=None, help="folder for the trees")
    return parser.parse_args()


if __name__ == "__main__":
    main()
