"""What an importer finds before it reads weights: models, their properties, their splits.

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
from ...zoos.networks.architectures import Architecture
from ..checkpoints.archives import Source
from ..checkpoints.opening import find_state_dict, open_checkpoint
from ..checkpoints.tensors import Checkpoint, Leaf
from ..checkpoints.unreadable import UnreadableFileError, guarded, one_line, reading, shown
from .layers import known_architecture

UNKNOWN_EPOCH = UNKNOWN_SEED = -1
WHOLE_LIMIT = 2**24  # float32 holds every whole number up to here
SENTINEL = -999  # Model Zoos writes it where an initial state has no training metric
HYPER_PARAMETERS = {  # published name: ours
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
    "l2reg",  # of Keras, half of what torch calls weight decay: it keeps its own name
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
    """Something about a model, or one checkpoint of it, that a user should know."""

    model: str
    reason: str
    epoch: int | None = None

    def __post_init__(self) -> None:
        """Keep the reason to one line: it may show what a foreign file says."""
        object.__setattr__(self, "reason", one_line(self.reason))


@dataclass
class FoundModel:
    """One model of a source.

    Attributes:
        name: unique in the source.
        places: where each of its K checkpoints lies, in the words of its reader.
        epochs: (K,), ascending; `UNKNOWN_EPOCH` where nothing says it.
        metrics: (K,) by name in `METRICS`, float64; NaN where unknown. Missing means unknown.
        hyper_parameters: value by our name.
        properties: further values by column name, one each, or K of them.
        seed: its seed, or `UNKNOWN_SEED`.
        split: the split it was published with, or None.
        diverged: (K,), where a published loss is not finite; None if there is none.
    """

    name: str
    places: list[Any]
    epochs: np.ndarray
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    hyper_parameters: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    seed: int = UNKNOWN_SEED
    split: str | None = None
    diverged: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that 64 bits hold epochs and seed; a longer seed becomes a property.

        Raises:
            UnreadableFileError: if they do not hold an epoch.
        """
        if not all(_fits(epoch) for epoch in self.epochs.tolist()):
            raise UnreadableFileError(f"epochs {shown(self.epochs.tolist())} are beyond 64 bits")
        if not _fits(self.seed):
            self.properties.setdefault("seed", shown(self.seed))
            self.seed = UNKNOWN_SEED


@dataclass
class Scan:
    """Everything an importer found.

    Attributes:
        models: sorted by name.
        refused: models and checkpoints that cannot be imported.
        remarks: what is incomplete in the others.
        notes: about the whole source.
        constants: properties that all models share.
    """

    models: list[FoundModel] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def refusing(self, model: str, file: str = "") -> Iterator[None]:
        """Read one model, or one file of it: whatever that raises is one line in `refused`.

        Args:
            model: its name in the report.
            file: named in the reason, where a model has several.
        """
        try:
            with reading():
                yield
        except UnreadableFileError as error:
            self.refused.append(Remark(model, f"{file}: {error}" if file else str(error)))


@dataclass(frozen=True)
class OpenState:
    """The tensors of one checkpoint under our names, still in their file."""

    tensors: Mapping[str, Leaf]
    read: Callable[[Leaf], np.ndarray]


class Reader(ABC):
    """Reads one published format.

    Attributes:
        source: its files.
        stubs: classes in its pickles that are kept as stubs.
    """

    stubs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, source: Source) -> None:
        """Read from `source`."""
        self.source = source

    @abstractmethod
    def scan(self) -> Scan:
        """Find all models, without reading their weights."""

    def open(self, model: FoundModel, row: int) -> OpenState:
        """Open one checkpoint of a model.

        Raises:
            UnreadableFileError: if it is damaged, hostile, or lacks a tensor; reading one of its
                tensors raises nothing else either.
        """
        with reading():
            state = self.open_state(model, row)
        return OpenState(state.tensors, guarded(lambda leaf: _exact(state.read(leaf))))

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open one checkpoint; whatever it raises, `open` gives it one name."""
        checkpoint = self.open_file(model.places[row])
        return OpenState(self.rename(find_state_dict(checkpoint.root), model), checkpoint.read)

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Bytes of the file that holds a checkpoint."""
        return self.source.size(model.places[row])

    def open_file(self, name: str) -> Checkpoint:
        """Open a checkpoint file of the source."""
        return open_checkpoint(self.source.open(name), name, self.stubs)

    def rename(self, state: dict[str, Leaf], model: FoundModel) -> dict[str, Leaf]:
        """The tensors under our names, in our order; the published ones unless overridden."""
        return state

    def architecture(self, state: Mapping[str, Leaf]) -> Architecture | None:
        """The architecture of these tensors (under our names) where it is one we can express."""
        return known_architecture(state)


