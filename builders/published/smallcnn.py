"""The small CNN zoo of Unterthiner et al. 2020 (arXiv 2002.11448).

`weights.npy` holds one flat TensorFlow network per row: the bias precedes the kernel, kernels are
(height, width, in, out), dense kernels (in, out). `layout.csv` gives the position of each
variable, `metrics.csv.gz` has one line per row: config, step (epoch) and metrics. Imported rows are
in torch's layout: weight before bias, (out, in, height, width) and (out, in), `conv1` to `linear1`.
"""

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...zoos.errors import BuildError
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.presets import small_cnn
from ..checkpoints.archives import Source
from ..checkpoints.tensors import Leaf
from ..checkpoints.unreadable import UnreadableFileError, reading
from ..importing.models import (
    UNKNOWN_SEED,
    FoundModel,
    OpenState,
    Reader,
    Remark,
    Scan,
    check_cells,
    parse_cell,
    read_metrics,
    sort_config,
    take_constants,
    unique_names,
    whole,
)

_WEIGHTS = ("weights.npy", "all_weights.npy")
_METRICS = ("metrics.csv.gz", "metrics.csv")
_LOSSES = ("train_loss", "test_loss")


@dataclass(frozen=True)
class Variable:
    """One TensorFlow variable of a row.

    Attributes:
        name: name in weightzoo, such as `conv1.weight`.
        start: index of its first value in the row.
        stop: index behind its last value.
        shape: shape in TensorFlow.
    """

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]

    def read(self, row: np.ndarray) -> np.ndarray:
        """Values in torch's order of dimensions."""
        values = row[self.start : self.stop].reshape(self.shape)
        return values.transpose(_TORCH_ORDER[values.ndim])


_TORCH_ORDER = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # order of dimensions, by their number


class SmallCnnReader(Reader):
    """Reads weights.npy, metrics.csv(.gz) and layout.csv; the weights stay mapped."""

    def __init__(self, source: Source) -> None:
        """Map the weights and read the layout.

        Raises:
            BuildError: if a file is missing, or the files contradict each other.
        """
        super().__init__(source)
        self._side = 32
        try:
            with reading():
                self._rows = self._map()
                text = source.read(self._find("layout.csv")).decode("utf-8-sig")
                self._variables = read_layout(text, self._rows.shape[1])
        except (UnreadableFileError, OSError) as error:
            raise BuildError(f"{source.path}: {error}") from error

    def scan(self) -> Scan:
        """Read the table of metrics, in which each `modeldir` is a model.

        Raises:
            BuildError: if the metrics are damaged, or have another number of rows than the weights.
        """
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        found: dict[str, list[tuple[int, int, dict[str, Any]]]] = {}
        configs: dict[str, dict[str, Any]] = {}
        count = 0
        for count, line in enumerate(self._table(), 1):
            with scan.refusing(f"{self._find(*_METRICS)}, row {count}"):
                check_cells(line)
                name, step, config, metrics = _table_row(line)
                configs.setdefault(name, config)
                found.setdefault(name, []).append((step, count - 1, metrics))
        if count != len(self._rows):
            raise BuildError(
                f"{self.source.path}: {count} rows of metrics for {len(self._rows)} rows of "
                "weights, so they cannot be matched"
            )
        for path, name in sorted(unique_names(sorted(found)).items(), key=lambda item: item[1]):
            with scan.refusing(name):
                scan.models.append(_model(name, found[path], configs[path], scan))
        scan.constants = take_constants(scan.models)
        self._side = 28 if "mnist" in str(scan.constants.get("dataset")) else 32
        return scan

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Size of a row, in bytes.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        return int(self._rows.shape[1]) * self._rows.itemsize

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open the variables of one row, in torch's order.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        values = self._rows[model.locations[row]]
        tensors: dict[str, Leaf] = {v.name: v.read(values) for v in self._variables}
        return OpenState(tensors, np.asarray)

    def _table(self) -> Iterator[dict[str, Any]]:
        """The cells of every row by column, in file order."""
        name = self._find(*_METRICS)
        packed = self.source.open(name)
        opened: Any = gzip.open(packed) if name.endswith(".gz") else packed
        try:
            with io.TextIOWrapper(opened, "utf-8-sig", newline="") as text:
                yield from csv.DictReader(text)
        except (EOFError, OSError, zlib.error, csv.Error, UnicodeDecodeError) as error:
            raise BuildError(f"{self.source.path}: {name} is damaged: {error!r}") from error

    def _map(self) -> np.ndarray:
        name = self._find(*_WEIGHTS)
        span = self.source.locate(name)
        with span.path.open("rb") as file:
            file.seek(span.offset)
            try:
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0}
                header = read.get(version, np.lib.format.read_array_header_2_0)
                shape, fortran, dtype = header(file)
            except ValueError as error:
                raise UnreadableFileError(f"{name} is no .npy file: {error}") from error
            offset = file.tell()
        size = math.prod(shape) * dtype.itemsize
        if len(shape) != 2 or dtype.kind != "f" or dtype.hasobject:
            raise UnreadableFileError(f"{name} holds {shape} {dtype}, not rows of numbers")
        if offset + size > span.offset + span.size:
            raise UnreadableFileError(f"{name} is truncated: its header promises {size} bytes")
        order = "F" if fortran else "C"
        return np.memmap(span.path, dtype, "r", offset, shape, order)  # type: ignore[call-overload]

    def _find(self, *names: str) -> str:
        """The only file of that name, in any folder of the source."""
        for wanted in names:
            found = [name for name in self.source.names if name.rpartition("/")[2] == wanted]
            if len(found) == 1:
                return found[0]
            if found:
                raise BuildError(
                    f"{self.source.path} holds {found}: import one image set at a time"
                )
        raise BuildError(f"{self.source.path} holds no {' or '.join(names)}")

    def architecture(self, state: Mapping[str, Leaf]) -> Architecture | None:
        """Three strided convolutions; the tensors do not determine the side of the images."""
        shapes = {name: tuple(leaf.shape) for name, leaf in state.items()}
        width, channels = shapes.get("conv1.weight", (1, 1))[:2]
        architecture = small_cnn(channels, self._side, width)
        wanted = {tensor.name: tensor.shape for tensor in architecture.layer_table()}
        return architecture if shapes == wanted else None


