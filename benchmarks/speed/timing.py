"""Rates of readers that take turns, so that other load on the machine affects all alike."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

WARM_UP_BATCHES = 4  # what two worker processes prefetch
MATRIX, COPY = 768, 2**24  # side of the roofline's matrices, float32 values of its copy


@dataclass(frozen=True)
class Reader:
    """One way to read.

    Attributes:
        name: name in the table.
        batches: endless batches; nothing is read before the first is requested.
        timed: function that reads for some seconds in another process and returns the seconds per
            batch; it replaces `batches`. It gets the seconds and the name of the clock.
    """

    name: str
    batches: Iterator[Any] = iter(())
    timed: Callable[[float, str], float] | None = None

    def seconds_per_batch(self, seconds: float, clock: str) -> float:
        """Warm up, then read for some seconds.

        Args:
            seconds: time to read for, in seconds.
            clock: "perf_counter" or "process_time", a function of the module `time`.
        """
        if self.timed is not None:
            return self.timed(seconds, clock)
        _warm_up(self.batches, seconds)
        return _seconds_per_batch(self.batches, seconds, clock)


def measure(
    readers: list[Reader], batch: int, rounds: int, seconds: float, clock: str = "perf_counter"
) -> dict[str, list[float]]:
    """Rows per second of every reader in every round, readers taking turns.

    Args:
        readers: readers to time.
        batch: rows per batch.
        rounds: number of rounds, after one that warms up.
        seconds: time of each reader and round, in seconds.
        clock: "perf_counter", or "process_time", which other programs disturb less.
    """
    rates: dict[str, list[float]] = {reader.name: [] for reader in readers}
    for round_ in range(-1, rounds):  # the first round warms caches and worker processes
        for reader in readers:
            rate = batch / reader.seconds_per_batch(seconds, clock)
            if round_ >= 0:
                rates[reader.name].append(rate)
    return rates


def roofline() -> dict[str, float]:
    """Processor seconds of a plain matrix product and a plain copy, as GFLOP/s and GB/s."""
    a, b, out = (torch.rand(MATRIX, MATRIX) for _ in range(3))
    source, target = torch.rand(COPY), torch.empty(COPY)
    product = _fastest(lambda: torch.mm(a, b, out=out))
    copy = _fastest(lambda: target.copy_(source))
    return {"gflops": 2 * MATRIX**3 / product / 1e9, "gbytes": 2 * 4 * COPY / copy / 1e9}


def _warm_up(batches: Iterator[Any], seconds: float) -> None:
    """Read a few batches; of slow readers, one."""
    start = time.perf_counter()
    for _ in range(WARM_UP_BATCHES):
        next(batches)
        if time.perf_counter() - start > seconds:
            return


def _seconds_per_batch(batches: Iterator[Any], seconds: float, clock: str) -> float:
    """Mean over the batches that fit the time, at least one."""
    now: Callable[[], float] = getattr(time, clock)
    start, count = now(), 0
    while (elapsed := now() - start) < seconds or count == 0:
        next(batches)
        count += 1
    return elapsed / count


def summary(rates: dict[str, list[float]], limit: str, ours: str) -> dict[str, dict[str, float]]:
    """Median rates, and medians over rounds of two ratios: reader to limit, and ours to reader.

    Args:
        rates: rows per second by reader and round.
        limit: name of the reader that is the limit.
        ours: name of our reader.
    """
    return {
        name: {
            "rows_per_second": statistics.median(values),
            "of_limit": _median_ratio(values, rates[limit]),
            "ours_is_times": _median_ratio(rates[ours], values),
        }
        for name, values in rates.items()
    }


def table(numbers: dict[str, dict[str, float]], row_bytes: int) -> str:
    """A Markdown table.

    Args:
        numbers: result of `summary`.
        row_bytes: bytes per row.
    """
    lines = ["| reader | rows/s | GB/s | × limit | ours is × |", "|---|---|---|---|---|"]
    for name, row in numbers.items():
        gigabytes = row["rows_per_second"] * row_bytes / 1e9
        lines.append(
            f"| {name} | {row['rows_per_second']:,.0f} | {gigabytes:.3g} | "
            f"{row['of_limit']:.3g} | {row['ours_is_times']:.3g} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """System, cores and Python of this machine."""
    return (
        f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}"
    )


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _fastest(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(7):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)
