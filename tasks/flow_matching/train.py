"""The command `weightzoo train flow-matching`."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from ...loaders import ZooDataset, load_zoo
from ...zoos.errors import did_you_mean
from ..autoencoding.canonical import last_rows
from ..autoencoding.learnable_rows import homogeneous_splits
from ..autoencoding.token_autoencoder import Origin
from ..training.settings import TrainOptions
from .flow_training import train_flow_matching
from .saved import save_flow
from .settings import FlowSettings

KIND = "flow-matching"
DEFAULT_TARGET = "test_accuracy"
ROWS = ("all", "last")
LEAST_EPOCH = "least_epoch"  # first epoch of the train rows


def train_flow(kind: str, options: TrainOptions) -> dict[str, Any]:
    """Train a flow on one zoo and save it.

    Args:
        kind: name of the kind, for messages.
        options: options of the command.

    Returns:
        Results to print.

    Raises:
        ValueError: if there are several zoos, an option is of encoders or autoencoders, or an
            argument is unknown (the known ones are listed) or has a wrong type.
    """
    if len(options.zoos) != 1:
        raise ValueError(f"{kind} is trained on one zoo, got {options.zoos!r}: give one zoo")
    if options.target != DEFAULT_TARGET or options.behaviour is not None:
        raise ValueError(
            f"{kind} learns weights alone and predicts no column: leave out --target and "
            "--behaviour"
        )
    config = dict(options.config)
    least_epoch = config.pop(LEAST_EPOCH, 0)
    if not isinstance(least_epoch, int):
        raise ValueError(f"{LEAST_EPOCH} must be a whole number, got {least_epoch!r}")
    settings = _settings(config | dict(options.settings))
    splits = homogeneous_splits(load_zoo(options.zoos[0]), least_epoch)
    train, val = (_rows(split, options.rows) for split in splits)
    flow = train_flow_matching(train, val, settings, options.seed, options.out, options.resume)
    flow.origin = Origin(zoo=str(Path(options.zoos[0]).resolve()), least_epoch=least_epoch)
    save_flow(flow, options.out)
    assert flow.kept_epoch is not None
    kept = {"epochs": len(flow.history), "kept_epoch": flow.kept_epoch}
    note = {"note": flow.note} if flow.note else {}
    return {"path": str(options.out), "kind": kind} | kept | flow.history[flow.kept_epoch] | note


def _rows(rows: ZooDataset, which: str) -> ZooDataset:
    """All rows, or the last checkpoint of each model."""
    if which not in ROWS:
        raise ValueError(f"rows must be one of {ROWS}, got {which!r}")
    return rows.select(last_rows(rows)) if which == "last" else rows


def _settings(given: dict[str, Any]) -> FlowSettings:
    """Settings of known names and types."""
    defaults = {field.name: field.default for field in fields(FlowSettings)}
    if odd := sorted(set(given) - set(defaults)):
        every = sorted({*defaults, LEAST_EPOCH})
        raise ValueError(f"unknown arguments {odd}, known are {every}" + did_you_mean(odd, every))
    for name, value in given.items():
        kind = type(defaults[name])
        allowed = {float: (int, float), tuple: (list, tuple)}.get(kind, (kind,))
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{name} must be like {defaults[name]!r}, got {value!r}")
    if "widths" in given:
        given["widths"] = tuple(given["widths"])
    return FlowSettings(**given)
