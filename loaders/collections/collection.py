"""A collection of models, read one tensor of all members at a time.

Shape letters: M members.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...zoos.errors import MergeError
from ...zoos.tensors.adapters import is_adapter, open_adapter
from ...zoos.tensors.checkpoint_folder import (
    CheckpointFolder,
    is_checkpoint,
    open_checkpoint_folder,
)
from ...zoos.tensors.lazy import TensorType
from .hub_checkpoints import fetch_checkpoint, is_hub_model
from .members import AdapterMember, FolderMember, Member

BLOCK_VALUES = 2**20  # of a tensor, read at once of every member


@dataclass(frozen=True)
class Conflict:
    """Why members cannot be merged as they are.

    Attributes:
        kind: "twice", "architecture", "tokenizer", "vocabulary", "tied", "keys", "shape" or
            "type".
        text: the members and what differs.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders.collections import ModelCollection, ZooMember, find_conflicts
        >>> member = ZooMember(load_zoo(ZOO, split="train"), 0)
        >>> find_conflicts(ModelCollection([member, member]))
        [Conflict(kind='twice', text='tiny:0@0 is a member 2 times')]
    """

    kind: str
    text: str


class ModelCollection:
    """Models that are read side by side.

    Attributes:
        members: M models.
        base: the model that the others were trained from; None if it is unknown.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders.collections import ModelCollection, ZooMember
        >>> train = load_zoo(ZOO, split="train")
        >>> collection = ModelCollection([ZooMember(train, 2), ZooMember(train, 5)])
        >>> name = list(collection.tensors)[0]
        >>> name, [tuple(values.shape) for values in collection.read(name)]
        ('conv1.weight', [(2, 1, 3, 3), (2, 1, 3, 3)])
    """

    def __init__(self, members: Sequence[Member], base: Member | None = None) -> None:
        """Hold the members.

        Args:
            members: members of the collection.
            base: base of the members, or None.

        Raises:
            MergeError: if there is none.
        """
        if not members:
            raise MergeError("a collection needs at least one member, got none")
        self.members, self.base = tuple(members), base

    @property
    def everyone(self) -> tuple[Member, ...]:
        """The members, and the base if there is one."""
        return self.members if self.base is None else (*self.members, self.base)

    @property
    def tensors(self) -> dict[str, TensorType]:
        """Tensors that all have in one shape, with the first member's type."""
        first, *others = self.everyone
        return {
            name: kind
            for name, kind in first.tensors.items()
            if all(name in o.tensors and o.tensors[name].shape == kind.shape for o in others)
        }

    def read(self, name: str) -> list[Tensor]:
        """One tensor of all members, each in its own type."""
        return [member.read(name) for member in self.members]

    def blocks(self, name: str, values: int = BLOCK_VALUES) -> Iterator[tuple[int, int]]:
        """Start and stop of the blocks of a flattened tensor.

        Args:
            name: tensor name.
            values: greatest number of values in a block.
        """
        size = self.tensors[name].size
        return ((start, min(start + values, size)) for start in range(0, size, values))


def find_conflicts(collection: ModelCollection) -> list[Conflict]:
    """What speaks against merging: found before any tensor is read, and never repaired.

    Returns:
        The conflicts, the most telling first: a different vocabulary also changes shapes.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders.collections import ModelCollection, ZooMember, find_conflicts
        >>> train = load_zoo(ZOO, split="train")
        >>> find_conflicts(ModelCollection([ZooMember(train, 2), ZooMember(train, 5)]))
        []
    """
    first, *others = collection.everyone
    conflicts = _twice(collection.members)
    for other in others:
        conflicts += _differing_facts(first, other)
    for other in others:
        conflicts += _differing_tensors(first, other)
    return conflicts + _untrainable(collection.everyone)


def _twice(members: Sequence[Member]) -> list[Conflict]:
    names = [member.name for member in members]
    return [
        Conflict("twice", f"{name} is a member {names.count(name)} times")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]


def _differing_facts(first: Member, other: Member) -> list[Conflict]:
    pair = f"{first.name} and {other.name}"
    facts = {
        "architecture": (first.architecture, other.architecture),
        "vocabulary": (first.vocabulary, other.vocabulary),
        "tokenizer": (first.tokenizer, other.tokenizer),
        "tied": (first.tied, other.tied),
    }
    words = {"vocabulary": "number of tokens", "tied": "tie of output head and embedding"}
    return [
        Conflict(kind, f"{pair} differ in their {words.get(kind, kind)}: {one!r} and {two!r}")
        for kind, (one, two) in facts.items()
        if one != two and None not in (one, two)
    ]


