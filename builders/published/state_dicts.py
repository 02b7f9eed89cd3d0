"""Any folder of state dicts with a CSV or JSONL table of properties.

Files end in .pt, .pth, .bin, .ckpt (of torch or Lightning), .safetensors or .npz. Shards named
`<name>-00001-of-00003.<ending>` are one checkpoint. Other kinds of weights are listed as refused.

The table has one line per model or per checkpoint. The first existing column of these identifies
it: file, path, checkpoint, model_name, name. It contains a path (with or without suffix), a file
name, or a folder of checkpoints. Columns `model_name`, `epoch`, `seed` and `split` have the meaning
of a zoo's columns; hyper-parameters and metrics are recognised by name; other columns are kept.

Checkpoints of one run are one model, so that no run is in two splits: `run1/epoch_5.pt` and
`run1/epoch_9.pt`, `net3_epoch5.pt` and `net3_epoch9.pt`, or names that differ only in the epoch
of the table; also `run1/checkpoint-5/model.safetensors`, where the folder has the epoch. A name
denotes a run only if several files of different epochs have it.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...zoos.errors import BuildError
from ...zoos.format import SPLITS
from ..checkpoints.opening import find_state_dict
from ..checkpoints.unreadable import UnreadableFileError, reading, shown
from ..importing.models import (
    UNKNOWN_EPOCH,
    UNKNOWN_SEED,
    FoundModel,
    OpenState,
    Reader,
    Remark,
    Scan,
    check_cells,
    hyper_parameter_name,
    metric_name,
    parse_cell,
    read_metrics,
    sort_config,
    whole,
)
from ..importing.shards import join_shards, open_together

KEYS = ("file", "path", "checkpoint", "model_name", "name")
WEIGHT_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".npz")
OTHER_ENDINGS = (".h5", ".hdf5", ".keras", ".pb", ".onnx", ".tflite", ".gguf", ".msgpack", ".pkl")
_GENERIC = (
    "pytorch_model",
    "model",
    "adapter_model",
    "pytorch_lora_weights",
    "checkpoint",
    "checkpoints",
    "weights",
    "state_dict",
)
_EPOCH = re.compile(r"(?:epoch|checkpoint|(?<![a-z])(?:ep|step))[-_=]?([0-9]+)", re.IGNORECASE)
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_PARTS = "files of the checkpoint"
_OWN = ("model_name", "epoch", "seed", "split", _PARTS)

TableRow = dict[str, Any]


class StateDictReader(Reader):
    """Reads one state dict per file or group of shards, with any tensor names."""

    stubs = ("pytorch_lightning", "lightning", "lightning_fabric")

    def scan(self) -> Scan:
        """Match the files with the lines of the table."""
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        files, lacking = join_shards(n for n in self.source.names if n.endswith(WEIGHT_ENDINGS))
        scan.refused += [Remark(_stem(name), reason) for name, reason in lacking.items()]
        scan.refused += [
            Remark(name, f"weights in .{name.rpartition('.')[2]} files are not read")
            for name in self.source.names
            if name.endswith(OTHER_ENDINGS)
        ]
        table = self._table(scan)
        if not table:
            scan.notes.append("no table of properties: models have names only")
        rows, used = _index(table), set[int]()
        kept: list[TableRow] = []
        for file in files:
            found = next((rows[key] for key in _keys(file) if key in rows), None)
            if table and found is None:
                scan.refused.append(Remark(file, "weights without a line in the table"))
                continue
            row = {} if found is None else table[found]
            used |= set() if found is None else {found}
            epoch = whole(row.get("epoch"), _epoch_in(file))
            kept.append(row | {"file": file, "epoch": epoch, _PARTS: files[file]})
        for name, members in sorted(_by_model(kept, self.source.path.stem).items()):
            with scan.refusing(name):
                scan.models.append(_model(name, members, scan))
        for number, row in enumerate(table):
            if number not in used:
                scan.refused.append(Remark(_key(row), "a line in the table without weights"))
        return scan

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open the tensors of one file, or of all its shards.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        files = model.locations[row]
        if len(files) > 1:
            return open_together({file: self.open_file(file) for file in files})
        checkpoint = self.open_file(files[0])
        return OpenState(find_state_dict(checkpoint.root), checkpoint.read)

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Size of the files of a checkpoint, in bytes.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        return sum(self.source.size(file) for file in model.locations[row])

    def _table(self, scan: Scan) -> list[TableRow]:
        """All lines of the table; empty without a table.

        Raises:
            BuildError: if there are several tables, or the table is damaged.
        """
        names = [name for name in self.source.names if name.endswith((".csv", ".jsonl"))]
        if len(names) > 1:
            raise BuildError(f"{self.source.path} holds several tables of properties: {names}")
        if not names:
            return []
        try:
            with reading():
                text = self.source.read(names[0]).decode("utf-8-sig")
                rows = list(_parse(text, names[0], scan))
                _check_keys(rows)
        except UnreadableFileError as error:
            raise BuildError(f"{self.source.path}: {names[0]} cannot be used: {error}") from error
        return rows


def _parse(text: str, name: str, scan: Scan) -> Iterator[TableRow]:
    if name.endswith(".csv"):
        lines = csv.DictReader(io.StringIO(text))
        for cells in lines:
            with scan.refusing(f"{name}, line {lines.line_num}"):
                check_cells(cells)
                yield {str(key): _cell(str(key), cell) for key, cell in cells.items()}
        return
    for line in filter(str.strip, text.splitlines()):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"{shown(row)} is no JSON object")
        yield row


def _cell(column: str, cell: str | None) -> Any:
    """Value of a cell; names of models and files stay text, such as 0001."""
    return (cell or None) if column in (*KEYS, "model_name") else parse_cell(cell)


def _check_keys(rows: Sequence[TableRow]) -> None:
    """Reject a table whose lines do not say what they describe."""
    for number, row in enumerate(rows, start=1):
        if not any(row.get(key) is not None for key in KEYS):
            where = f"line {number}" if set(KEYS) & set(row) else "the table"
            raise UnreadableFileError(
                f"{where} has no column that names a file or model: one of {list(KEYS)} is "
                f"needed, it has {shown(list(row))}"
            )


def _key(row: Mapping[str, Any]) -> str:
    """Name of the model or file that a line describes."""
    return str(next(row[key] for key in KEYS if row.get(key) is not None))


def _index(table: list[TableRow]) -> dict[tuple[str, int | None], int]:
    """Number of a line by the described name, and its epoch if it has one."""
    rows: dict[tuple[str, int | None], int] = {}
    for number, row in enumerate(table):
        epoch = whole(row.get("epoch"), UNKNOWN_EPOCH)
        rows.setdefault((_key(row), None if epoch == UNKNOWN_EPOCH else epoch), number)
        if row.get("file") or row.get("path") or row.get("checkpoint"):
            rows.setdefault((_key(row), None), number)
    counts = Counter(map(_key, table))
    for number, row in enumerate(table):
        if counts[_key(row)] == 1:  # a single line describes it, with any epoch
            rows.setdefault((_key(row), None), number)
    return rows


def _keys(file: str) -> Iterator[tuple[str, int | None]]:
    """All keys by which a line can name a file, the most specific first."""
    last, folder = file.rpartition("/")[2], file.rpartition("/")[0]
    for name in (file, _stem(file), last, _stem(last), folder, folder.rpartition("/")[2]):
        if name:
            yield name, _epoch_in(file)
            yield name, None


def _by_model(rows: list[TableRow], root: str) -> dict[str, list[TableRow]]:
    """Lines by model; `root` names a run that has no name."""
    runs: dict[str, list[TableRow]] = {}
    for row in rows:
        if run := _run_of(row["file"], row["epoch"]):
            runs.setdefault(run, []).append(row)
    alike = Counter(_unnumbered(row["file"]) for row in rows)
    models: dict[str, list[TableRow]] = {}
    for row in rows:
        members = runs.get(run := _run_of(row["file"], row["epoch"]), [])
        series = len({member["epoch"] for member in members}) > 1
        if not _EPOCH.search(
            _label(row["file"]).rpartition("/")[2]
        ):  # numbers that equal the epoch,
            series &= alike[_unnumbered(row["file"])] == len(members)  # in each such name
        name = run.strip("/") or root if series else _stem(row["file"])
        models.setdefault(str(row.get("model_name") or name), []).append(row)
    return models


def _unnumbered(file: str) -> str:
    """A path without its final number."""
    return re.sub(r"[-_.=]?[0-9]+$", "", _stem(file))


def _run_of(file: str, epoch: int) -> str:
    """A path without its epoch; "" if it has no epoch, "/" if nothing else remains."""
    folder, _, last = _label(file).rpartition("/")
    rest = _EPOCH.sub("", last)
    if rest == last and epoch >= 0:
        rest = re.sub(rf"(^|[-_.=])0*{epoch}$", "", last)
    if rest == last:
        return ""
    return "/".join(part for part in (folder, rest.strip("-_.=")) if part) or "/"


def _model(name: str, rows: list[TableRow], scan: Scan) -> FoundModel:
    kept = scan.one_per_epoch(name, rows)
    metrics, diverged = read_metrics(kept)
    first = kept[0]
    hyper_parameters, _ = sort_config({k: v for k, v in first.items() if k not in _OWN})
    extra = {
        key: [row.get(key) for row in kept]
        for key in dict.fromkeys(key for row in kept for key in row)
        if key not in (*KEYS, *_OWN) and not metric_name(key) and not hyper_parameter_name(key)
    }
    split = _split(name, kept, scan)
    return FoundModel(
        name=name,
        locations=[row[_PARTS] for row in kept],
        epochs=np.array([row["epoch"] for row in kept]),
        metrics=metrics,
        hyper_parameters=hyper_parameters,
        properties=extra,
        seed=whole(first.get("seed"), UNKNOWN_SEED),
        split=split,
        diverged=diverged,
    )


def _split(name: str, rows: list[TableRow], scan: Scan) -> str | None:
    """Published split of a model; all checkpoints of a run are in one split."""
    told = dict.fromkeys(row["split"] for row in rows if row.get("split") is not None)
    found = [SPLIT_NAMES.get(str(split).lower(), str(split).lower()) for split in told]
    known = [split for split in found if split in SPLITS]
    if len(known) < len(found):
        reason = f"its split {shown(list(told))} is none of {SPLITS}: it is drawn"
        scan.remarks.append(Remark(name, reason))
    elif len(set(known)) > 1:
        reason = f"its checkpoints are in the splits {known}: all are kept in {known[0]}"
        scan.remarks.append(Remark(name, reason))
    return known[0] if known else None


def _stem(file: str) -> str:
    """A path without its suffix."""
    return next((file.removesuffix(end) for end in WEIGHT_ENDINGS if file.endswith(end)), file)


def _label(file: str) -> str:
    """The part of a path that names run and epoch: the folder, if all runs call the file alike."""
    folder, _, last = _stem(file).rpartition("/")
    return folder if last in _GENERIC and _EPOCH.search(folder.rpartition("/")[2]) else _stem(file)


def _epoch_in(file: str) -> int:
    """The epoch in a file's name, or `UNKNOWN_EPOCH`."""
    match = _EPOCH.search(_label(file).rpartition("/")[2])
    return int(match[1]) if match else UNKNOWN_EPOCH
