"""Arrow IPC and Lance as readers of random batches, for `random_batches.py`.

Shape letters: N rows, D length of the flat weight vector.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weightzoo.loaders import ZooDataset
from weightzoo.zoos.format import WEIGHTS, ZooFile

ROWS_A_BATCH = 1000  # of an Arrow file
LANCE_SCRIPT = Path(__file__).with_name("lance_reader.py")


class ArrowRows:
    """All rows in an Arrow IPC file, memory-mapped; weights are lists of a fixed size.

    Attributes:
        path: path of the file.
    """

    def __init__(self, folder: Path, file: ZooFile, columns: ZooDataset | None) -> None:
        """Write the file and map it.

        Args:
            folder: folder for the file.
            file: zoo file whose rows are copied.
            columns: dataset with the columns to copy as well; None copies the weights alone.
        """
        import pyarrow as pa

        self.path = folder / f"rows-{'weights' if columns is None else 'columns'}.arrow"
        rows, table = file.map_weights(), {} if columns is None else dict(columns.columns)
        writer = None
        for start in range(0, file.rows, ROWS_A_BATCH):
            stop = min(start + ROWS_A_BATCH, file.rows)
            flat = pa.array(np.asarray(rows[start:stop]).reshape(-1))
            part = {name: pa.array(values[start:stop]) for name, values in table.items()}
            part[WEIGHTS] = pa.FixedSizeListArray.from_arrays(flat, file.width)
            batch = pa.record_batch(part)
            writer = writer or pa.ipc.new_file(str(self.path), batch.schema)
            writer.write_batch(batch)
        assert writer is not None
        writer.close()
        self._table = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row."""
        return {name: values[0] for name, values in self.take([index]).items()}

    def take(self, index: list[int]) -> dict[str, Any]:
        """A batch: weights as a tensor (B, D), other columns as Arrow gives them.

        Args:
            index: B row numbers.
        """
        taken = self._table.take(index)
        weights = taken.column(WEIGHTS).combine_chunks()
        flat = weights.flatten().to_numpy(zero_copy_only=False)
        others = {n: taken.column(n) for n in taken.column_names if n != WEIGHTS}
        return others | {WEIGHTS: torch.from_numpy(flat.reshape(len(index), -1).copy())}


class LanceRows:
    """The same rows in a Lance dataset, read by a process in an environment of its own."""

    def __init__(self, python: str, arrow: ArrowRows, batch: int) -> None:
        """Write the dataset and start the process.

        Args:
            python: interpreter of an environment with pylance.
            arrow: rows to copy.
            batch: rows per batch.

        Raises:
            SystemExit: if it does not read the same rows.
        """
        command = [python, str(LANCE_SCRIPT), str(arrow.path), str(batch)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        rows = self._ask({"rows": [3, 1]})
        if rows != arrow.take([3, 1])[WEIGHTS].tolist():
            raise SystemExit("Lance does not read the same rows")

    def seconds_per_batch(self, seconds: float, clock: str) -> float:
        """Seconds per batch of random rows, read for some seconds.

        Args:
            seconds: time to read for, in seconds.
            clock: "perf_counter" or "process_time"; of the process with all its threads.
        """
        return float(self._ask({"seconds": seconds, "clock": clock}))

    def _ask(self, question: dict[str, Any]) -> Any:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
