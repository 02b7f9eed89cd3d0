"""Reads random batches of a Lance dataset; `arrow_peers.py` runs it.

    python lance_reader.py ROWS.arrow BATCH

It needs an environment with pylance and numpy alone. Each line of standard input asks for the rows
of some numbers, or for the seconds per batch of random rows; each answer is a line of JSON.
"""

import json
import os
import sys
import time

for name in ("LANCE_CPU_THREADS", "LANCE_IO_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = "1"

import lance  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

WEIGHTS, WARM_UP = "weights", 4


def _take(dataset, index):
    """Weights (B, D) of some rows; other columns are read and stay in Arrow's memory."""
    taken = dataset.take(index)
    flat = taken.column(WEIGHTS).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(index), -1).copy()


def _seconds_per_batch(dataset, batch, seconds, rng, now):
    """Mean over the batches that fit the time, after some that warm up."""
    rows = dataset.count_rows()
    for _ in range(WARM_UP):
        _take(dataset, rng.integers(rows, size=batch).tolist())
    start, count = now(), 0
    while (elapsed := now() - start) < seconds or count == 0:
        _take(dataset, rng.integers(rows, size=batch).tolist())
        count += 1
    return elapsed / count


def main():
    """Write the dataset, then answer."""
    path, batch = sys.argv[1], int(sys.argv[2])
    reader = pa.ipc.open_file(pa.memory_map(path))
    batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
    lance.write_dataset(batches, path + ".lance", schema=reader.schema)
    dataset, rng = lance.dataset(path + ".lance"), np.random.default_rng(0)
    for line in sys.stdin:
        question = json.loads(line)
        if "rows" in question:
            answer = _take(dataset, question["rows"]).tolist()
        else:
            answer = _seconds_per_batch(
                dataset, batch, question["seconds"], rng, getattr(time, question["clock"])
            )
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
