"""Settings of merge methods: which there are, which a method takes, and their ranges."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...zoos.errors import MergeError
from ..merge_methods.matrix_methods import COMMON_SHARE


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """What a method does with its members; every method takes some of these.

    Attributes:
        weights: one per member; None weighs all alike.
        normalize: divide by the sum of the weights, in TIES of those that agree; None does so
            in TIES only.
        scale: factor of the merged task vector (lambda).
        density: share of the values of a task vector that are kept.
        fraction: fraction of the way from the first member to the second.
        common_share: share of Iso-CTS's directions that come from the sum.
        off_diagonal: factor of the off-diagonal entries of RegMean's Gram matrices.
        steps: Adam steps of WUDI; 0 takes the closed form.
        lr: step size of these.
        seed: seed of the random masks of DARE.
    """

    weights: tuple[float, ...] | None = None
    normalize: bool | None = None
    scale: float = 1.0
    density: float = 0.2
    fraction: float = 0.5
    common_share: float = COMMON_SHARE
    off_diagonal: float = 0.9
    steps: int = 0
    lr: float = 1e-5
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Method:
    """A merge method.

    Attributes:
        text: what it does, in a few words.
        settings: names of the settings that it takes.
        needs_base: whether it works on differences from a base.
        members: fewest and most members; None for any number.
        companion: what it needs beside each member: "fisher", "gram" or nothing.
    """

    text: str
    settings: tuple[str, ...] = ()
    needs_base: bool = True
    members: tuple[int, int | None] = (1, None)
    companion: str | None = None


METHODS: dict[str, Method] = {
    "mean": Method(text="mean of the members (uniform soup)", needs_base=False),
    "weighted": Method(
        text="sum of the members times their weights",
        settings=("weights", "normalize"),
        needs_base=False,
    ),
    "slerp": Method(
        text="spherical interpolation between two members",
        settings=("fraction",),
        needs_base=False,
        members=(2, 2),
    ),
    "task_arithmetic": Method(
        text="base plus the sum of the task vectors", settings=("weights", "normalize", "scale")
    ),
    "ties": Method(
        text="trim task vectors, elect a sign, average those that agree",
        settings=("weights", "normalize", "density", "scale"),
    ),
    "dare": Method(
        text="task arithmetic after random dropping",
        settings=("weights", "normalize", "density", "scale", "seed"),
    ),
    "dare_ties": Method(
        text="TIES after random dropping instead of trimming",
        settings=("weights", "normalize", "density", "scale", "seed"),
    ),
    "model_stock": Method(
        text="between base and mean, as far as the members agree", members=(2, None)
    ),
    "fisher": Method(
        text="mean weighted by diagonal Fisher information", needs_base=False, companion="fisher"
    ),
    "regmean": Method(
        text="linear layers by least squares on each member's inputs",
        settings=("off_diagonal",),
        needs_base=False,
        companion="gram",
    ),
    "tsv": Method(text="leading singular directions, made orthogonal", settings=("scale",)),
    "iso_c": Method(text="sum with equal singular values", settings=("scale",)),
    "iso_cts": Method(
        text="common and own directions with equal singular values",
        settings=("scale", "common_share"),
    ),
    "wudi": Method(text="task vector of least interference", settings=("scale", "steps", "lr")),
    "emr": Method(
        text="elected signs with the largest magnitudes: the shared part of EMR",
        settings=("scale",),
    ),
}
_RANGES = {
    "density": (0.0, 1.0),
    "fraction": (0.0, 1.0),
    "common_share": (0.0, 1.0),
    "off_diagonal": (0.0, 1.0),
    "steps": (0, 10**6),
    "seed": (0, 2**62),
}
SETTING_NAMES = tuple(field.name for field in fields(MergeSettings))


def method_named(name: str) -> Method:
    """A method by name.

    Raises:
        MergeError: listing the methods, if there is none of that name.
    """
    if name not in METHODS:
        raise MergeError(f"method must be one of {sorted(METHODS)}, got {name!r}")
    return METHODS[name]


def read_settings(method: str, given: Mapping[str, Any]) -> MergeSettings:
    """Check plain data as the settings of a method.

    Args:
        method: its name.
        given: values by name of the setting.

    Raises:
        MergeError: if the method takes no such setting, or a value is of another type or out of
            range.
    """
    known = method_named(method).settings
    if unknown := sorted(set(given) - set(known)):
        raise MergeError(f"method {method!r} takes the settings {list(known)}, got {unknown}")
    values = {name: _checked(name, value) for name, value in given.items()}
    return MergeSettings(**values)


def _checked(name: str, value: Any) -> Any:
    if name == "weights":
        if not isinstance(value, list | tuple) or not value or not all(map(_is_number, value)):
            raise MergeError(f"weights must be a list with one number per member, got {value!r}")
        return tuple(float(weight) for weight in value)
    if name == "normalize":
        if not isinstance(value, bool):
            raise MergeError(f"normalize must be true or false, got {value!r}")
        return value
    if not _is_number(value) or (name in ("steps", "seed") and not isinstance(value, int)):
        raise MergeError(f"{name} must be a number, got {value!r}")
    low, high = _RANGES.get(name, (float("-inf"), float("inf")))
    if not low <= value <= high or (name == "density" and value == 0):
        raise MergeError(f"{name} must lie within {low} and {high}, got {value!r}")
    return value


def _is_number(value: Any) -> bool:
    finite = isinstance(value, int | float) and abs(value) < float("inf")
    return finite and not isinstance(value, bool)