def _exact(values: np.ndarray) -> np.ndarray:
    """Values as they are, unless they are whole numbers that float32 does not hold.

    Raises:
        UnreadableFileError: if they are.
    """
    if values.dtype.kind not in "iu" or values.itemsize < 4:
        return values
    large = values[(values > WHOLE_LIMIT) | (values < -WHOLE_LIMIT)]
    if odd := [number for number in large.tolist() if int(np.float32(number)) != number]:
        raise UnreadableFileError(
            f"holds {len(odd)} whole numbers that float32 would round, such as {odd[0]}"
        )
    return values


def metric_name(name: str) -> str | None:
    """Our name of a published metric, or None."""
    return _METRIC_NAMES.get(name)


def hyper_parameter_name(name: str) -> str | None:
    """Our name of a published hyper-parameter, or None."""
    name = name.removeprefix("config.")
    return HYPER_PARAMETERS.get(name, name if name in OWN_HYPER_PARAMETERS else None)


def hyper_parameter_value(name: str, value: Any) -> Any:
    """A hyper-parameter's value in our words; `name` is ours."""
    if isinstance(value, str):
        value = value.lower() if name in ("activation", "optimizer") else value
        return _VALUES.get(name, {}).get(value, value)
    return value


def sort_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a published config into hyper-parameters under our names, and the rest."""
    known: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in config.items():
        if (name := hyper_parameter_name(key)) is not None:
            known[name] = hyper_parameter_value(name, value)
        else:
            rest[key] = tuple(value) if isinstance(value, list) else value
    return known, rest


def take_constants(models: Sequence[FoundModel]) -> dict[str, Any]:
    """Remove the properties in which no two models differ, and return them."""
    names = dict.fromkeys(name for model in models for name in model.properties)
    constants = {}
    for name in names:
        values = [model.properties.get(name) for model in models]
        plain = not isinstance(values[0], np.ndarray | list)
        if plain and all(value == values[0] for value in values):
            constants[name] = values[0]
            for model in models:
                model.properties.pop(name, None)
    return constants


def read_metrics(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Collect the metrics of K checkpoints, one mapping by published name each.

    Returns:
        (K,) by our name, NaN where unknown; and (K,), where a loss is there but not finite.
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
    """A metric as a number; None if it is none, or Model Zoos' sentinel."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value == SENTINEL:
        return None
    return float(value)


def whole(value: Any, otherwise: int) -> int:
    """A whole number, or `otherwise` if it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch("0[0-9]{1,17}", value):  # an epoch such as 0010
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def tidy_metrics(models: Sequence[FoundModel]) -> list[str]:
    """Turn percent into fractions and fill the generalization gap, in place.

    A zoo's accuracies are percent if one of them is above 1.5: a zoo in percent in which no
    model gets 1.5 % right does not exist, nor does a fraction above 1.

    Returns:
        Notes on what was done.
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
    """Gap = train - test accuracy; where the gap was published, the train accuracy follows."""
    train, test = metrics.get("train_accuracy"), metrics.get("test_accuracy")
    gap = metrics.get("generalization_gap")
    if train is not None and test is not None:
        metrics["generalization_gap"] = train - test
    elif test is not None and gap is not None:
        metrics["train_accuracy"] = gap + test


def unique_names(paths: Iterable[str]) -> dict[str, str]:
    """A short name for each path: its last part where no other path has it, else all of it."""
    paths = list(paths)
    counts = Counter(path.rpartition("/")[2] for path in paths)
    last = {path: path.rpartition("/")[2] for path in paths}
    return {path: name if counts[name] == 1 else path for path, name in last.items()}


def _fits(number: int) -> bool:
    """Whether 64 bits hold a whole number."""
    return -(2**63) <= number < 2**63


def check_cells(cells: MutableMapping[Any, Any]) -> None:
    """Drop empty cells behind the last column of a CSV line; refuse others.

    A line with a cell too many may have all its cells in the wrong columns.

    Raises:
        UnreadableFileError: if there are others.
    """
    extra = cells.pop(None, None) or []
    if any(cell for cell in extra):
        raise UnreadableFileError(f"has {len(extra)} cells more than columns: {shown(extra)}")


def parse_cell(cell: str | None) -> Any:
    """A cell of a CSV file: whole number, number, text, or None where it is empty.

    Numbers that start with a needless 0, or hold an underscore, stay text: they are names.
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
