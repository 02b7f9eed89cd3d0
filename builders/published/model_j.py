"""One layer of each repository that an index names, fetched from the Hugging Face Hub.

Source: Model-J (Kahana et al. 2025, ProbeX, arXiv 2410.13569): parquet files, by subset and split,
with one line per repository: `hf_model_id` and hyper-parameters. Here an index may be .parquet,
.csv or .jsonl, alone or in a folder; the split is the column `split`, or the file's name, such as
`train-00000-of-00001.parquet`. Other columns are kept.

A network of such an index takes some hundred megabytes, and encoders of single layers read two of
them. So the header of `model.safetensors` is read first, by an HTTP range, and checked; then the
bytes of the named layer alone. Texts of the header's metadata are columns, such as
`dataset_chosen_targets`, the classes a network of Model-J was trained on. The columns `commit` and
`licence` name what was read; the licence is "none stated" where a repository states none.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...zoos.errors import BuildError, ZooFormatError
from ...zoos.hub.byte_ranges import HubBytes
from ...zoos.hub.requests import hub_errors, patiently
from ...zoos.tensors.lazy import LazyTensor
from ...zoos.tensors.safetensors_file import read_header
from ..checkpoints.tensors import NUMPY_TYPES, Checkpoint
from ..checkpoints.unreadable import UnreadableFileError, is_machine_error, reading, shown
from ..importing.model_texts import NO_LICENCE, common_licence
from ..importing.models import (
    UNKNOWN_EPOCH,
    UNKNOWN_SEED,
    FoundModel,
    OpenState,
    Reader,
    Scan,
    check_cells,
    parse_cell,
    sort_config,
    whole,
)
from .state_dicts import SPLIT_NAMES

KEYS = ("hf_model_id", "repository", "model_id", "model_name", "name")
ENDINGS = (".parquet", ".csv", ".jsonl")
FILE_NAME = "model.safetensors"
HEAD_BYTES = 2**16  # read by one request: most headers are shorter
LONGEST_TEXT = 20_000  # of a value in a file's metadata that becomes a column
_OWN = (*KEYS, "split", "seed", "hf_model_url", "hf_model_path")

IndexRow = dict[str, Any]


class _LayerFile(Checkpoint):
    """The tensors of one layer of a remote file; their bytes lie together in most files."""

    def __init__(self, source: HubBytes, tensors: dict[str, LazyTensor]) -> None:
        self.root, self._source = tensors, source

    def _bytes(self, storage: str, start: int, size: int) -> Any:
        with _fetching(self._source.name):
            return self._source.fetch(start, start + size)


class ModelJReader(Reader):
    """Reads one layer of each repository of an index.

    Attributes:
        layer: name of the layer, such as `vit.encoder.layer.10.output.dense`, or of one tensor.
    """

    takes_layer: ClassVar[bool] = True

    def scan(self) -> Scan:
        """Read the index, and the header of every repository's weights.

        Raises:
            BuildError: if no layer is named, or there is no readable index.
        """
        if not self.layer:
            raise BuildError("a layer is needed: give --layer NAME (in Python layer=NAME)")
        scan = Scan()
        for name, row, split in self._rows(scan):
            with scan.refusing(name):
                scan.models.append(self._model(name, row, split))
        scan.licence = common_licence({str(one.properties["licence"]) for one in scan.models})
        scan.notes.append(f"of each network only {self.layer!r} was fetched")
        return scan

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open the tensors of the layer; their bytes are fetched when they are read.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        file: _LayerFile = model.locations[row]
        return OpenState(file.root, file.read)

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Size of the remote file, in bytes.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        return int(model.locations[row]._source.size_bytes)

    def _model(self, name: str, row: IndexRow, split: str | None) -> FoundModel:
        commit, licence = _state(name)
        source = _open(name, commit)
        with _fetching(source.name):
            tensors, metadata = read_header(source)
        source.forget_windows()
        kept = {
            key: tensor
            for key, tensor in sorted(tensors.items())
            if key == self.layer or key.startswith(f"{self.layer}.")
        }
        if not kept:
            near = sorted(key for key in tensors if self.layer.rpartition(".")[2] in key)
            raise UnreadableFileError(
                f"{FILE_NAME} has no layer {self.layer!r}: it has {shown((near or [*tensors])[:3])}"
            )
        if odd := sorted({one.type.dtype for one in kept.values()} - set(NUMPY_TYPES)):
            raise UnreadableFileError(f"{FILE_NAME} holds tensors of type {odd}, which is not read")
        hyper_parameters, rest = sort_config({k: v for k, v in row.items() if k not in _OWN})
        texts = {k: v for k, v in metadata.items() if k != "format" and len(v) <= LONGEST_TEXT}
        return FoundModel(
            name=name,
            locations=[_LayerFile(source, kept)],
            epochs=np.array([UNKNOWN_EPOCH]),
            hyper_parameters=hyper_parameters,
            properties=rest | texts | {"commit": commit, "licence": licence},
            seed=whole(row.get("seed"), UNKNOWN_SEED),
            split=split,
        )

    def _rows(self, scan: Scan) -> Iterator[tuple[str, IndexRow, str | None]]:
        """(repository, line, split) of all lines; a repository that is there twice is refused."""
        files = [name for name in self.source.names if name.endswith(ENDINGS)]
        if not files:
            raise BuildError(f"{self.source.path} holds no index: one of {ENDINGS} is needed")
        seen: set[str] = set()
        for file in files:
            for number, row in enumerate(self._read(file), start=1):
                with scan.refusing(f"{file}, line {number}"):
                    name = str(next((row[key] for key in KEYS if row.get(key)), ""))
                    if name.count("/") != 1:
                        raise UnreadableFileError(
                            f"has no repository such as org/name in one of the columns {KEYS}"
                        )
                    if name in seen:
                        raise UnreadableFileError(f"names {name!r} a second time")
                    seen.add(name)
                    yield name, row, _split(row, file)

    def _read(self, file: str) -> list[IndexRow]:
        data = self.source.read(file)
        try:
            with reading():
                if file.endswith(".parquet"):
                    return _parquet(data)
                text = data.decode("utf-8-sig")
                if file.endswith(".jsonl"):
                    return [dict(json.loads(line)) for line in text.splitlines() if line.strip()]
                rows = list(csv.DictReader(io.StringIO(text)))
                for cells in rows:
                    check_cells(cells)
                return [{k: v if k in KEYS else parse_cell(v) for k, v in r.items()} for r in rows]
        except UnreadableFileError as error:
            where = f"{self.source.path}: the index {file}"
            raise BuildError(f"{where} cannot be read: {error}") from error


def _parquet(data: bytes) -> list[IndexRow]:
    from pyarrow import BufferReader, parquet

    rows: list[IndexRow] = parquet.read_table(BufferReader(data)).to_pylist()
    return rows


def _split(row: Mapping[str, Any], file: str) -> str | None:
    """Split of a line: its column, or the first part of its file's name or folder."""
    parts = [Path(file).name.partition("-")[0].partition(".")[0], *reversed(file.split("/")[:-1])]
    told = [str(row.get("split") or ""), *parts]
    return next((SPLIT_NAMES[p.lower()] for p in told if p.lower() in SPLIT_NAMES), None)


def _state(repository: str) -> tuple[str, str]:
    """(commit, licence) of a repository."""
    from huggingface_hub import HfApi

    with _fetching(repository), hub_errors(repository, "model"):
        info = patiently(partial(HfApi().model_info, repository))
    tags = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    return str(info.sha), tags[0] if tags else NO_LICENCE


def _open(repository: str, commit: str) -> HubBytes:
    from huggingface_hub import HfApi

    get = partial(HfApi().get_paths_info, repository, [FILE_NAME], revision=commit)
    with _fetching(repository), hub_errors(repository, "model"):
        found = patiently(get)
    if not found:
        raise UnreadableFileError(f"{repository} holds no {FILE_NAME}")
    size = int(getattr(found[0], "size", 0))
    return HubBytes(repository, commit, FILE_NAME, size, window_bytes=HEAD_BYTES)


@contextmanager
def _fetching(what: str) -> Iterator[None]:
    """Turn errors of the Hub and of damaged files into the error of one model."""
    try:
        yield
    except UnreadableFileError:
        raise
    except ZooFormatError as error:
        raise UnreadableFileError(str(error)) from error
    except Exception as error:
        if is_machine_error(error):
            raise
        raise UnreadableFileError(f"{what} cannot be fetched: {error}") from error
