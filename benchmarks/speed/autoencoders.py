"""Training of autoencoders: models per second, peak memory, and bytes read per window.

    python benchmarks/speed/autoencoders.py [--rows 512] [--seconds 10] [--json FILE]

- hyper-representation: random CNN-s rows (2,464 values) in memory, default settings, two views;
- SANE: windows of 256 tokens of 288 values read from a file of ResNet-18-size rows (11 M values);
  once reading alone, once with training steps of a small SANE.

Work of the steps (matrix products and attention, forward and backward) by processor time stands
beside that of a plain matrix product in the same process.

Every part runs in a process of its own, so that its peak memory is its own. Memory before the work
starts (Python, torch, this package) is given beside it.

Shape letters: N rows, D length of the flat weight vector.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import machine, roofline
from torch.utils.flop_counter import FlopCounterMode

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.loaders.batching.window_reader import WindowReader
from weightzoo.tasks.autoencoding.autoencoder_training import AutoencoderTraining
from weightzoo.tasks.autoencoding.canonical import Canonical
from weightzoo.tasks.autoencoding.hyper_representation import (
    ModelTraining,
    ZooAutoencoder,
    make_module,
)
from weightzoo.tasks.autoencoding.sane import (
    SequenceAutoencoder,
    SequenceSettings,
    SequenceTraining,
    make_sane,
)
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.tasks.autoencoding.views import train_rows
from weightzoo.zoos.format import ZooHeader, create_zoo_file, finish_zoo_file, open_zoo_file
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.presets import preset

SEED = 0
TOKEN_SIZE, WINDOW, WINDOWS_PER_STEP = 288, 256, 8
RESNET_ROWS = 6
SMALL_SANE = {"latent": 64, "width": 256, "heads": 4, "blocks": 4}
PARTS = ("hyper-representation", "windows", "sane")


def main() -> None:
    """Run the parts, each in its own process, and print the table."""
    args = _arguments()
    if args.part:
        print(json.dumps(_run_part(args.part, args.file, args.seconds)))
        return
    results = {}
    with tempfile.TemporaryDirectory(prefix="autoencoders_", dir=args.folder) as folder:
        small, large = Path(folder) / "cnn-s.h5", Path(folder) / "resnet18.h5"
        _write_rows(small, preset("cnn-s"), args.rows)
        _write_rows(large, preset("resnet18"), RESNET_ROWS)
        for part in PARTS:
            results[part] = _in_process(part, small if part == PARTS[0] else large, args.seconds)
    print(f"{machine()}; torch {torch.__version__}, 1 thread; seed {SEED}\n")
    print(_table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def _run_part(part: str, path: Path, seconds: float) -> dict[str, Any]:
    """Measure one part in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rows = load_zoo(path, split="train")
    assert isinstance(rows, ZooDataset)
    before = _peak_bytes()
    if part == "windows":
        result = _read_windows(rows, seconds)
    elif part == "sane":
        result = _train_sane(rows, seconds)
    else:
        result = _train_models(rows, seconds)
    return result | {"peak_bytes": _peak_bytes(), "start_bytes": before}


def _train_models(rows: ZooDataset, seconds: float) -> dict[str, Any]:
    """Steps of a hyper-representation on whole models."""
    settings = AutoencoderSettings(aligned=False, progress=False)
    canonical = Canonical.fit(rows, aligned=False)
    reader = train_rows(canonical, rows, settings)
    mean = canonical.standardization.apply(reader.mean()[None])[0]
    autoencoder = ZooAutoencoder(canonical, make_module(rows.layer_table, settings), settings, mean)
    training = ModelTraining(autoencoder, reader, rows.select([0, 1]), SEED)
    return _steps(training, settings.batch_size, seconds) | {"unit": "models/s"}


def _read_windows(rows: ZooDataset, seconds: float) -> dict[str, Any]:
    """Windows from the file, each at a random position of a random row."""
    generator = torch.Generator().manual_seed(SEED)
    with WindowReader(rows, TOKEN_SIZE, WINDOW) as reader:
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            chosen = torch.randint(len(rows), (WINDOWS_PER_STEP,), generator=generator)
            reader.read(chosen, reader.random_starts(WINDOWS_PER_STEP, generator))
        counts = reader.counts
    return {"per_second": counts.windows / elapsed, "unit": "windows/s"} | _bytes(counts)


