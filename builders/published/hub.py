"""Models of the Hugging Face Hub: weights in safetensors, or in .bin where there are none.

The source is a text file with one repository or local snapshot per line (`#` starts a comment;
`org/name@revision` pins a branch, tag or commit), or a folder of local snapshots. Several
revisions of one repository are checkpoints of one model: their epochs are the numbers in the
revisions' names, or else the order of the lines.

The files to read are chosen from the list of a repository's files, before one is fetched:

1. Weights in the top folder. Without any, each folder `checkpoint-N` is the checkpoint of epoch N.
   Without these, and with `model_index.json` (the layout of diffusers), all components are
   read, and a tensor's name starts with the name of its component.
2. Within a folder the first of these names: `model`, `pytorch_model`, `diffusion_pytorch_model`,
   `adapter_model`, `pytorch_lora_weights`, `consolidated`; else the only name that there is.
3. Of that name the file without variant; a variant such as `model.fp16` only if there is no other.
4. Safetensors before .bin; all shards of the chosen name.

`config.json` and `adapter_config.json` give columns, and the model card (`README.md`) gives the
column `licence`. The columns `revision` and `commit` name what was read.
"""

import glob
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import BuildError
from ..checkpoints.archives import Source, open_source
from ..checkpoints.opening import open_checkpoint
from ..checkpoints.unreadable import UnreadableFileError, is_machine_error, reading, shown
from ..importing.model_texts import NO_LICENCE, adapter_columns, card_licence, common_licence
from ..importing.models import UNKNOWN_EPOCH, FoundModel, OpenState, Reader, Remark, Scan
from ..importing.shards import join_shards, open_together

NAMES = (
    "model",
    "pytorch_model",
    "diffusion_pytorch_model",
    "adapter_model",
    "pytorch_lora_weights",
    "consolidated",
)
TEXTS = ("config.json", "adapter_config.json", "model_index.json", "README.md")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHECKPOINT = re.compile(r"(?:.*/)?checkpoint[-_]([0-9]{1,18})")
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Choice:
    """Weights of one checkpoint in a repository.

    Attributes:
        files: (file, prefix of its tensors' names), one or several.
        epoch: number of its folder `checkpoint-N`, or `UNKNOWN_EPOCH`.
    """

    files: tuple[tuple[str, str], ...]
    epoch: int = UNKNOWN_EPOCH


@dataclass(frozen=True)
class _Snapshot:
    """A repository at one commit, with the chosen files on this machine."""

    source: Source
    revision: str
    commit: str


@dataclass(frozen=True)
class _Location:
    source: Source
    choice: Choice


def choose_weights(names: Sequence[str]) -> list[Choice]:
    """Choose the files that hold a model's weights, from the names of all files of a repository.

    Args:
        names: names of the files, with slashes.

    Returns:
        One checkpoint, or one for each folder `checkpoint-N`.

    Raises:
        UnreadableFileError: if there are no weights, or several of equal rank.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    if top := _in_folder(folders.get("", [])):
        return [Choice(tuple((file, "") for file in top))]
    runs = [(int(m[1]), f) for f in folders if (m := _CHECKPOINT.fullmatch(f))]
    found = [(epoch, _in_folder(folders[folder])) for epoch, folder in sorted(runs)]
    if choices := [Choice(tuple((f, "") for f in files), epoch) for epoch, files in found if files]:
        return choices
    if "model_index.json" in names:
        parts = {folder: _in_folder(files) for folder, files in folders.items() if folder}
        if files := [(f, f"{folder}.") for folder in sorted(parts) for f in parts[folder]]:
            return [Choice(tuple(files))]
    raise UnreadableFileError("holds no safetensors file, and no .bin file of a usual name")


def _in_folder(files: Sequence[str]) -> tuple[str, ...]:
    """The files with the weights of one folder; () if it has none."""
    for ending in (".safetensors", ".bin"):
        whole, refused = join_shards(file for file in files if file.endswith(ending))
        ranks: dict[tuple[int, bool], list[str]] = {}
        for name in (*whole, *refused):
            base, dot, variant = name.rpartition("/")[2].removesuffix(ending).partition(".")
            rank = NAMES.index(base) if base in NAMES else len(NAMES)
            if ending == ".safetensors" or base in NAMES:  # others are training_args.bin and such
                is_variant = bool(dot) and not (base == "consolidated" and variant.isdecimal())
                ranks.setdefault((rank, is_variant), []).append(name)
        if not ranks:
            continue
        best = ranks[min(ranks)]
        if len(best) > 1:
            raise UnreadableFileError(
                f"holds several weights of equal rank: {shown(sorted(best))}; rename one to "
                f"model{ending}, or leave out the others"
            )
        if best[0] in refused:
            raise UnreadableFileError(f"{best[0]} {refused[best[0]]}")
        return whole[best[0]]
    return ()


class HubReader(Reader):
    """Reads repositories of models; those that are not local are downloaded first."""

    def scan(self) -> Scan:
        """Download missing repositories; all revisions of a repository are one model."""
        scan = Scan()
        found: dict[str, list[_Snapshot]] = {}
        for line, name, folder in self._entries():
            with scan.refusing(line):
                snapshot = _snapshot(line, folder)
                found.setdefault(name, []).append(snapshot)
        for name, snapshots in sorted(found.items()):
            with scan.refusing(name):
                scan.models.append(_model(name, snapshots, scan))
        scan.licence = common_licence({str(one.properties["licence"]) for one in scan.models})
        return scan

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open the tensors of all files of a checkpoint.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.

        Raises:
            UnreadableFileError: if a tensor is in two files.
        """
        location = model.locations[row]
        prefixes = dict(location.choice.files)
        files = {name: open_checkpoint(location.source.open(name), name) for name in prefixes}
        return open_together(files, prefixes)

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Size of all files of a checkpoint, in bytes.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        location = model.locations[row]
        return sum(location.source.size(file) for file, _ in location.choice.files)

    def _entries(self) -> Iterator[tuple[str, str, Path | None]]:
        """(line, model name, folder of a local snapshot or None) of every line."""
        path = self.source.path
        if path.is_dir():
            yield from ((e.name, e.name, e) for e in sorted(path.iterdir()) if e.is_dir())
            return
        for line in dict.fromkeys(self._lines()):
            local = path.parent / line
            if local.is_dir():
                yield line, local.name, local
            else:
                yield line, line.partition("@")[0], None

    def _lines(self) -> Iterator[str]:
        try:
            text = self.source.read(self.source.names[0]).decode()
        except UnicodeDecodeError as error:
            raise BuildError(f"{self.source.path} is no list of repositories: {error}") from error
        for line in text.splitlines():
            if line := line.partition("#")[0].strip():
                yield line


