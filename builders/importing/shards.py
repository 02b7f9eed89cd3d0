"""Checkpoints in several files, each with a part of the tensors.

Hugging Face names the parts `<name>-00001-of-00003<ending>`.
"""

import re
from collections.abc import Iterable, Mapping

from ..checkpoints.opening import find_state_dict, natural_order
from ..checkpoints.tensors import Checkpoint, Leaf
from ..checkpoints.unreadable import UnreadableFileError
from .models import OpenState

_SHARD = re.compile(r"(.+)-([0-9]{1,9})-of-([0-9]{1,9})(\.[a-z]+)")


def join_shards(files: Iterable[str]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Group the files of one checkpoint.

    Args:
        files: file names; those of other patterns are checkpoints of one file.

    Returns:
        Files by the name of the checkpoint, which is the file's name without the shard number;
        and the reason to refuse a checkpoint, by name, if it lacks shards.
    """
    whole: dict[str, tuple[str, ...]] = {}
    parts: dict[tuple[str, int], dict[int, str]] = {}
    for file in files:
        match = _SHARD.fullmatch(file)
        if match is None:
            whole[file] = (file,)
        else:
            key = match[1] + match[4], int(match[3])
            parts.setdefault(key, {})[int(match[2])] = file
    refused: dict[str, str] = {}
    for (name, total), found in parts.items():
        first = min(1, *found)  # most are numbered from 1, some from 0
        missing = sorted({*range(first, first + min(total, 10_000))} - set(found))
        if missing or len(found) != total or name in whole:
            told = f"lacks the shards {missing[:8]} of {total}" if missing else "its name is twice"
            refused[name] = told
        else:
            whole[name] = tuple(found[number] for number in sorted(found))
    return whole, refused


def open_together(
    files: Mapping[str, Checkpoint], prefixes: Mapping[str, str] | None = None
) -> OpenState:
    """Open the tensors of several files as those of one checkpoint, in natural order.

    Args:
        files: open files by name.
        prefixes: text before the names of each file's tensors; None adds none.

    Raises:
        UnreadableFileError: if a tensor is in two files.
    """
    tensors: dict[str, Leaf] = {}
    owners: dict[int, Checkpoint] = {}
    for name, file in files.items():
        prefix = (prefixes or {}).get(name, "")
        state = {prefix + key: leaf for key, leaf in find_state_dict(file.root).items()}
        if twice := sorted(set(state) & set(tensors)):
            raise UnreadableFileError(f"tensors {twice[:3]} are in two files")
        tensors |= state
        owners |= dict.fromkeys(map(id, state.values()), file)
    in_order = {name: tensors[name] for name in sorted(tensors, key=natural_order)}
    return OpenState(in_order, lambda leaf: owners[id(leaf)].read(leaf))
