"""The scalar columns of an imported zoo, from the properties of its models.

Shape letters: N rows, K checkpoints of one model.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...zoos.format import IDENTITY, METRICS, WEIGHTS
from ...zoos.lineage import LINEAGE, Lineage, lineage_columns
from ...zoos.strict_json import json_text
from ..checkpoints.unreadable import shown
from .models import OWN_HYPER_PARAMETERS, FoundModel

MODEL_NAME = "model_name"
EXACT = 2**53  # float64 represents all whole numbers up to here
_RESERVED = {*IDENTITY, *LINEAGE, *METRICS, *OWN_HYPER_PARAMETERS, MODEL_NAME, WEIGHTS}


@dataclass(frozen=True)
class ColumnPlan:
    """Columns of a zoo, fixed over all its models so that every file has the same.

    Attributes:
        hyper_parameters: kind ("whole", "number" or "text") of each hyper-parameter, by name.
        properties: kind of each property, by column name.
        sources: published name of each property, by column name.
    """

    hyper_parameters: dict[str, str]
    properties: dict[str, str]
    sources: dict[str, str]

    @classmethod
    def of(cls, models: Sequence[FoundModel]) -> "ColumnPlan":
        """Plan the columns of a zoo of these models."""
        hyper = {
            name: _kind(model.hyper_parameters.get(name) for model in models)
            for name in OWN_HYPER_PARAMETERS
            if any(model.hyper_parameters.get(name) is not None for model in models)
        }
        names = dict.fromkeys(name for model in models for name in model.properties)
        sources = _column_names(names)
        kinds = {
            column: _kind(value for model in models for value in _values(model, name))
            for column, name in sources.items()
        }
        return cls(hyper, kinds, sources)

    def columns(self, models: Sequence[FoundModel], ids: Sequence[int]) -> dict[str, np.ndarray]:
        """All scalar columns of one file, (N,) each, in file order.

        Args:
            models: models of the file, in row order.
            ids: `model_id` of each model.
        """
        counts = [len(model.locations) for model in models]
        columns: dict[str, np.ndarray] = {
            "model_id": np.repeat(np.array(ids, np.int64), counts),
            "epoch": np.concatenate([model.epochs for model in models]).astype(np.int64),
            "split": _repeat([model.split or "" for model in models], counts, "text"),
            "seed": np.repeat(np.array([model.seed for model in models], np.int64), counts),
            "status": np.concatenate([_status(model) for model in models]),
            MODEL_NAME: _repeat([model.name for model in models], counts, "text"),
        }
        for name, kind in self.hyper_parameters.items():
            values = [model.hyper_parameters.get(name) for model in models]
            columns[name] = _repeat(values, counts, kind)
        if any(model.lineage for model in models):
            parents = [lineage_columns([m.lineage or Lineage()], len(m.locations)) for m in models]
            columns |= {n: np.concatenate([part[n] for part in parents]) for n in LINEAGE}
        for name in METRICS:
            parts = [_metric(model, name) for model in models]
            columns[name] = np.concatenate(parts).astype(np.float32)
        for name, kind in self.properties.items():
            wide = [value for model in models for value in _wide(model, self.sources[name])]
            columns[name] = _array(wide, kind)
        return columns


def _column_names(names: Iterable[str]) -> dict[str, str]:
    """Unused column names for published names: letters, digits and underscores."""
    found: dict[str, str] = {}
    for name in names:
        clean = re.sub(r"\W+", "_", name).strip("_") or "property"
        while clean in _RESERVED or clean in found:
            clean += "_"
        found[clean] = name
    return found


def _kind(values: Iterable[Any]) -> str:
    """Kind of column that holds all values; "whole" only if no value is unknown."""
    kept = list(values)
    found = {_kind_of(value) for value in kept}
    if "text" in found:
        return "text"
    if found == {"whole"}:
        return "whole"
    rounded = any(_kind_of(v) == "whole" and abs(int(v)) > EXACT for v in kept)
    return "text" if rounded else "number"


def _kind_of(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return "whole" if abs(int(value)) < 2**63 else "text"
    return "number" if isinstance(value, float | np.floating) else "text"


def _values(model: FoundModel, name: str) -> Iterable[Any]:
    value = model.properties.get(name)
    return value if isinstance(value, list | np.ndarray) else [value]


def _wide(model: FoundModel, name: str) -> Iterable[Any]:
    """One value per row of the model."""
    value = model.properties.get(name)
    return value if isinstance(value, list | np.ndarray) else [value] * len(model.locations)


def _status(model: FoundModel) -> np.ndarray:
    """Status of each row by its metrics; the weights may add "diverged" later."""
    status = np.full(len(model.locations), "ok", dtype=object)
    if model.diverged is not None:
        status[model.diverged] = "diverged"
    return status


def _metric(model: FoundModel, name: str) -> np.ndarray:
    unknown = np.full(len(model.locations), np.nan)
    return model.metrics.get(name, unknown)


def _repeat(values: Sequence[Any], counts: Sequence[int], kind: str) -> np.ndarray:
    return np.repeat(_array(values, kind), counts)


def _array(values: Sequence[Any], kind: str) -> np.ndarray:
    if kind == "text":
        return np.array([_text(value) for value in values], dtype=object)
    if kind == "whole":
        return np.array([int(value) for value in values], dtype=np.int64)
    return np.array([np.nan if value is None else float(value) for value in values])


def _json(value: Any) -> str:
    try:
        return json_text(value, default=str)
    except (TypeError, ValueError, RecursionError):  # such as keys that are pairs
        return shown(value)


def _text(value: Any) -> str:
    """A value as text: lists as JSON, unknown as "", invalid characters replaced."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else _json(value)
    return text.replace("\0", "").encode("utf-8", "replace").decode()
