"""Claim: a zoo in several files streams faster, since stock `datasets` reads files in parallel.

    python benchmarks/speed/streaming.py [--megabytes 32] [--rate 1] [--rounds 3]

The same rows lie in one file and in eight, on a Hub on the loopback that sends every answer at a
limited rate, as one connection to a distant server does. Workers of a `DataLoader` read the stream
of `load_zoo(..., streaming=True)`; each file is read by one worker. `pull` downloads files with
weightzoo's threads. Figures are seconds of the clock from the first piece of a file that the server
sends to the last one: start-up does not count, and waiting takes no processor time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synthetic_zoo import write_sharded_zoo

WIDTH = 2464
FILES = (1, 8)
READS = {"1 worker": 1, "4 workers": 4, "pull": 0}
PIECE_BYTES = 2**16

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "data"))


def main() -> None:
    """Run all reads and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=32, help="weights of the zoo (default 32)")
    parser.add_argument("--rate", type=float, default=1, help="MB/s of an answer (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--read", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.read:
        repo, workers = json.loads(options.read)
        print(json.dumps(_read(repo, workers)))
        return
    import hub_server

    sent = _limit_rate(hub_server, options.rate * 1e6)
    rows = int(options.megabytes * 1e6 / 4 / WIDTH)
    with tempfile.TemporaryDirectory() as folder, hub_server.HubServer() as server:
        for files in FILES:
            write_sharded_zoo(Path(folder) / f"{files}" / "zoo", rows, WIDTH, files)
            server.add_repo(f"org/files-{files}", Path(folder) / f"{files}")
        print(f"{rows} rows, {options.megabytes} MB, {options.rate:g} MB/s per answer")
        print(f"{'read':<12}" + "".join(f"{f'{files} files':>12}" for files in FILES))
        for name, workers in READS.items():
            cells = []
            for files in FILES:
                runs = []
                for _ in range(options.rounds):
                    sent.clear()
                    _in_process(server.endpoint, f"org/files-{files}", workers, rows)
                    runs.append(max(sent) - min(sent))
                cells.append(f"{statistics.median(runs):>10.1f} s")
            print(f"{name:<12}" + "".join(cells), flush=True)


def _limit_rate(hub_server: object, rate: float) -> list[float]:
    """Send long answers in pieces, at most at the rate; return a list of the times of pieces."""
    handler = hub_server._Handler  # type: ignore[attr-defined]
    sent: list[float] = []

    class Slow:
        """A stream of bytes to a client."""

        def __init__(self, file: object) -> None:
            self._file = file

        def write(self, data: bytes) -> None:
            started = time.monotonic()
            for start in range(0, len(data), PIECE_BYTES):
                if len(data) > PIECE_BYTES:
                    sent.append(time.monotonic())
                self._file.write(data[start : start + PIECE_BYTES])  # type: ignore[attr-defined]
                ahead = (start + PIECE_BYTES) / rate - (time.monotonic() - started)
                if start and ahead > 0:
                    time.sleep(ahead)

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

    plain = handler.setup

    def setup(self: object) -> None:
        plain(self)
        self.wfile = Slow(self.wfile)  # type: ignore[attr-defined]

    handler.setup = setup
    return sent


def _in_process(endpoint: str, repo: str, workers: int, rows: int) -> None:
    """Read once in a new process, which has no cache."""
    with tempfile.TemporaryDirectory() as home:
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, __file__, "--read", json.dumps([repo, workers])]
        done = subprocess.run(command, env=os.environ | hub, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    if found != rows:
        raise SystemExit(f"{repo}: {found} rows arrived of {rows}")


def _read(repo: str, workers: int) -> int:
    """Rows that arrive in a stream read by some workers, or in a download."""
    from torch.utils.data import DataLoader

    from weightzoo import load_zoo
    from weightzoo.loaders.hub.fetching import fetch_zoo

    if not workers:
        return len(load_zoo(fetch_zoo(repo), split="train"))
    stream = load_zoo(repo, split="train", streaming=True, columns=["model_id"])
    batches = stream.batch(256).with_format("arrow")
    loader = DataLoader(batches, batch_size=None, num_workers=workers)
    return sum(len(batch["model_id"][0]) for batch in loader)


if __name__ == "__main__":
    main()
