"""The copies of `copy_runs.c`, compiled for this machine if it has a C compiler.

One call gathers rows of a mapped file, or gathers and cuts them without a batch of flat rows
between. Without a compiler, or with WEIGHTZOO_COMPILE=0, `library` returns None and numpy copies;
see `c_library`.

Shape letters: M rows of a table, B rows that are copied, D values of a row.
"""

import ctypes
import functools
from pathlib import Path

import numpy as np

from ..networks.c_library import load_library

SOURCE = Path(__file__).with_name("copy_runs.c")
FIELDS = 9  # numbers of a run in C: bytes of a piece, counts, and start and steps on both sides


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None without a compiler."""
    compiled = load_library(SOURCE, "random rows and layer sets")
    if compiled is not None:
        compiled.weightzoo_gather_rows.restype = ctypes.c_int64
    return compiled


def copy_runs(
    runs: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    source_rows: np.ndarray | None = None,
    target_rows: np.ndarray | None = None,
) -> None:
    """Copy runs of rows to runs of rows, with `library`; other threads run meanwhile.

    Args:
        runs: (runs, `FIELDS`), int64, all in bytes.
        source: table whose rows are read, (M, ...), each contiguous.
        target: table whose rows are written, likewise.
        source_rows: numbers of the rows to read, (B,), int64, contiguous and in range, which is not
            checked; None reads all.
        target_rows: numbers of the rows to write, likewise.
    """
    compiled = library()
    assert compiled is not None
    count = len(source if source_rows is None else source_rows)
    compiled.weightzoo_copy_runs(
        _pointer(runs),
        ctypes.c_int64(len(runs)),
        ctypes.c_int64(count),
        _pointer(source),
        ctypes.c_int64(source.strides[0]),
        _pointer(source_rows),
        _pointer(target),
        ctypes.c_int64(target.strides[0]),
        _pointer(target_rows),
    )


def gather_rows(source: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:
    """Copy rows of a table, with `library`; other threads run meanwhile.

    Args:
        source: table whose rows are read, (M, D), each contiguous.
        rows: numbers of the rows, (B,), int64 and contiguous.
        target: table that is filled, (B, D), contiguous and of the type of `source`.

    Raises:
        IndexError: if a number is out of range; nothing is copied then.
    """
    compiled = library()
    assert compiled is not None
    wrong = compiled.weightzoo_gather_rows(
        _pointer(source),
        ctypes.c_int64(len(source)),
        ctypes.c_int64(source.strides[0]),
        _pointer(rows),
        ctypes.c_int64(len(rows)),
        ctypes.c_int64(source.itemsize * source.shape[1]),
        _pointer(target),
    )
    if wrong >= 0:
        raise IndexError(
            f"row {rows[wrong]} is out of range: there are {len(source)} rows, "
            f"allowed are 0 to {len(source) - 1}"
        )


def _pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)
