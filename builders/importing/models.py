"""Models, properties and splits that an importer finds before it reads weights.

Shape letters: K stored checkpoints of one model.
"""

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ...zoos.format import METRICS
from ...zoos.lineage import Lineage
from ...zoos.networks.architectures import Architecture
from ..checkpoints.archives import Source
from ..checkpoints.opening import find_state_dict, open_checkpoint
from ..checkpoints.tensors import Checkpoint, Leaf
from ..checkpoints.unreadable import UnreadableFileError, guarded, one_line, reading, shown
from .layers import known_architecture

UNKNOWN_EPOCH = UNKNOWN_SEED = -1
SENTINEL = -999  # value of Model Zoos for a missing training metric of an initial state
HYPER_PARAMETERS = {  # published name: name in weightzoo
    "model::nlin": "activation",
    "model::dropout": "dropout",
    "model::init_type": "init",
    "optim::optimizer": "optimizer",
    "optim::lr": "lr",
    "optim::wd": "weight_decay",
    "optim::momentum": "momentum",
    "optim::scheduler": "schedule",
    "training::batchsize": "batch_size",
    "nlin": "activation",
    "init_type": "init",
    "w_init": "init",
    "b_init": "bias_init",
    "learning_rate": "lr",
    "wd": "weight_decay",
    "batchsize": "batch_size",
    "scheduler": "schedule",
}
OWN_HYPER_PARAMETERS = (
    "activation",
    "init",
    "init_std",
    "bias_init",
    "optimizer",
    "lr",
    "weight_decay",
    "l2reg",  # of Keras, half of torch's weight decay, hence a name of its own
    "momentum",
    "dropout",
    "batch_size",
    "train_fraction",
    "schedule",
)
_VALUES: dict[str, dict[str, Any]] = {
    "activation": {"leakyrelu": "leaky_relu"},
    "optimizer": {"rms_prop": "rmsprop"},
    "bias_init": {"zeros": 0.0, "ones": 1.0},
}
_METRIC_NAMES = {
    "ggap": "generalization_gap",
    **{
        f"{part}{mark}acc": f"{part}_accuracy" for part in ("train", "val", "test") for mark in "_/"
    },
    **{f"{part}/loss": f"{part}_loss" for part in ("train", "val", "test")},
    **{name: name for name in METRICS},
}


@dataclass(frozen=True)
class Remark:
    """Message to the user on a model or one of its checkpoints."""

    model: str
    reason: str
    epoch: int | None = None

    def __post_init__(self) -> None:
        """Cut the reason to one line: it may contain text of a foreign file."""
        object.__setattr__(self, "reason", one_line(self.reason))


@dataclass(frozen=True)
class Parent:
    """Published parent of a fine-tuned or pruned model.

    Attributes:
        relation: "fine-tuned" or "pruned".
        model: published name of the parent.
        epoch: epoch of its checkpoint, or `UNKNOWN_EPOCH`.
        zoo: published name of its zoo, "" if it is the same source.
    """

    relation: str
    model: str
    epoch: int = UNKNOWN_EPOCH
    zoo: str = ""


@dataclass
class FoundModel:
    """One model of a source.

    Attributes:
        name: name, unique in the source.
        locations: location of each of its K checkpoints, in a form that its reader defines.
        epochs: epochs of the checkpoints, (K,), ascending; `UNKNOWN_EPOCH` if not published.
        metrics: metrics by name in `METRICS`, (K,), float64; NaN or a missing name means unknown.
        hyper_parameters: values by weightzoo's names.
        properties: further values by column name, one or K each.
        seed: seed, or `UNKNOWN_SEED`.
        split: published split, or None.
        diverged: whether a published loss is not finite, (K,); None if all are finite.
        parent: model that it was made from, or None.
        lineage: lineage of its rows; None if no model of the source has a parent.
        group: key of models that belong in one split, such as those of one image, or None.
        measures_sparsity: whether its column `sparsity` is counted from its weights.
    """

    name: str
    locations: list[Any]
    epochs: np.ndarray
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    hyper_parameters: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    seed: int = UNKNOWN_SEED
    split: str | None = None
    diverged: np.ndarray | None = None
    parent: Parent | None = None
    lineage: Lineage | None = None
    group: str | None = None
    measures_sparsity: bool = False

    def __post_init__(self) -> None:
        """Check that epochs and seed fit 64 bits; a longer seed becomes a property.

        Raises:
            UnreadableFileError: if an epoch does not fit.
        """
        if not all(_fits(epoch) for epoch in self.epochs.tolist()):
            raise UnreadableFileError(f"epochs {shown(self.epochs.tolist())} are beyond 64 bits")
        if not _fits(self.seed):
            self.properties.setdefault("seed", shown(self.seed))
            self.seed = UNKNOWN_SEED


