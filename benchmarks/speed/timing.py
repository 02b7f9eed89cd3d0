"""Rates of readers that take turns, so that what else the machine does hits all of them alike."""

import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WARM_UP_BATCHES = 4  # what two worker processes prefetch


@dataclass(frozen=True)
class Reader:
    """One way to read.

    Attributes:
        name: in the table.
        batches: endless batches; nothing is read before the first is asked for.
    """

    name: str
    batches: Iterator[Any]


def measure(
    readers: list[Reader], batch: int, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Rows per second of every reader in every round, readers taking turns."""
    rates: dict[str, list[float]] = {reader.name: [] for reader in readers}
    for round_ in range(-1, rounds):  # the first round warms caches and worker processes
        for reader in readers:
            _warm_up(reader.batches, seconds)
            rate = batch / _seconds_per_batch(reader.batches, seconds)
            if round_ >= 0:
                rates[reader.name].append(rate)
    return rates


def _warm_up(batches: Iterator[Any], seconds: float) -> None:
    """A few batches, of slow readers one."""
    start = time.perf_counter()
    for _ in range(WARM_UP_BATCHES):
        next(batches)
        if time.perf_counter() - start > seconds:
            return


def _seconds_per_batch(batches: Iterator[Any], seconds: float) -> float:
    """Mean over as many batches as fit the time, at least one."""
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or count == 0:
        next(batches)
        count += 1
    return elapsed / count


def summary(rates: dict[str, list[float]], limit: str, ours: str) -> dict[str, dict[str, float]]:
    """Median rate, and median over rounds of the ratio to the limit and of ours to it."""
    return {
        name: {
            "rows_per_second": statistics.median(values),
            "of_limit": _median_ratio(values, rates[limit]),
            "ours_is_times": _median_ratio(rates[ours], values),
        }
        for name, values in rates.items()
    }


def table(numbers: dict[str, dict[str, float]], row_bytes: int) -> str:
    """Markdown."""
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
