"""Reads mergekit's YAML for the methods that both have.

What we do not compute the same way is refused, not approximated: layer slices, gradients over
layers, tokenizer surgery. One difference is by intention: DARE divides by the density, where
mergekit's `rescale` restores the L1 norm; both are equal in expectation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...zoos.errors import MergeError
from .recipe import DTYPES, MergeRecipe, TensorSettings
from .settings import METHODS, read_settings

_METHODS = {
    "linear": "weighted",
    "slerp": "slerp",
    "task_arithmetic": "task_arithmetic",
    "ties": "ties",
    "dare_linear": "dare",
    "dare_ties": "dare_ties",
    "model_stock": "model_stock",
}
_KEYS = ("merge_method", "models", "base_model", "parameters", "dtype", "out_dtype")
_NAMES = {"lambda": "scale", "t": "fraction", "density": "density", "normalize": "normalize"}
_NO_EFFECT = ("int8_mask",)  # a smaller intermediate type, no other result


def read_mergekit(text: str) -> MergeRecipe:
    """Translate a configuration of mergekit.

    Raises:
        MergeError: if it is no YAML, or asks for something that we do not have.
    """
    import yaml

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MergeError(f"the recipe is no YAML: {error}") from error
    if not isinstance(data, Mapping) or not isinstance(data.get("models"), list):
        raise MergeError(f"a mergekit recipe needs 'models' of the keys {list(_KEYS)}, no slices")
    if unknown := sorted(map(str, set(data) - set(_KEYS))):
        raise MergeError(f"of mergekit's keys these are read: {list(_KEYS)}, got {unknown}")
    name = data.get("merge_method")
    if name not in _METHODS:
        raise MergeError(f"of mergekit's methods these are read: {sorted(_METHODS)}, got {name!r}")
    return _recipe(data, _METHODS[name])


def _recipe(data: Mapping[str, Any], method: str) -> MergeRecipe:
    base = str(data.get("base_model") or "")
    rows = [_model(row) for row in data["models"]]
    if method == "slerp":  # the base is the first of the two
        rows.sort(key=lambda row: row[0] != base)
        base = ""
    elif METHODS[method].needs_base:
        rows = [row for row in rows if row[0] != base]
    dtype = str(data.get("out_dtype") or data.get("dtype") or "")
    if dtype not in ("", *DTYPES):
        raise MergeError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    common = dict(data.get("parameters") or {})
    patterns = _patterns([common, *(own for _, own in rows)])
    everywhere = read_settings(method, _settings(method, common, [own for _, own in rows], None))
    return MergeRecipe(
        method=method,
        members=tuple(path for path, _ in rows),
        base=base,
        settings=everywhere,
        dtype=dtype,
        tensors=tuple(
            TensorSettings(
                match=f"*{pattern}*",
                settings=read_settings(
                    method, _settings(method, common, [own for _, own in rows], pattern)
                ),
            )
            for pattern in patterns
        ),
    )


def _model(row: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(row, Mapping) or set(row) - {"model", "parameters"} or "model" not in row:
        raise MergeError(f"every entry of 'models' has 'model' and 'parameters', got {row!r}")
    return str(row["model"]), dict(row.get("parameters") or {})


def _patterns(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Filters by part of a tensor's name, in the order in which they stand there."""
    rows = [row for table in tables for value in table.values() for row in _filters(value)]
    return list(dict.fromkeys(row["filter"] for row in rows if row.get("filter")))


def _filters(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _settings(
    method: str,
    common: Mapping[str, Any],
    own: Sequence[Mapping[str, Any]],
    pattern: str | None,
) -> dict[str, Any]:
    """Our settings for tensors of one filter, or of none."""
    names = set(common) | {name for table in own for name in table}
    settings: dict[str, Any] = {}
    if "normalize" in METHODS[method].settings:
        settings["normalize"] = method in ("weighted", "ties")  # mergekit's defaults
    if "weights" in METHODS[method].settings:
        settings["weights"] = [
            _value(table.get("weight", common.get("weight", 1.0)), pattern) for table in own
        ]
    for name in sorted(names - {"weight", *_NO_EFFECT}):
        values = {_value(table.get(name, common.get(name)), pattern) for table in own}
        if name == "rescale" and values == {True} and method.startswith("dare"):
            continue
        if name not in _NAMES or len(values) > 1:
            listed = sorted(values, key=str)
            raise MergeError(f"mergekit's parameter {name!r} is not read with the values {listed}")
        settings[_NAMES[name]] = values.pop()
    if method in ("ties", "dare_ties", "dare") and "density" not in settings:
        settings["density"] = 1.0
    return settings


def _value(value: Any, pattern: str | None) -> Any:
    """The value of a parameter for tensors of a filter."""
    if not isinstance(value, list):
        return value
    rows = _filters(value)
    if len(rows) < len(value):
        raise MergeError(f"gradients over layers are not read, got {value!r}")
    for row in rows:
        if row.get("filter") in (pattern, None) and "value" in row:
            if isinstance(row["value"], list):
                raise MergeError(f"gradients over layers are not read, got {row['value']!r}")
            return row["value"]
    raise MergeError(f"no value without a filter in {value!r}: add one for all other tensors")