def _snapshot(line: str, folder: Path | None) -> _Snapshot:
    """The files of one line of the list, fetched if they are not local."""
    revision = line.partition("@")[2] if folder is None else ""
    folder = folder or _fetch(line)
    commit = folder.name if _COMMIT.fullmatch(folder.name) else ""
    source = open_source(folder, folder, follow_links=True)  # the Hub's cache consists of links
    return _Snapshot(source, revision or ("main" if commit else ""), commit)


def _model(name: str, snapshots: Sequence[_Snapshot], scan: Scan) -> FoundModel:
    rows: list[tuple[int, _Snapshot, Choice]] = []
    numbers = _numbers([one.revision for one in snapshots])
    for number, snapshot in zip(numbers, snapshots, strict=True):
        try:
            with reading():
                choices = choose_weights(snapshot.source.names)
        except UnreadableFileError as error:
            if len(snapshots) == 1:
                raise
            scan.refused.append(Remark(name, f"revision {snapshot.revision}: {error}"))
            continue
        if len(snapshots) == 1:
            rows += [(choice.epoch, snapshot, choice) for choice in choices]
        else:  # the last checkpoint of each revision
            rows.append((number, snapshot, choices[-1]))
    rows.sort(key=lambda row: row[0])
    if not rows:
        raise UnreadableFileError("none of its revisions holds weights")
    return FoundModel(
        name=name,
        locations=[_Location(snapshot.source, choice) for _, snapshot, choice in rows],
        epochs=np.array([epoch for epoch, _, _ in rows]),
        properties=_texts(name, rows[-1][1].source, scan)
        | {
            "revision": [snapshot.revision for _, snapshot, _ in rows],
            "commit": [snapshot.commit for _, snapshot, _ in rows],
        },
    )


def _numbers(revisions: Sequence[str]) -> list[int]:
    """Epochs of revisions: the last number of each name if all differ, else their order."""
    found = [
        [] if _COMMIT.fullmatch(revision) else _NUMBER.findall(revision) for revision in revisions
    ]
    last = [int(numbers[-1]) for numbers in found if numbers]
    distinct = len(last) == len(revisions) and max(Counter(last).values()) == 1
    return last if distinct else list(range(len(revisions)))


def _fetch(line: str) -> Path:
    """The local snapshot of a repository of the Hub, with the chosen files only."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    if not _REPOSITORY.fullmatch(line):
        raise UnreadableFileError("neither a local folder nor a repository such as org/name")
    repository, _, revision = line.partition("@")
    try:
        try:
            info = HfApi().model_info(repository, revision=revision or None)
        except OfflineModeIsEnabled:
            return Path(snapshot_download(repository, revision=revision or None))
        names = [file.rfilename for file in info.siblings or []]
        wanted = [file for choice in choose_weights(names) for file, _ in choice.files]
        wanted += [name for name in names if name.rpartition("/")[2] in TEXTS]
        patterns = [glob.escape(name) for name in wanted]
        return Path(snapshot_download(repository, revision=info.sha, allow_patterns=patterns))
    except UnreadableFileError:
        raise
    except Exception as error:  # the client raises errors of several libraries
        if is_machine_error(error):
            raise
        raise UnreadableFileError(f"cannot be fetched: {error}") from error


def _texts(name: str, source: Source, scan: Scan) -> dict[str, Any]:
    """Columns from the configs and the model card of a repository."""
    found: dict[str, Any] = {"licence": NO_LICENCE}
    for file, read in (("config.json", _config), ("adapter_config.json", adapter_columns)):
        text = next((n for n in sorted(source.names, key=len) if n.rpartition("/")[2] == file), "")
        try:
            with reading():
                found |= read(json.loads(source.read(text))) if text else {}
        except UnreadableFileError as error:
            scan.remarks.append(Remark(name, f"{file}: {error}"))
    if "README.md" in source:
        found["licence"] = card_licence(source.read("README.md"))
    return found


def _config(config: Any) -> dict[str, Any]:
    names = config.get("architectures") or [None]
    return {"model_type": config.get("model_type"), "architecture": names[0]}
