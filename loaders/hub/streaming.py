"""Stream a zoo row by row or batch by batch, from a folder or the Hub, without downloading it.

The result is a `ZooStream`, a stock `datasets.IterableDataset`: it resumes by `state_dict`, shards
by `split_dataset_by_node` and shuffles with a buffer. Reading whole batches is fastest: with
D = 2,464 on one core 80,000 rows/s in format "arrow" and 50,000 in "numpy", but 8,000 row by row
and 1,500 in "torch"::

    stream = stream_zoo("org/name", "digits-cnn", "train").with_format("numpy")
    for batch in stream.iter(batch_size=256):
        batch["weights"]  # (256, D) float32

Format "numpy" converts float64 columns to float32; format "arrow" returns tables unchanged. Format
"layer_sets" cuts the weights, as that of a `ZooDataset`. Trainers, predictors and `DeviceLoader`
take a stream in place of a dataset: they read its rows by number, in their own order.

Shape letters: D length of the flat weight vector.
"""

from collections.abc import Callable, Sequence
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from ...zoos.errors import did_you_mean
from ...zoos.format import SPLITS, WEIGHTS
from ...zoos.index import ZooIndex
from ...zoos.mixed_format import MixedIndex, read_index
from ..dataset.zoo_dataset import ZooDataset
from ..storage.opening import open_splits
from .fetching import HubZoo, choose_zoo, find_hub_zoo, is_hub_path, our_split, zoo_files
from .remote_zoo import open_remote_zoo
from .zoo_stream import stream_class

BATCH_BYTES = 2**26  # bytes of a file read at once
Opener = Callable[..., ZooDataset]  # of a split and its columns
READ_AHEAD_BYTES = (2**18, 2**21)  # least and most at each jump in a remote file
COLUMN_BYTES = 2**9  # of a row's columns, about: what is read ahead should hold all of them


def stream_zoo(
    path_or_repo: str | Path,
    name: str | None = None,
    split: str | None = None,
    *,
    revision: str | None = None,
    columns: Sequence[str] | None = None,
    token: str | bool | None = None,
) -> Any:
    """Open a zoo as a stream; over the network, only the rows that are iterated over are read.

    Args:
        path_or_repo: a zoo folder, a folder of zoo folders, "org/name" or "hf://datasets/...".
        name: name of the zoo in it; optional if there is only one.
        split: "train", "val" ("validation" on the Hub) or "test"; None takes all.
        revision: branch, tag or commit of a repository; None as in `fetch_zoo`.
        columns: columns to read, in this order, including "weights"; None reads all. Other columns
            are not even fetched.
        token: token for a private repository.

    Returns:
        A `ZooStream`, or with split None an `IterableDatasetDict` of the streams of all splits.
        Rows are in file order; there are as many shards as files.

    Raises:
        ZooNotFoundError: if there is no zoo.
        ZooFormatError: if this weightzoo cannot read its format version.
        ValueError: if there is no such name, split or column (the message lists those there
            are), or the zoo is of many architectures.
        HubError: if the Hub cannot be reached.
    """
    from datasets import Features, load_dataset

    if split is not None and set(split) & set("[+"):
        raise ValueError(
            f"a stream has whole splits only, got {split!r}: pass one of {SPLITS} and use `take` "
            "or `filter`, or load the zoo with streaming=False"
        )
    split = our_split(split)
    root, index, opener = _locate(path_or_repo, name, revision, token)
    scalars = None if columns is None else [column for column in columns if column != WEIGHTS]
    files = {
        part: [escape(root + shard.path) for shard in index.shards if shard.split == part]
        for part in SPLITS
        if any(shard.split == part for shard in index.shards)
    }
    if split is not None and split not in files:
        raise ValueError(f"{root} has no rows of split {split!r}, it has {list(files)}")
    if split is not None:
        files = {split: files[split]}
    row_bytes = max(shard.size_bytes // shard.rows for shard in index.shards)
    options: dict[str, Any] = {
        "data_files": files,
        "split": split,
        "streaming": True,
        "token": token,
        "batch_size": max(1, BATCH_BYTES // row_bytes),
        "storage_options": {"hf": {"block_size": _read_ahead(index)}},
    }
    stream = load_dataset("hdf5", **options)
    if columns is None:
        return _as_zoo_streams(stream, split, opener, scalars)
    known = (stream if split else next(iter(stream.values()))).features
    if unknown := [column for column in columns if column not in known]:
        raise ValueError(
            f"{root} has no column {unknown}, its columns are {list(known)}"
            + did_you_mean(unknown, known)
        )
    chosen = Features({column: known[column] for column in columns})
    stream = load_dataset("hdf5", features=chosen, **options)
    return _as_zoo_streams(stream, split, opener, scalars)


def _read_ahead(index: ZooIndex) -> int:
    """Bytes read ahead: opening a file jumps four times, and few rows need little each time."""
    least, most = READ_AHEAD_BYTES
    return min(most, max(least, COLUMN_BYTES * max(shard.rows for shard in index.shards)))


def _as_zoo_streams(
    stream: Any, split: str | None, opener: Opener, columns: Sequence[str] | None
) -> Any:
    """The stock stream, or the dict of streams by split, as `ZooStream`s."""
    of = stream_class().of
    if split is not None:
        return of(stream, partial(opener, split, columns))
    for part in stream:
        stream[part] = of(stream[part], partial(opener, part, columns))
    return stream


def _locate(
    path_or_repo: str | Path, name: str | None, revision: str | None, token: str | bool | None
) -> tuple[str, ZooIndex, Opener]:
    """Prefix of the paths of the shards, the index, and what opens a split by row number."""
    if not is_hub_path(path_or_repo):
        path = Path(path_or_repo)
        folder = path / choose_zoo(zoo_files(path), name, str(path))
        index = _streamed(read_index(folder), str(path))
        return f"{folder.resolve()}/", index, partial(_open_folder, folder)
    zoo = find_hub_zoo(str(path_or_repo), name, revision=revision, token=token)
    prefix = f"hf://datasets/{zoo.repo.name}@{zoo.commit}/{zoo.prefix}"
    return prefix, _streamed(zoo.index, zoo.repo.name), partial(_open_hub, zoo, token)


def _streamed(index: ZooIndex | MixedIndex, where: str) -> ZooIndex:
    if isinstance(index, MixedIndex):
        raise ValueError(
            f"{where} holds a mixed zoo, whose weights are not streamed: load it with "
            "streaming=False; its columns alone are streamed by datasets.load_dataset"
        )
    return index


def _open_folder(folder: Path, split: str, columns: Sequence[str] | None) -> ZooDataset:
    opened = open_splits(folder, [split], columns, in_memory=False)[split]
    return ZooDataset(opened.name, opened.source, opened.table, opened.rows, opened.table.names)


def _open_hub(
    zoo: HubZoo, token: str | bool | None, split: str, columns: Sequence[str] | None
) -> ZooDataset:
    return open_remote_zoo(zoo, split, columns, token)
