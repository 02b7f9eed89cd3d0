"""`load_zoo` opens a zoo from disk or the Hub as a dataset."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ..zoos.format import SPLITS, WEIGHTS
from ..zoos.mixed_format import is_mixed_folder
from .collections.mixed_zoo import open_mixed_zoo
from .concatenation import concatenate_zoos
from .dataset.table_edits import with_columns
from .dataset.zoo_dataset import FORMATS, ZooDataset
from .hub.fetching import fetch_zoo, is_hub_path
from .protocols import Resplit, protocol_splits
from .splits import SplitPart, parse_split
from .storage.mounts import is_on_network
from .storage.opening import OpenSplit, find_zoo, open_splits
from .zoo_dict import ZooDict

if TYPE_CHECKING:
    import datasets

__all__ = ["FORMATS", "ZooDataset", "ZooDict", "concatenate_zoos", "load_zoo"]


@overload
def load_zoo(
    path_or_repo: str | Path,
    name: str | None = None,
    split: None = None,
    *,
    revision: str | None = None,
    streaming: Literal[False] = False,
    columns: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    in_memory: bool = False,
    verify_on_read: bool | None = None,
    protocol: str | None = None,
    split_file: str | Path | None = None,
) -> ZooDict: ...
@overload
def load_zoo(
    path_or_repo: str | Path,
    name: str | None = None,
    split: str = ...,
    *,
    revision: str | None = None,
    streaming: Literal[False] = False,
    columns: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    in_memory: bool = False,
    verify_on_read: bool | None = None,
    protocol: str | None = None,
    split_file: str | Path | None = None,
) -> ZooDataset: ...
@overload
def load_zoo(
    path_or_repo: str | Path,
    name: str | None = None,
    split: str | None = None,
    *,
    revision: str | None = None,
    streaming: Literal[True],
    columns: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    in_memory: bool = False,
    verify_on_read: bool | None = None,
    protocol: str | None = None,
    split_file: str | Path | None = None,
) -> "datasets.IterableDataset | datasets.IterableDatasetDict": ...
def load_zoo(
    path_or_repo: str | Path,
    name: str | None = None,
    split: str | None = None,
    *,
    revision: str | None = None,
    streaming: bool = False,
    columns: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    in_memory: bool = False,
    verify_on_read: bool | None = None,
    protocol: str | None = None,
    split_file: str | Path | None = None,
) -> Any:
    """Open a zoo; weights are read only when they are needed.

    The files of a split of up to 16 files are all checked at once. The files of a larger split are
    checked one by one, when they are first read.

    Args:
        path_or_repo: a zoo file, a zoo folder (one with `zoo.json`), a folder of zoo folders, or
            a Hub repository, "org/name" or "hf://datasets/org/name". An existing local path takes
            precedence.
        name: name of the zoo in a folder of zoo folders or in a repository; optional if there is
            only one.
        split: "train", "val" ("validation" on the Hub) or "test"; None takes all. A part of a
            split is "train[:50%]" or "train[10:20]", a sum "train[:50%]+val". Slices count models
            in the order of the file and keep all checkpoints of a model together. A percentage of
            the number of models is rounded down.
        revision: tag, branch or commit of the repository.
        streaming: read a repository row by row, without storing it, as a stock `IterableDataset`.
        columns: scalar columns to read; None reads all. The weights are always included.
        cache_dir: folder for downloads; None takes the default cache of the Hub client.
        token: token for a private repository; None takes the token of the logged-in user.
        in_memory: copy the weights of the opened files to memory at once, for slow disks.
        verify_on_read: read without a memory map, for files that may change. False reads mapped
            files: a file that was written to or replaced raises an error instead of giving a wrong
            batch, but a file that is truncated while a batch is copied, or whose disk fails, ends
            the process with SIGBUS. True reads without a map, at half the speed or less, and
            raises an error in these cases too. None reads without a map on network mounts only.
            Replace a zoo by renaming and never write into its files: a change made through another
            memory map is not always noticed.
        protocol: name of a published protocol, see `weightzoo protocols`: it chooses rows and
            their splits, in place of the stored ones.
        split_file: published file of splits, for a protocol that needs one.

    Returns:
        The split's dataset, or with split None a `ZooDict` of every split that has rows. Datasets
        of a mixed zoo (many architectures in one folder) are `MixedZoo`s.

    Raises:
        TypeError: if the path is no path, columns is a text, or split is none.
        ZooNotFoundError: if there is no zoo at the path.
        ZooFormatError: if a file is no zoo file, contradicts its index, or lacks a column.
        ValueError: if there is no such name, split or protocol (the message lists those there
            are), or the protocol does not fit the zoo.

    Example:
        >>> from weightzoo import load_zoo
        >>> {split: len(rows) for split, rows in load_zoo(ZOO).items()}
        {'train': 6, 'val': 3, 'test': 3}
        >>> load_zoo(ZOO, split="train[:50%]").weights().shape
        torch.Size([3, 71])
    """
    if not isinstance(path_or_repo, str | PathLike):
        raise TypeError(
            "load_zoo takes a path or the name of a repository 'org/name', got "
            f"{type(path_or_repo).__name__} {path_or_repo!r}"
        )
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names, got the text {columns!r}: [{columns!r}]")
    parts = None if split is None else parse_split(split)
    resplit = _resplit(protocol, split_file, streaming)
    if streaming:
        from .hub.streaming import stream_zoo

        wanted = None if columns is None else [*dict.fromkeys([*columns, WEIGHTS])]
        return stream_zoo(path_or_repo, name, split, revision=revision, columns=wanted, token=token)
    if is_hub_path(path_or_repo):
        words = {part.split for part in parts or ()}
        only = words.pop() if len(words) == 1 and resplit is None else None
        path = fetch_zoo(
            str(path_or_repo), name, only, revision=revision, cache_dir=cache_dir, token=token
        )
    elif revision is not None:
        raise ValueError(f"a zoo on disk has no revision {revision!r}: leave it out")
    else:
        path = find_zoo(Path(path_or_repo), name)
    return _load(path, parts, columns, in_memory, verify_on_read, resplit)


def _resplit(
    protocol: str | None, split_file: str | Path | None, streaming: bool
) -> Resplit | None:
    """The function of a protocol, after checks of the arguments; None without a protocol."""
    if protocol is None:
        if split_file is not None:
            raise ValueError(f"split_file {str(split_file)!r} is of a protocol: give protocol too")
        return None
    if streaming:
        raise ValueError(f"protocol {protocol!r} reads all rows: leave out streaming")
    return protocol_splits(protocol, split_file)


def _load(
    path: Path,
    parts: list[SplitPart] | None,
    columns: Sequence[str] | None,
    in_memory: bool,
    verify_on_read: bool | None,
    resplit: Resplit | None,
) -> Any:
    """The dataset of a split expression, or a dict of all splits, of a zoo on disk."""
    if path.is_dir() and is_mixed_folder(path):
        verify = is_on_network(path) if verify_on_read is None else verify_on_read
        return open_mixed_zoo(path, parts, columns, in_memory, verify, resplit)
    if resplit is not None:
        opened = open_splits(path, None, None, in_memory, verify_on_read)
        whole = concatenate_zoos([_dataset(one) for one in opened.values()])
        return _resplit_zoo(whole, resplit, parts, columns)
    if parts is None:
        found = open_splits(path, None, columns, in_memory, verify_on_read)
        return ZooDict({split: _dataset(opened) for split, opened in found.items()})
    splits = list(dict.fromkeys(part.split for part in parts))
    found = open_splits(path, splits, columns, in_memory, verify_on_read)
    return concatenate_zoos([_sliced(_dataset(found[part.split]), part) for part in parts])


def _resplit_zoo(
    whole: ZooDataset,
    resplit: Resplit,
    parts: list[SplitPart] | None,
    columns: Sequence[str] | None,
) -> Any:
    """The dataset of a split expression, or a dict of all splits, with the splits of a protocol."""
    split, rule = resplit(whole.columns, whole.header.split)
    table = with_columns(whole, {"split": split})
    whole = replace(whole, table=table, split_rule=rule)
    whole = whole if columns is None else whole.select_columns(columns)
    found = {part: whole.select(split == part) for part in SPLITS if (split == part).any()}
    if parts is None:
        return ZooDict(found)
    if missing := [part.split for part in parts if part.split not in found]:
        raise ValueError(f"the protocol has no rows of split {missing}, it has {list(found)}")
    return concatenate_zoos([_sliced(found[part.split], part) for part in parts])


def _dataset(opened: OpenSplit) -> ZooDataset:
    return ZooDataset(opened.name, opened.source, opened.table, opened.rows, opened.table.names)


def _sliced(dataset: ZooDataset, part: SplitPart) -> ZooDataset:
    if part.whole:
        return dataset
    return dataset.select(part.rows(dataset.hidden_column("model_id", f"split {str(part)!r}")))
