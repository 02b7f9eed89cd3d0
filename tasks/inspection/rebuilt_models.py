"""Rebuilds models of a zoo and compares them with their recorded test measures.

The measure of a classifier is its accuracy on the test images, that of a language model the share
of test bytes that it predicts. The measure of an implicit neural
representation (INR) is its squared error on the test coordinates of its own signal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...builders.training.objectives import DataSet, load_data
from ...loaders.load import ZooDataset
from ...zoos.errors import RecipeError, ZooFormatError
from ...zoos.format import ZooHeader
from ...zoos.images.signals import SignalSet
from ...zoos.texts.text_set import TextSet

# A rebuilt model may change its class of an image whose two best logits differ in the last digits.
FLIPPED_IMAGES = 1
FLIPPED_SHARE = 1e-3  # of the bytes of a text
WINDOW_BATCH = 64
RELATIVE_LOSS, ABSOLUTE_LOSS = 1e-2, 1e-6  # of an INR: another order of sums, omega 30 twice


@dataclass(frozen=True)
class Difference:
    """Difference between the measured and the recorded value of one rebuilt model.

    Attributes:
        row: split and row number, as text.
        size: absolute difference.
        allowed: largest difference that rounding explains.
    """

    row: str
    size: float
    allowed: float


def training_data(header: ZooHeader) -> DataSet:
    """Load the image set or signal set that the models of a zoo were trained on.

    Raises:
        RecipeError: if the zoo records no set, or it is unknown or cannot be fetched.
        ZooFormatError: if its fingerprint differs from the recorded one.
    """
    images = header.provenance.get("images") or {}
    if not images:
        raise RecipeError("the zoo records no image set")
    name = str(images.get("name"))
    data = load_data(name)
    if data.fingerprint != images.get("fingerprint"):
        raise ZooFormatError(f"image set {name!r} has another fingerprint than recorded")
    return data


def rebuilt_differences(
    zoo: Mapping[str, ZooDataset], data: DataSet, models: int, seed: int
) -> Iterator[Difference]:
    """Rebuild random rows with status "ok" and measure them.

    Args:
        zoo: dataset by split.
        data: image set or signal set of the zoo.
        models: number of rows.
        seed: seed of the random rows.
    """
    rows = [
        (split, int(row))
        for split, dataset in zoo.items()
        for row in np.flatnonzero(dataset.columns["status"] == "ok")
    ]
    for index in np.random.default_rng(seed).permutation(len(rows))[:models]:
        split, row = rows[index]
        columns = {name: column[row] for name, column in zoo[split].columns.items()}
        with torch.no_grad():
            size, allowed = measured_difference(zoo[split].module(row), columns, data)
        yield Difference(f"{split} row {row}", size, allowed)


def measured_difference(
    module: nn.Module, columns: Mapping[str, object], data: DataSet
) -> tuple[float, float]:
    """Measure a network, and compare it with its recorded value.

    Args:
        module: network in eval mode.
        columns: value of its row by column.
        data: image set, text set or signal set to measure it on.

    Returns:
        The absolute difference, and the largest difference that rounding explains.
    """
    if isinstance(data, SignalSet):
        signal = {name: columns[name] for name in data.property_names}
        target = data.targets([signal], "test")[0]  # type: ignore[list-item]
        loss = float(F.mse_loss(module(data.test_inputs), target))
        recorded = float(columns["test_loss"])  # type: ignore[arg-type]
        return abs(loss - recorded), RELATIVE_LOSS * recorded + ABSOLUTE_LOSS
    if isinstance(data, TextSet):
        return _text_difference(module, columns, data)
    predicted = module(data.test.pixels).argmax(1)
    accuracy = float((predicted == data.test.labels).double().mean())
    recorded = float(columns["test_accuracy"])  # type: ignore[arg-type]
    return abs(accuracy - recorded), FLIPPED_IMAGES / len(data.test)


def _text_difference(
    module: nn.Module, columns: Mapping[str, object], data: TextSet
) -> tuple[float, float]:
    """Difference of the share of bytes that are predicted right, and the allowed one."""
    right = [
        (module(tokens).argmax(-1) == labels).double().mean(1)
        for tokens, labels in zip(
            data.test.tokens.split(WINDOW_BATCH), data.test.labels.split(WINDOW_BATCH), strict=True
        )
    ]
    recorded = float(columns["test_accuracy"])  # type: ignore[arg-type]
    return abs(float(torch.cat(right).mean()) - recorded), FLIPPED_SHARE
