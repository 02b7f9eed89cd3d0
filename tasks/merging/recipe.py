"""The recipe of a merge: a file that says what is merged, how, and where it differs by tensor.

Ours is TOML:

    method = "ties"
    members = ["math", "code"]          # folders, relative to the recipe
    base = "llama"
    [settings]
    density = 0.2
    weights = [1.0, 0.5]
    [[tensors]]                          # the first pattern that fits a tensor's name counts
    match = "*.mlp.*"
    density = 0.4
"""

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ...zoos.errors import MergeError
from ...zoos.strict_json import json_text
from .methods import member_weights
from .settings import MergeSettings, Method, method_named, read_settings

DTYPES = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, kw_only=True)
class ZooRows:
    """Rows of a zoo as members.

    Attributes:
        path: the zoo, a folder or a Hub repository.
        split: split of the zoo, e.g. "val" or "train[:8]".
        where: condition on its columns; "" takes the last checkpoint of every model.
        base: condition that one row fulfils, the base; "" for none.
    """

    path: str
    split: str = "train"
    where: str = ""
    base: str = ""


@dataclass(frozen=True, kw_only=True)
class TensorSettings:
    """Settings for the tensors whose names fit a pattern."""

    match: str
    settings: MergeSettings


@dataclass(frozen=True, kw_only=True)
class MergeRecipe:
    """What is merged, and how.

    Attributes:
        method: name of the method.
        members: paths of checkpoints, adapters or pools of them; empty with `zoo`.
        base: path of the checkpoint they were trained from; "" without.
        zoo: rows of a zoo as members; None with `members`.
        settings: settings of the method.
        tensors: settings that differ by tensor.
        dtype: type of the merged tensors; "" keeps the first member's.
        companions: safetensors files with each member's Fisher information or Gram matrices.
    """

    method: str
    members: tuple[str, ...] = ()
    base: str = ""
    zoo: ZooRows | None = None
    settings: MergeSettings = field(default_factory=MergeSettings)
    tensors: tuple[TensorSettings, ...] = ()
    dtype: str = ""
    companions: tuple[str, ...] = ()

    @property
    def rules(self) -> Method:
        """What the method needs."""
        return method_named(self.method)

    def settings_of(self, tensor: str) -> MergeSettings:
        """The settings for one tensor."""
        for one in self.tensors:
            if fnmatch.fnmatchcase(tensor, one.match):
                return one.settings
        return self.settings

    def check_members(self, members: int, has_base: bool) -> None:
        """Refuse a number of members, or of weights, that the method cannot take.

        Args:
            members: number of members.
            has_base: whether there is a base model.

        Raises:
            MergeError: naming the method and what it takes.
        """
        least, most = self.rules.members
        if not least <= members <= (most or members):
            wanted = f"{least}" if most == least else f"at least {least}"
            raise MergeError(f"method {self.method!r} takes {wanted} members, got {members}")
        if self.rules.needs_base and not has_base:
            raise MergeError(
                f"method {self.method!r} needs the base that the members were trained from: give it"
            )
        for settings in (self.settings, *(one.settings for one in self.tensors)):
            if settings.weights is not None or self.method != "weighted":
                member_weights(settings, members)
        if self.method == "weighted" and self.settings.weights is None:
            raise MergeError("method 'weighted' needs the setting 'weights', one per member")

    def to_json(self) -> dict[str, Any]:
        """Plain data, with only the settings that the method takes."""
        data = asdict(self)
        known = self.rules.settings
        data["settings"] = {name: data["settings"][name] for name in known}
        data["tensors"] = [
            {"match": one["match"]} | {name: one["settings"][name] for name in known}
            for one in data["tensors"]
        ]
        return data

    def fingerprint(self, inputs: Sequence[str]) -> str:
        """Sixteen hex digits of recipe and inputs, by which a merge is known.

        Args:
            inputs: what identifies members and base, such as sizes and digests.
        """
        text = json_text([self.to_json(), list(inputs)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_merge_recipe(data: Mapping[str, Any]) -> MergeRecipe:
    """Check plain data as a recipe.

    Raises:
        MergeError: if a key is unknown or missing, or a value is out of range.
    """
    known = [field.name for field in fields(MergeRecipe)]
    if unknown := sorted(set(data) - set(known)):
        raise MergeError(f"a merge recipe has the keys {known}, got {unknown}")
    method = data.get("method", "")
    method_named(method)
    if bool(data.get("members")) == bool(data.get("zoo")):
        raise MergeError("a merge recipe names its members either by 'members' or by 'zoo'")
    if (dtype := data.get("dtype", "")) not in ("", *DTYPES):
        raise MergeError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    common = _table(data, "settings")
    return MergeRecipe(
        method=method,
        members=_texts(data, "members"),
        base=_text(data, "base"),
        zoo=_zoo_rows(data["zoo"]) if data.get("zoo") else None,
        settings=read_settings(method, common),
        tensors=tuple(_tensor_settings(method, common, row) for row in _rows(data, "tensors")),
        dtype=dtype,
        companions=_texts(data, "companions"),
    )


def _tensor_settings(method: str, common: Mapping[str, Any], row: Any) -> TensorSettings:
    if not isinstance(row, Mapping) or not isinstance(row.get("match"), str):
        raise MergeError(f"every table of 'tensors' has a text 'match', got {row!r}")
    own = {name: value for name, value in row.items() if name != "match"}
    return TensorSettings(match=row["match"], settings=read_settings(method, {**common, **own}))


def _zoo_rows(table: Any) -> ZooRows:
    known = [field.name for field in fields(ZooRows)]
    if not isinstance(table, Mapping) or not table.get("path") or set(table) - set(known):
        raise MergeError(f"'zoo' has the keys {known} and needs 'path', got {table!r}")
    return ZooRows(**{name: _text(table, name) for name in table})


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise MergeError(f"{key!r} must be a text, got {value!r}")
    return value


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = data.get(key, [])
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise MergeError(f"{key!r} must be a list of texts, got {values!r}")
    return tuple(values)


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, Mapping):
        raise MergeError(f"{key!r} must be a table, got {value!r}")
    return value


def _rows(data: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = data.get(key, [])
    if not isinstance(value, list | tuple):
        raise MergeError(f"{key!r} must be a list of tables, got {value!r}")
    return value
