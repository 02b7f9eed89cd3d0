"""What a checkpoint folder is: config, index, shards and tokenizer in the Hugging Face layout.

A folder holds `config.json`, either one `.safetensors` file or shards with an index, and the files
of a tokenizer. A single `.safetensors` file is a checkpoint without config and tokenizer.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ZooFormatError, ZooNotFoundError
from ..strict_json import json_text
from .lazy import ByteSource, TensorType
from .safetensors_file import SafetensorsFile

CONFIG_NAME, INDEX_NAME = "config.json", "model.safetensors.index.json"
WEIGHTS_NAME = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")
SIDE_FILES = (
    CONFIG_NAME,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    *TOKENIZER_FILES,
)


@dataclass(frozen=True)
class CheckpointFolder:
    """An open checkpoint.

    Attributes:
        path: the folder, or the file.
        homes: the file that holds each tensor, by name.
        config: what `config.json` says; empty without one.
        tokenizer: "sha256:..." of vocabulary and merges; None without a tokenizer.
        address: address of the tensors; "" for those of the folder.
    """

    path: Path
    homes: Mapping[str, SafetensorsFile]
    config: Mapping[str, Any]
    tokenizer: str | None
    address: str = ""

    @property
    def name(self) -> str:
        """Address or path, for messages."""
        return self.address or str(self.path)

    @property
    def tensors(self) -> dict[str, TensorType]:
        """Type and shape of every tensor, in the order of names."""
        return {name: file.tensors[name].type for name, file in self.homes.items()}

    @property
    def tied(self) -> bool | None:
        """Whether the output head shares the memory of the token embedding; None if unsaid."""
        tied = self.config.get("tie_word_embeddings")
        return None if tied is None else bool(tied)

    @property
    def vocabulary(self) -> int | None:
        """Number of tokens that the config names."""
        size = self.config.get("vocab_size")
        return size if isinstance(size, int) else None

    def read(self, name: str) -> Tensor:
        """Copy a tensor out of its file, in its own type."""
        return self.homes[name].read(name)

    def block(self, name: str, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Copy some values of a flattened tensor, see `SafetensorsFile.block`.

        Args:
            name: tensor name.
            start: first value of the block.
            stop: end of the block, exclusive.
            out: buffer (stop - start,) to write to; None allocates one.
        """
        return self.homes[name].block(name, start, stop, out)

    def mapped(self, name: str) -> Tensor:
        """A tensor in the mapped file, see `SafetensorsFile.mapped`."""
        return self.homes[name].mapped(name)

    def side_files(self) -> list[Path]:
        """Config and tokenizer files, which a merged folder takes over."""
        folder = self.path if self.path.is_dir() else None
        return [folder / name for name in SIDE_FILES if (folder / name).is_file()] if folder else []


def is_checkpoint(path: Path) -> bool:
    """Whether a file or folder looks like a safetensors checkpoint."""
    if path.is_file():
        return path.suffix == ".safetensors"
    return path.is_dir() and any(
        not file.name.startswith("adapter_") for file in path.glob("*.safetensors*")
    )


def open_checkpoint_folder(path: Path | str) -> CheckpointFolder:
    """Open a checkpoint and check its index and the headers of all shards; no tensor is read.

    Raises:
        ZooNotFoundError: if there is no checkpoint at the path, or a shard is missing.
        ZooFormatError: if a header is damaged, or index and shards contradict each other.
    """
    path = Path(path)
    if path.is_file():
        return CheckpointFolder(path, _homes([SafetensorsFile(path)]), {}, None)
    if not path.is_dir():
        raise ZooNotFoundError(f"no checkpoint at {path}: give a folder with safetensors files")
    files = {file.name: file for file in sorted(path.glob("*.safetensors")) if file.is_file()}
    return _opened(path, files)


def open_remote_checkpoint(
    folder: Path, sources: Mapping[str, ByteSource], address: str
) -> CheckpointFolder:
    """Open a checkpoint whose tensors lie elsewhere than its small files.

    Args:
        folder: folder with config, index and tokenizer.
        sources: safetensors files by name.
        address: address of the checkpoint, for messages.

    Raises:
        ZooNotFoundError: if there is no safetensors file, or a shard is missing.
        ZooFormatError: if a header is damaged, or index and shards contradict each other.
    """
    return _opened(folder, sources, address)


def _opened(
    folder: Path, sources: Mapping[str, ByteSource | Path], address: str = ""
) -> CheckpointFolder:
    index = folder / INDEX_NAME
    place = address or str(folder)
    homes = (
        _indexed(index, sources, place) if index.is_file() else _homes([_only_file(sources, place)])
    )
    config, tokenizer = read_json(folder / CONFIG_NAME), tokenizer_digest(folder)
    return CheckpointFolder(folder, homes, config, tokenizer, address)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no file.

    Raises:
        ZooFormatError: if it holds anything else.
    """
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ZooFormatError(f"{path} is no JSON ({error}): copy it again") from error
    if not isinstance(data, dict):
        raise ZooFormatError(f"{path} must hold a JSON object, got {type(data).__name__}")
    return data


def tokenizer_digest(folder: Path) -> str | None:
    """Digest of vocabulary, merges and added tokens, which determine token numbers.

    Chat templates and other settings are left out: they change no row of the embedding.
    """
    parts = []
    whole = read_json(folder / "tokenizer.json")
    if whole:
        kept = {key: whole.get(key) for key in ("model", "added_tokens")}
        parts.append(json_text(kept, sort_keys=True).encode())
    else:
        files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        parts += [file.name.encode() + b"\0" + file.read_bytes() for file in files]
    return f"sha256:{hashlib.sha256(b''.join(parts)).hexdigest()}" if parts else None


def _only_file(sources: Mapping[str, ByteSource | Path], place: str) -> SafetensorsFile:
    names = [name for name in sources if not name.startswith("adapter_")]
    if WEIGHTS_NAME in names:
        names = [WEIGHTS_NAME]
    if len(names) != 1:
        raise ZooNotFoundError(
            f"{place} holds {len(names)} safetensors files {names} and no {INDEX_NAME}: a "
            "checkpoint has one file, or shards and an index"
        )
    return SafetensorsFile(sources[names[0]])


def _indexed(
    index: Path, sources: Mapping[str, ByteSource | Path], place: str
) -> dict[str, SafetensorsFile]:
    """The homes of all tensors by an index, which must name exactly what the shards hold."""
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ZooFormatError(f"{index} has no 'weight_map': copy the checkpoint again")
    names = sorted(set(map(str, listed.values())))
    if outside := [name for name in names if Path(name).name != name]:
        raise ZooFormatError(f"{index} names files outside its folder: {outside}")
    if missing := [name for name in names if name not in sources]:
        raise ZooNotFoundError(f"{place} lacks the shards {missing}: copy them again")
    homes = _homes([SafetensorsFile(sources[name]) for name in names])
    actual = {name: Path(file.source.name).name for name, file in homes.items()}
    if odd := sorted(name for name in {*listed, *actual} if listed.get(name) != actual.get(name)):
        raise ZooFormatError(f"{index} and the shards differ in {odd[:5]} ({len(odd)} tensors)")
    return homes


def _homes(files: list[SafetensorsFile]) -> dict[str, SafetensorsFile]:
    homes = dict[str, SafetensorsFile]()
    for file in files:
        if twice := sorted(homes.keys() & file.tensors.keys()):
            raise ZooFormatError(f"{file.source.name} holds {twice[0]!r} a second time")
        homes |= dict.fromkeys(file.tensors, file)
    return dict(sorted(homes.items()))