def _train_sane(rows: ZooDataset, seconds: float) -> dict[str, Any]:
    """Steps of a small SANE on windows from the file."""
    settings = SequenceSettings(
        shape=SMALL_SANE,
        aligned=False,
        from_files=True,
        token_size=TOKEN_SIZE,
        window=WINDOW,
        progress=False,
    )
    canonical = Canonical.fit(rows, aligned=False)
    module = make_sane(rows.layer_table, settings)
    mean = torch.zeros(rows.layer_table.width)
    autoencoder = SequenceAutoencoder(canonical, module, settings, mean)
    reader = train_rows(canonical, rows, settings)
    training = SequenceTraining(autoencoder, reader, rows.select([0, 1]), SEED)
    batch = min(WINDOWS_PER_STEP, len(rows))
    found = _steps(training, batch, seconds)
    assert training.reader is not None
    counts = training.reader.counts
    training.close()
    return found | {"unit": "windows/s"} | _bytes(counts)


def _steps(training: AutoencoderTraining, batch: int, seconds: float) -> dict[str, Any]:
    """Rate of rows in whole steps after a first one, and their work by processor time."""
    generator = torch.Generator().manual_seed(SEED)

    def step() -> None:
        chosen = torch.randperm(training.rows, generator=generator)[:batch]
        [weights] = training.read([chosen])
        training.step(chosen, weights)

    training.module.train()
    with FlopCounterMode(display=False) as counter:
        step()
    start, used, count = time.perf_counter(), time.process_time(), 0
    while (elapsed := time.perf_counter() - start) < seconds or count == 0:
        step()
        count += 1
    work = count * counter.get_total_flops() / (time.process_time() - used)
    return {
        "per_second": count * batch / elapsed,
        "gflops": work / 1e9,
        "product_gflops": roofline()["gflops"],
    }


def _write_rows(path: Path, architecture: Architecture, rows: int) -> None:
    """A zoo file of random weights, row by row."""
    header = ZooHeader(architecture=architecture, layer_table=architecture.layer_table())
    columns: dict[str, np.ndarray] = {
        "model_id": np.arange(rows),
        "epoch": np.zeros(rows, np.int64),
        "split": np.full(rows, "train", object),
        "seed": np.arange(rows),
        "status": np.full(rows, "ok", object),
    }
    create_zoo_file(path, header, columns)
    rng = np.random.default_rng(SEED)
    weights = open_zoo_file(path).map_weights("r+")
    for row in weights:
        row[:] = rng.standard_normal(len(row), dtype=np.float32)
    weights.flush()
    del weights
    finish_zoo_file(path, header, {})


def _table(results: dict[str, dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    head = (
        "| part | rate | GFLOP/s (plain product) | peak MB (at start) | read / window's bytes | "
        "pages / window's bytes |"
    )
    lines = [head, "|---|---:|---:|---:|---:|---:|"]
    for part, found in results.items():
        read, pages = (
            f"{found[key]:.4f}" if key in found else "–" for key in ("read_share", "page_share")
        )
        memory = f"{found['peak_bytes'] / 1e6:.0f} ({found['start_bytes'] / 1e6:.0f})"
        rate = f"{found['per_second']:.1f} {found['unit']}"
        work = "–"
        if "gflops" in found:
            work = f"{found['gflops']:.0f} ({found['product_gflops']:.0f})"
        lines.append(f"| {part} | {rate} | {work} | {memory} | {read} | {pages} |")
    return "\n".join(lines)


def _peak_bytes() -> int:
    """Largest resident memory of this process so far, mapped file pages included.

    Not `ru_maxrss`, which a child process inherits from its parent.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _bytes(counts: Any) -> dict[str, float]:
    """Bytes read, as multiples of the bytes of the windows' values."""
    return {
        "read_share": counts.read_bytes / counts.value_bytes,
        "page_share": counts.page_bytes / counts.value_bytes,
        "window_bytes": counts.value_bytes / counts.windows,
    }


def _in_process(part: str, path: Path, seconds: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--part", part, "--file", str(path)]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=512, help="CNN-s rows (default: 512)")
    parser.add_argument("--seconds", type=float, default=10, help="seconds per part (default: 10)")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: the system's)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
