"""Dilation of the images that implicit neural representations (INRs) store.

Source: NFN (neural functional networks, Zhou et al. 2023, arXiv 2302.14040): an editor changes the
weights of an INR so that its rendered image is the dilated one; the score is the mean squared error
of the rendered image. Outputs of several editors are averaged as in arXiv 2602.01083. Published
errors are of pixels in [-1, 1], four times those of pixels in [0, 1], as here.

Shape letters: N rows, B networks of a batch, P points, C channels, H height, W width, E editors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...loaders import LayerStandardization, ZooDataset
from ...zoos.errors import UnsuitableError
from ...zoos.images.signals import ImageSignals, load_signals
from ...zoos.networks.architectures import Architecture
from ..processes import threads
from ..scoring.bootstrap import LEVEL
from .weight_editor import WeightEditor

KERNEL = 3
BATCH = 64
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class EditingSettings:
    """Settings of the training of an editor.

    Attributes:
        epochs: passes over the train rows.
        batch_size: networks per step.
        lr: peak learning rate, which a cosine schedule lowers to zero.
        width: channels of every entry of a hidden tensor.
        layers: number of equivariant layers.
    """

    epochs: int = 50
    batch_size: int = 32
    lr: float = 1e-3
    width: int = 16
    layers: int = 3


def dilated(images: Tensor, kernel: int = KERNEL) -> Tensor:
    """The largest value in a square around each pixel, without values beyond the border.

    Args:
        images: images, (N, C, H, W).
        kernel: side of the square, odd.
    """
    return F.max_pool2d(images, kernel, stride=1, padding=kernel // 2)


def render(architecture: Architecture, weights: Tensor, points: Tensor) -> Tensor:
    """Outputs of networks at points, with gradients for the weights.

    Args:
        architecture: architecture of the networks.
        weights: flat weights, (B, D).
        points: coordinates, (P, F).

    Returns:
        (B, P, C).
    """
    module = architecture.module()
    table = architecture.layer_table()
    state = {
        spec.name: weights[:, spec.offset : spec.offset + spec.size].unflatten(1, spec.shape)
        for spec in table
    }

    def one(parameters: dict[str, Tensor]) -> Tensor:
        found: Tensor = torch.func.functional_call(module, parameters, (points,))
        return found

    return torch.func.vmap(one)(state)


def train_editor(
    train: ZooDataset, settings: EditingSettings | None = None, seed: int = 0
) -> WeightEditor:
    """Train an editor to dilate the images of INRs.

    Args:
        train: train rows with the column `image_index`.
        settings: settings of the training; None takes the defaults.
        seed: seed of the initial weights and of the order of the rows.

    Raises:
        UnsuitableError: if the rows are no INRs of images that the zoo records.
    """
    settings = settings or EditingSettings()
    architecture, points, targets = _task(train)
    with threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        editor = WeightEditor(LayerStandardization.fit(train), settings.width, settings.layers)
        optimizer = torch.optim.Adam(editor.parameters(), settings.lr)
        steps = settings.epochs * -(-len(train) // settings.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(settings.epochs):
            for rows in torch.randperm(len(train)).split(settings.batch_size):
                outputs = render(architecture, editor(train.weights(rows)), points)
                loss = (outputs - targets[rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return editor.eval()


def editing_error(editors: Sequence[WeightEditor], rows: ZooDataset) -> dict[str, Any]:
    """Mean squared error of the images that edited networks render, over all pixels.

    With several editors the outputs of the networks that they make are averaged.

    Args:
        editors: E trained editors.
        rows: rows with the column `image_index`.

    Returns:
        "mse" and its 95 % interval over networks, "single" (mean over the editors, each by itself),
        and "unedited" (the networks as they are).

    Raises:
        ValueError: if there is no editor.
        UnsuitableError: if the rows are no INRs of images that the zoo records.
    """
    if not editors:
        raise ValueError("editing_error needs at least one editor, got none")
    architecture, points, targets = _task(rows)
    errors, single, unedited = [], [], []
    with threads(1), torch.no_grad():
        for block, wanted in zip(rows.weight_blocks(BATCH), targets.split(BATCH), strict=True):
            made = torch.stack([render(architecture, edit(block), points) for edit in editors])
            errors.append(_error(made.mean(0), wanted))
            single.append(torch.stack([_error(one, wanted) for one in made]).mean(0))
            unedited.append(_error(render(architecture, block, points), wanted))
    found = torch.cat(errors).double().numpy()
    draws = np.random.default_rng(0).integers(0, len(found), (RESAMPLES, len(found)))
    ends = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    return {
        "mse": float(found.mean()),
        "interval": [float(end) for end in np.percentile(found[draws].mean(axis=1), ends)],
        "single": float(torch.cat(single).mean()),
        "unedited": float(torch.cat(unedited).mean()),
        "editors": len(editors),
        "rows": len(found),
    }


def _error(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error of each network, (B,)."""
    return (outputs - wanted).square().mean(dim=(1, 2))


def _task(rows: ZooDataset) -> tuple[Architecture, Tensor, Tensor]:
    """Architecture, points (P, F) and dilated images (N, P, C) of INRs."""
    name, architecture = rows.header.recipe.get("images"), rows.header.architecture
    signals = load_signals(name) if isinstance(name, str) and name.endswith("-inr") else None
    has_index = "image_index" in rows.columns
    if architecture is None or not isinstance(signals, ImageSignals) or not has_index:
        raise UnsuitableError(
            f"zoo {rows.name!r} holds no INRs of a known image set with the column 'image_index': "
            "build one with `weightzoo build digits-inr`"
        )
    images = dilated(signals.images[rows.columns["image_index"].tolist()])
    return architecture, signals.inputs, images.flatten(2).transpose(1, 2)
