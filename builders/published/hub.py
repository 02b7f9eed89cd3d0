"""Models of the Hugging Face Hub, one repository each, with weights in safetensors.

The source is a text file with one repository or local snapshot per line (`#` starts a comment;
`org/name@revision` pins a revision), or a folder of local snapshots. Weights in several files are
combined. `config.json` gives the columns `model_type` and `architecture`; epochs are unknown.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import BuildError
from ..checkpoints.archives import Source, open_source
from ..checkpoints.opening import natural_order, open_checkpoint
from ..checkpoints.tensors import Checkpoint, Leaf
from ..checkpoints.unreadable import UnreadableFileError, reading
from ..importing.models import UNKNOWN_EPOCH, FoundModel, OpenState, Reader, Remark, Scan

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_PATTERNS = ["*.safetensors", "config.json"]


class HubReader(Reader):
    """Reads repositories of safetensors; repositories that are not local are downloaded first."""

    def __init__(self, source: Source) -> None:
        """Read from `source`."""
        super().__init__(source)
        self._snapshots: dict[str, Source] = {}

    def scan(self) -> Scan:
        """Download missing repositories and take every repository as a model."""
        scan = Scan()
        for name, folder in sorted(self._folders(scan).items()):
            with scan.refusing(name):
                self._take(name, folder, scan)
        return scan

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open the tensors of all files of a repository.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.

        Raises:
            UnreadableFileError: if a tensor is in two files.
        """
        snapshot = self._snapshots[model.name]
        tensors: dict[str, Leaf] = {}
        owners: dict[str, Checkpoint] = {}
        for file in model.locations[row]:
            checkpoint = open_checkpoint(snapshot.open(file), file)
            if twice := sorted(set(checkpoint.root) & set(tensors)):
                raise UnreadableFileError(f"tensors {twice[:3]} are in two files")
            tensors |= checkpoint.root
            owners |= dict.fromkeys(checkpoint.root, checkpoint)
        in_order = {name: tensors[name] for name in sorted(tensors, key=natural_order)}
        return OpenState(in_order, lambda leaf: owners[leaf.storage].read(leaf))  # type: ignore[union-attr]

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Size of all files of a repository, in bytes.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        return sum(self._snapshots[model.name].size(file) for file in model.locations[row])

    def _take(self, name: str, folder: Path, scan: Scan) -> None:
        """Add one repository to the models found."""
        snapshot = open_source(
            folder, folder, follow_links=True
        )  # the Hub's cache consists of links
        files = [file for file in snapshot.names if file.endswith(".safetensors")]
        if not files:
            raise UnreadableFileError("holds no safetensors file")
        self._snapshots[name] = snapshot
        try:
            with reading():
                properties = _properties(snapshot)
        except UnreadableFileError as error:
            properties = {}
            scan.remarks.append(Remark(name, f"config.json: {error}"))
        epochs = np.array([UNKNOWN_EPOCH])
        scan.models.append(FoundModel(name, [files], epochs, properties=properties))

    def _folders(self, scan: Scan) -> dict[str, Path]:
        """Local folder by model name."""
        path = self.source.path
        if path.is_dir():
            return {entry.name: entry for entry in path.iterdir() if entry.is_dir()}
        found: dict[str, Path] = {}
        for line in self._lines():
            local = path.parent / line
            try:
                folder = local if local.is_dir() else _fetch(line)
            except UnreadableFileError as error:
                scan.refused.append(Remark(line, str(error)))
                continue
            found[line.partition("@")[0] if not local.is_dir() else local.name] = folder
        return found

    def _lines(self) -> Iterator[str]:
        try:
            text = self.source.read(self.source.names[0]).decode()
        except UnicodeDecodeError as error:
            raise BuildError(f"{self.source.path} is no list of repositories: {error}") from error
        for line in text.splitlines():
            if line := line.partition("#")[0].strip():
                yield line


def _fetch(line: str) -> Path:
    """The local snapshot of a repository of the Hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not _REPOSITORY.fullmatch(line):
        raise UnreadableFileError("neither a local folder nor a repository such as org/name")
    repository, _, revision = line.partition("@")
    try:
        found = snapshot_download(repository, revision=revision or None, allow_patterns=_PATTERNS)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UnreadableFileError(f"cannot be fetched: {error}") from error
    return Path(found)


def _properties(snapshot: Source) -> dict[str, Any]:
    if "config.json" not in snapshot:
        return {}
    config = json.loads(snapshot.read("config.json"))
    names = config.get("architectures") or [None]
    return {"model_type": config.get("model_type"), "architecture": names[0]}
