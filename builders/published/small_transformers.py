"""The Small Transformer Zoo of Tran et al. 2025 (arXiv 2410.04209): MNIST and AG-News classifiers.

An archive holds `metadata/<task>.csv` and a folder `<task>/` of state dicts named
`<run>_<epoch>_<accuracy>.pt`. A line of the table describes one checkpoint: `ckpt_file` names the
file, `ckpt_epoch` is a number or "best". The best checkpoint of a run has an unknown epoch and the
value "best" in the column `checkpoint`. Networks of AG-News share a frozen embedding, which lies
beside them and is no part of them. The attention has no residual connections, so no architecture
of weightzoo describes the networks: their tensors keep the published names.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...zoos.errors import BuildError
from ..checkpoints.unreadable import UnreadableFileError, shown
from ..importing.models import (
    UNKNOWN_EPOCH,
    UNKNOWN_SEED,
    FoundModel,
    Reader,
    Remark,
    Scan,
    check_cells,
    parse_cell,
    read_metrics,
    sort_config,
    whole,
)

_TABLE = re.compile(r"(?:.*/)?metadata/([\w-]+)\.csv")
_FILE = re.compile(r"(?P<run>.+)_[^_/]+_[0-9]+\.pt")
_RENAMED = {"test_top1_accuracy": "test_accuracy", "w_init_std": "init_std"}
_OWN = ("ckpt_file", "ckpt_epoch", "seed", "test_accuracy")
_SHARED = "embedding.pt"  # frozen embedding of AG-News

Line = dict[str, Any]


class SmallTransformerReader(Reader):
    """Reads the tables and state dicts of both tasks."""

    def scan(self) -> Scan:
        """Match the lines of the tables with the files; checkpoints of one run are one model.

        Raises:
            BuildError: if there is no table, or a table lacks the columns ckpt_file and ckpt_epoch.
        """
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        tables = {name: m[1] for name in self.source.names if (m := _TABLE.fullmatch(name))}
        if not tables:
            raise BuildError(f"{self.source.path} holds no metadata/<task>.csv")
        files = {
            "/".join(name.split("/")[-2:]): name
            for name in self.source.names
            if name.endswith(".pt") and not name.endswith(_SHARED)
        }
        runs: dict[str, list[Line]] = {}
        for name, task in tables.items():
            for line in self._lines(name, scan):
                key = f"{task}/{str(line['ckpt_file']).rpartition('/')[2]}"
                with scan.refusing(key):
                    _add(runs, line | {"task": task}, key, files)
        scan.refused += [Remark(key, "weights without a line in the table") for key in files]
        for run, lines in sorted(runs.items()):
            with scan.refusing(run):
                scan.models.append(_model(run, lines, scan))
        return scan

    def _lines(self, name: str, scan: Scan) -> Iterator[Line]:
        text = self.source.read(name).decode("utf-8-sig", "replace")
        rows = csv.DictReader(io.StringIO(text))
        if not {"ckpt_file", "ckpt_epoch"} <= set(rows.fieldnames or ()):
            raise BuildError(
                f"{self.source.path}: {name} needs the columns ckpt_file and ckpt_epoch, it has "
                f"{shown(list(rows.fieldnames or ()))}"
            )
        for cells in rows:
            with scan.refusing(f"{name}, line {rows.line_num}"):
                check_cells(cells)
                yield {_RENAMED.get(key, key): _value(key, cell) for key, cell in cells.items()}


def _value(key: str, cell: str | None) -> Any:
    return cell if key == "ckpt_file" else parse_cell(cell)


def _add(runs: dict[str, list[Line]], line: Line, key: str, files: dict[str, str]) -> None:
    """Add a checkpoint to its run, and take its file from the list."""
    match = _FILE.fullmatch(key)
    if match is None:
        raise UnreadableFileError("its name is not <run>_<epoch>_<accuracy>.pt")
    if key not in files:
        raise UnreadableFileError("a line in the table without weights")
    epoch = whole(line["ckpt_epoch"], UNKNOWN_EPOCH)
    runs.setdefault(match["run"], []).append(line | {"file": files.pop(key), "epoch": epoch})


def _model(name: str, lines: list[Line], scan: Scan) -> FoundModel:
    kept = scan.one_per_epoch(name, lines)
    metrics, diverged = read_metrics(kept)
    config: Mapping[str, Any] = {
        key: value for key, value in kept[0].items() if key not in (*_OWN, "file", "epoch")
    }
    hyper_parameters, rest = sort_config(config)
    return FoundModel(
        name=name,
        locations=[line["file"] for line in kept],
        epochs=np.array([line["epoch"] for line in kept]),
        metrics=metrics,
        hyper_parameters=hyper_parameters,
        properties=rest | {"checkpoint": [str(line["ckpt_epoch"]) for line in kept]},
        seed=whole(kept[0].get("seed"), UNKNOWN_SEED),
        diverged=diverged,
    )