def read_layout(text: str, width: int) -> list[Variable]:
    """Read `layout.csv` and order its variables as torch does, weight before bias.

    Args:
        text: CSV text with the columns varname, start_idx, end_idx and shape.
        width: length of a row of weights.

    Raises:
        UnreadableFileError: if the variables do not cover the row, or contradict their shapes.
    """
    layers: list[dict[str, Variable]] = []
    at = 0
    rows = sorted(csv.DictReader(io.StringIO(text)), key=lambda row: _whole(row, "start_idx"))
    for row in rows:
        shape = tuple(int(side) for side in re.findall(r"\d+", row.get("shape") or ""))
        variable = Variable("", _whole(row, "start_idx"), _whole(row, "end_idx"), shape)
        role = _role(row.get("varname") or "")
        size = variable.stop - variable.start
        if variable.start != at or size != math.prod(shape) or len(shape) not in _TORCH_ORDER:
            raise UnreadableFileError(f"layout.csv: {row} does not fit at value {at}")
        if not layers or role in layers[-1]:
            layers.append({})
        layers[-1][role] = variable
        at = variable.stop
    if at != width:
        raise UnreadableFileError(f"layout.csv covers {at} values, weights have {width}")
    return list(_named(layers))


def _named(layers: list[dict[str, Variable]]) -> Iterator[Variable]:
    counts = {"conv": 0, "linear": 0}
    for layer in layers:
        if set(layer) != {"weight", "bias"}:
            raise UnreadableFileError(f"layout.csv: a layer has only {sorted(layer)}")
        kind = "conv" if len(layer["weight"].shape) == 4 else "linear"
        counts[kind] += 1
        for role in ("weight", "bias"):
            found = layer[role]
            name = f"{kind}{counts[kind]}.{role}"
            yield Variable(name, found.start, found.stop, found.shape)


def _role(varname: str) -> str:
    last = varname.rpartition("/")[2].split(":")[0]
    if last not in ("kernel", "bias"):
        raise UnreadableFileError(f"layout.csv: variable {varname!r} is neither kernel nor bias")
    return "weight" if last == "kernel" else "bias"


def _whole(row: Mapping[str, Any], key: str) -> int:
    try:
        return int(row[key])
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableFileError(f"layout.csv: {row} has no whole number {key}") from error


def _table_row(row: Mapping[str, str]) -> tuple[str, int, dict[str, Any], dict[str, float]]:
    """Sort the cells of a line; an empty loss stands for NaN."""
    config = {
        key.removeprefix("config."): parse_cell(cell)
        for key, cell in row.items()
        if key.startswith("config.")
    }
    metrics = {key: float(row[key] or "nan") for key in row if _is_metric(key)}
    return row["modeldir"], int(float(row["step"])), config, metrics


def _is_metric(key: str) -> bool:
    return key in _LOSSES or key in ("train_accuracy", "test_accuracy")


def _model(
    name: str,
    rows: list[tuple[int, int, dict[str, Any]]],
    config: dict[str, Any],
    scan: Scan,
) -> FoundModel:
    by_step: dict[int, tuple[int, int, dict[str, Any]]] = {}
    for row in rows:
        if row[0] in by_step:
            scan.refused.append(Remark(name, "this epoch is there twice", row[0]))
        by_step.setdefault(row[0], row)
    kept = [by_step[step] for step in sorted(by_step)]
    metrics, diverged = read_metrics([row[2] for row in kept])
    seed = whole(config.pop("random_seed", None), UNKNOWN_SEED)
    hyper_parameters, rest = sort_config(config)
    return FoundModel(
        name=name,
        locations=[row[1] for row in kept],
        epochs=np.array([row[0] for row in kept]),
        metrics=metrics,
        hyper_parameters=hyper_parameters,
        properties=rest | {"published_row": [row[1] for row in kept]},
        seed=seed,
        diverged=diverged,
    )