def _differing_tensors(first: Member, other: Member) -> list[Conflict]:
    conflicts = []
    for one, two in ((first, other), (other, first)):
        if missing := [name for name in one.tensors if name not in two.tensors]:
            text = f"{two.name} lacks {missing[:5]} of {one.name} ({len(missing)} tensors)"
            conflicts.append(Conflict("keys", text))
    for name, kind in first.tensors.items():
        shape = other.tensors[name].shape if name in other.tensors else kind.shape
        if shape != kind.shape:
            text = f"{name!r} has shape {kind.shape} in {first.name}, {shape} in {other.name}"
            conflicts.append(Conflict("shape", text))
    return conflicts


def _untrainable(members: Sequence[Member]) -> list[Conflict]:
    conflicts = []
    for member in members:
        odd = [name for name, kind in member.tensors.items() if not _may_be_merged(kind)]
        if odd:
            kinds = sorted({member.tensors[name].dtype for name in odd})
            text = f"{member.name} holds {odd[:5]} of type {kinds}: convert it to a float type"
            conflicts.append(Conflict("type", f"{text} ({len(odd)} tensors)"))
    return conflicts


def _may_be_merged(kind: TensorType) -> bool:
    """Floats; and scalars of counters, which batch norms have."""
    return kind.is_float or (kind.dtype == "int64" and kind.size == 1)


def open_collection(paths: Sequence[Path | str], base: Path | str | None = None) -> ModelCollection:
    """Open checkpoints, adapters and pools of them.

    Args:
        paths: folders of checkpoints or adapters, safetensors files, pools (folders whose
            sub-folders are checkpoints or adapters), or model repositories of the Hub, such as
            "org/name" and "hf://org/name@revision".
        base: the checkpoint that the others were trained from; adapters without it take the one
            that they name, if it is a local path.

    Raises:
        MergeError: if a path holds no checkpoint, or an adapter's base is not known.
        ZooError: if a checkpoint is damaged.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> from weightzoo.loaders.collections import open_collection
        >>> files = [tempfile.mkdtemp() + "/model.safetensors" for _ in range(2)]
        >>> for number, file in enumerate(files):
        ...     save_file({"up.weight": torch.full((2,), float(number))}, file)
        >>> [values.tolist() for values in open_collection(files).read("up.weight")]
        [[0.0, 0.0], [1.0, 1.0]]
    """
    root = None if base is None else _base_member(base)
    found = [single for path in paths for single in _found(path)]
    return ModelCollection([_member(one, root) for one in found], root)


def _base_member(path: Path | str) -> FolderMember:
    (found,) = _found(path) if is_hub_model(path) else [open_checkpoint_folder(path)]
    if not isinstance(found, CheckpointFolder):
        raise MergeError(f"base {path} is an adapter: give the checkpoint that it was trained on")
    return FolderMember(found)


def _found(path: Path | str) -> list[Path] | list[CheckpointFolder] | list[CheckpointFolder | Path]:
    """What lies at a path or an address of the Hub: open checkpoints, or folders."""
    return [fetch_checkpoint(str(path))] if is_hub_model(path) else _singles(Path(path))


def _singles(path: Path) -> list[Path]:
    """The checkpoints and adapters at a path."""
    if is_adapter(path) or is_checkpoint(path):
        return [path]
    inner = sorted(path.iterdir()) if path.is_dir() else []
    found = [
        entry for entry in inner if entry.is_dir() and (is_adapter(entry) or is_checkpoint(entry))
    ]
    if not found:
        raise MergeError(
            f"{path} holds no safetensors checkpoint, no LoRA adapter and no folder of these"
        )
    return found


def _member(path: Path | CheckpointFolder, base: FolderMember | None) -> Member:
    if isinstance(path, CheckpointFolder):
        return FolderMember(path)
    if not is_adapter(path):
        return FolderMember(open_checkpoint_folder(path))
    adapter = open_adapter(path)
    if base is None and Path(adapter.base).exists() and adapter.base:
        base = FolderMember(open_checkpoint_folder(adapter.base))
    if base is None:
        raise MergeError(
            f"adapter {path} was trained on {adapter.base!r}, which is not here: give that "
            "checkpoint's folder as the base"
        )
    return AdapterMember(adapter, base)
