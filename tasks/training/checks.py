"""Checks of zoos and encoders before a training starts."""

import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...loaders import ZooDataset
from ...zoos.errors import UnsuitableError, did_you_mean
from ...zoos.networks.batched import NetworkBatch
from ..scoring.targets import is_text
from .encoder_making import is_own, untied_encoders
from .encoder_reader import ACTIVATION, EncoderReader
from .property_predictor import check_finite
from .weight_scaling import WeightScaler

MIN_ROWS = {"train": 10, "val": 2}
PROBED_ROWS = 2


def check_zoos(train: Sequence[ZooDataset], val: Sequence[ZooDataset], target: str) -> None:
    """Reject zoos that cannot be trained on.

    Args:
        train: zoos of the train split.
        val: zoos of the val split.
        target: name of the target column.

    Raises:
        ValueError: if there is no zoo or too few rows, if the target is not a column or has
            values that are not finite, or if a weight is not finite.
    """
    for split, zoos in {"train": train, "val": val}.items():
        rows = sum(len(zoo) for zoo in zoos)
        if rows < MIN_ROWS[split] or min(map(len, zoos)) < 2:
            found = " and ".join(f"{len(zoo)} rows of zoo {zoo.name!r}" for zoo in zoos)
            raise UnsuitableError(
                f"split {split!r} has {found} with finite weights and {target!r}; at least "
                f"{MIN_ROWS[split]} are needed, and 2 in every zoo: build a larger zoo, or choose "
                "another target"
            )
        for zoo in zoos:
            check_target(zoo, target)
            first = 0
            for weights in zoo.weight_blocks():
                check_finite(weights, zoo.name, first)
                first += len(weights)


def check_target(zoo: ZooDataset, target: str) -> None:
    """Reject a target column that is missing or not finite.

    Args:
        zoo: zoo with the column.
        target: name of the target column.

    Raises:
        ValueError: if the column is missing (the columns are listed) or has values that are not
            finite (they are counted).
    """
    if target not in zoo.columns:
        raise ValueError(
            f"zoo {zoo.name!r} has no column {target!r} to predict, it has {sorted(zoo.columns)}"
            + did_you_mean(target, zoo.columns)
        )
    true = zoo.columns[target]
    if not is_text(true) and (odd := int((~np.isfinite(true)).sum())):
        raise ValueError(
            f"target {target!r} is not finite in {odd} of {len(true)} rows of zoo {zoo.name!r}: "
            "leave such rows out, e.g. with usable_rows(...), or choose another target"
        )


def check_val_varies(val: Sequence[ZooDataset], target: str) -> None:
    """Reject val rows with a constant target, which no epoch can be chosen by.

    Args:
        val: zoos of the val split; each zoo is scored separately.
        target: name of a numeric target column.

    Raises:
        ValueError: if the target is constant in one of them.
    """
    for zoo in val:
        true = zoo.columns[target]
        if true.min() == true.max():
            raise UnsuitableError(
                f"target {target!r} is {true[0]} in all {len(true)} val rows of zoo {zoo.name!r}: "
                "no epoch can be chosen by tau_b; take more val rows, another target, or "
                "TrainingSettings(select='mse')"
            )


def check_architecture(module: nn.Module, zoo: ZooDataset) -> None:
    """Reject an encoder that cannot take the architecture of a zoo.

    Args:
        module: the encoder.
        zoo: zoo of at least `PROBED_ROWS` rows, or models for an encoder of trajectories.

    Raises:
        ValueError: if the encoder rejects the weights. The message has the encoder's own reason
            and the names of the encoders for any architecture. The error is an `UnsuitableError`
            if the encoder raises one.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    mode, unscaled = module.training, EncoderReader(module, WeightScaler("none", {}))
    loader = unscaled.loader(zoo, PROBED_ROWS, device, mode="streaming")
    try:
        with torch.no_grad():
            [batch] = loader.read([np.arange(PROBED_ROWS)])
            given = unscaled.given(batch)
            _check_outputs(module, module.eval()(given, zoo.layer_table))
    except (ValueError, NotImplementedError) as error:
        kind = UnsuitableError if isinstance(error, UnsuitableError) else ValueError
        raise kind(
            f"{type(module).__name__} cannot take zoo {zoo.name!r}: {error} (the encoders for any "
            f"architecture are {untied_encoders()})"
        ) from error
    except (RuntimeError, TypeError, AttributeError, LookupError) as error:
        if not is_own(type(module)):
            raise  # a fault of ours
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"{type(module).__name__} fails on zoo {zoo.name!r}: {type(error).__name__}: {error} "
            f"(line {last.lineno} of {last.filename}); forward gets {_described(given)} and a "
            f"layer table, and must return {PROBED_ROWS} rows of outputs"
        ) from error
    finally:
        module.train(mode)


def _described(given: Any) -> str:
    """The input of an encoder in words."""
    if isinstance(given, torch.Tensor):
        return f"weights {tuple(given.shape)}"
    if isinstance(given, NetworkBatch):
        return f"a NetworkBatch with weights {tuple(given.weights.shape)}"
    return f"a dict of tensors { {name: tuple(one.shape) for name, one in given.items()} }"


def _check_outputs(module: nn.Module, outputs: object) -> None:
    """Reject what is not one row of outputs per row of weights."""
    if isinstance(outputs, torch.Tensor) and outputs.ndim == 2 and len(outputs) == PROBED_ROWS:
        return
    found = f"shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else repr(outputs)
    raise ValueError(
        f"it must return a tensor (B, outputs), here with B = {PROBED_ROWS}, and returned {found}"
    )


def check_not_read(reads: str, target: str) -> None:
    """Reject a target that the encoder is handed with the weights.

    Args:
        reads: declared input of the encoder.
        target: name of the target column.

    Raises:
        UnsuitableError: if the encoder runs networks with the activation function to predict.
    """
    if reads == "networks" and target == ACTIVATION:
        raise UnsuitableError(
            "an encoder that runs networks is handed their activation functions, so it cannot be "
            f"asked for the column {ACTIVATION!r}: take an encoder that reads weights, such as "
            "'sne'"
        )


def check_embedding(module: nn.Module) -> None:
    """Reject an encoder without embedding for a penalty on the embedding.

    Raises:
        ValueError: if it has no method `embed`.
    """
    if not callable(getattr(module, "embed", None)):
        raise ValueError(
            f"{type(module).__name__} has no embedding: use invariance_on='prediction'"
        )