@dataclass
class Scan:
    """Models and messages that an importer found.

    Attributes:
        models: models, sorted by name.
        refused: models and checkpoints that cannot be imported, with reasons.
        remarks: incomplete properties of the other models.
        notes: notes on the whole source.
        constants: properties that are equal in all models.
        licence: licence that all models state, or None.
    """

    models: list[FoundModel] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None

    @contextmanager
    def refusing(self, model: str, file: str = "") -> Iterator[None]:
        """Read one model, or one of its files; every error becomes one line in `refused`.

        Args:
            model: name of the model in the report.
            file: file name for the reason, if a model has several files.
        """
        try:
            with reading():
                yield
        except UnreadableFileError as error:
            self.refused.append(Remark(model, f"{file}: {error}" if file else str(error)))

    def one_per_epoch(self, model: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The first line of each epoch, by epoch; every other one becomes a line in `refused`.

        Args:
            model: name of the model in the report.
            lines: lines of a table with the keys "file" and "epoch".
        """
        by_epoch: dict[int, dict[str, Any]] = {}
        for line in lines:
            if by_epoch.setdefault(line["epoch"], line) is not line:
                reason = f"{line['file']}: this epoch is there twice"
                self.refused.append(Remark(model, reason))
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]


@dataclass(frozen=True)
class OpenState:
    """Tensors of one checkpoint by weightzoo's names, still in their file."""

    tensors: Mapping[str, Leaf]
    read: Callable[[Leaf], np.ndarray]


class Reader(ABC):
    """Reads one published format.

    Attributes:
        source: files of the published zoo.
        stubs: classes in the format's pickles that are kept as stubs.
        mixes: whether models of several architectures become one mixed zoo, instead of one zoo
            for each architecture.
        takes_layer: whether one layer of each network is read, which `layer` names.
        layer: name of that layer, or "".
    """

    stubs: ClassVar[tuple[str, ...]] = ()
    mixes: ClassVar[bool] = False
    takes_layer: ClassVar[bool] = False
    layer: str = ""

    def __init__(self, source: Source) -> None:
        """Read from `source`."""
        self.source = source

    @abstractmethod
    def scan(self) -> Scan:
        """Find all models, without reading their weights."""

    def open(self, model: FoundModel, row: int) -> OpenState:
        """Open one checkpoint of a model.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.

        Raises:
            UnreadableFileError: if it is damaged, hostile, or lacks a tensor; reading its tensors
                later raises the same type.
        """
        with reading():
            state = self.open_state(model, row)
        return OpenState(state.tensors, guarded(state.read))

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open one checkpoint of a model; `open` converts every error.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        checkpoint = self.open_file(model.locations[row])
        return OpenState(self.rename(find_state_dict(checkpoint.root), model), checkpoint.read)

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Size of the file that holds a checkpoint, in bytes.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        return self.source.size(model.locations[row])

    def open_file(self, name: str) -> Checkpoint:
        """Open a checkpoint file of the source."""
        return open_checkpoint(self.source.open(name), name, self.stubs)

    def rename(self, state: dict[str, Leaf], model: FoundModel) -> dict[str, Leaf]:
        """Rename tensors to weightzoo's names, in weightzoo's order; by default unchanged.

        Args:
            state: tensors by published name.
            model: model of the source.
        """
        return state

    def architecture(self, state: Mapping[str, Leaf]) -> Architecture | None:
        """The architecture with these tensors (by weightzoo's names), or None if it is unknown."""
        return known_architecture(state)

    def notes(self, state: Mapping[str, Leaf]) -> list[str]:
        """Notes for the report on an architecture with these tensors (by weightzoo's names)."""
        return []


def metric_name(name: str) -> str | None:
    """Name in weightzoo of a published metric, or None."""
    return _METRIC_NAMES.get(name)


def hyper_parameter_name(name: str) -> str | None:
    """Name in weightzoo of a published hyper-parameter, or None."""
    name = name.removeprefix("config.")
    return HYPER_PARAMETERS.get(name, name if name in OWN_HYPER_PARAMETERS else None)


def hyper_parameter_value(name: str, value: Any) -> Any:
    """Translate a published value of a hyper-parameter to weightzoo's.

    Args:
        name: name of the hyper-parameter in weightzoo.
        value: published value.
    """
    if isinstance(value, str):
        value = value.lower() if name in ("activation", "optimizer") else value
        return _VALUES.get(name, {}).get(value, value)
    return value


def sort_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a published config into hyper-parameters by weightzoo's names, and the rest."""
    known: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in config.items():
        if (name := hyper_parameter_name(key)) is not None:
            known[name] = hyper_parameter_value(name, value)
        else:
            rest[key] = tuple(value) if isinstance(value, list) else value
    return known, rest


def take_constants(models: Sequence[FoundModel]) -> dict[str, Any]:
    """Remove the properties that are equal in all models, and return them."""
    names = dict.fromkeys(name for model in models for name in model.properties)
    constants = {}
    for name in names:
        values = [model.properties.get(name) for model in models]
        plain = not isinstance(values[0], np.ndarray | list | tuple)  # the recipe takes no lists
        if plain and all(value == values[0] for value in values):
            constants[name] = values[0]
            for model in models:
                model.properties.pop(name, None)
    return constants


def read_metrics(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Collect the metrics of K checkpoints, each a mapping by published name.

    Returns:
        Metrics (K,) by weightzoo's name, NaN where unknown; and whether a published loss is not
        finite, (K,).
    """
    metrics: dict[str, np.ndarray] = {}
    diverged = np.zeros(len(rows), bool)
    for index, row in enumerate(rows):
        for key, value in row.items():
            name, known = metric_name(key), _number(value)
            if name is None or known is None:
                continue
            metrics.setdefault(name, np.full(len(rows), np.nan))[index] = known
            diverged[index] |= name.endswith("loss") and not math.isfinite(known)
    return metrics, diverged


def _number(value: Any) -> float | None:
    """A metric as a float; None for other types and Model Zoos' sentinel."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value == SENTINEL:
        return None
    return float(value)


def whole(value: Any, otherwise: int) -> int:
    """Read a whole number.

    Args:
        value: published value, of any type.
        otherwise: result for a value that is no whole number.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(
        "0[0-9]{1,17}", value
    ):  # an epoch with leading zeros, such as 0010
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def tidy_metrics(models: Sequence[FoundModel]) -> list[str]:
    """Convert percent to fractions and fill in the generalization gap, in place.

    Accuracies of a zoo are percent if one of them is above 1.5: a fraction is at most 1, and in
    every zoo in percent some model has more than 1.5 %.

    Returns:
        Notes on conversions.
    """
    names = [name for name in METRICS if name.endswith("accuracy")]
    values = [model.metrics[name] for model in models for name in names if name in model.metrics]
    highest = max((np.nanmax(column, initial=0.0) for column in values), default=0.0)
    notes = []
    if highest > 1.5:
        for model in models:
            for name in (*names, "generalization_gap"):
                if name in model.metrics:
                    model.metrics[name] = model.metrics[name] / 100
        notes.append(f"accuracies were percent (up to {highest:g}): divided by 100")
    for model in models:
        _fill_gap(model.metrics)
    return notes


def _fill_gap(metrics: dict[str, np.ndarray]) -> None:
    """Gap = train - test accuracy; a published gap gives the train accuracy."""
    train, test = metrics.get("train_accuracy"), metrics.get("test_accuracy")
    gap = metrics.get("generalization_gap")
    if train is not None and test is not None:
        metrics["generalization_gap"] = train - test
    elif test is not None and gap is not None:
        metrics["train_accuracy"] = gap + test


def unique_names(paths: Iterable[str]) -> dict[str, str]:
    """A short name for each path: its last part if that is unique, else the whole path."""
    paths = list(paths)
    counts = Counter(path.rpartition("/")[2] for path in paths)
    last = {path: path.rpartition("/")[2] for path in paths}
    return {path: name if counts[name] == 1 else path for path, name in last.items()}


def _fits(number: int) -> bool:
    """Whether a whole number fits 64 bits."""
    return -(2**63) <= number < 2**63


def check_cells(cells: MutableMapping[Any, Any]) -> None:
    """Drop empty cells behind the last column of a CSV line; reject other extra cells.

    In a line with an extra cell, all cells may be in the wrong columns.

    Raises:
        UnreadableFileError: if an extra cell is not empty.
    """
    extra = cells.pop(None, None) or []
    if any(cell for cell in extra):
        raise UnreadableFileError(f"has {len(extra)} cells more than columns: {shown(extra)}")


def parse_cell(cell: str | None) -> Any:
    """Value of a CSV cell: whole number, number, text, or None if it is empty.

    Numbers with a leading 0 or an underscore stay text: they are names.
    """
    if cell is None or cell == "":
        return None
    if "_" in cell or re.fullmatch(r"[+-]?0[0-9]+", cell):
        return cell
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
