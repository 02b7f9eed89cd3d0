"""Dilation of the images that implicit neural representations (INRs) store.

Source: NFN (neural functional networks, Zhou et al. 2023, arXiv 2302.14040): an editor changes the
weights of an INR so that its rendered image is the dilated one; the score is the mean squared error
of the rendered image. Outputs of several editors are averaged as in arXiv 2602.01083. Published
errors are of pixels in [-1, 1], four times those of pixels in [0, 1], as here.

Shape letters: N rows, B networks of a batch, P points, C channels, H height, W width, E editors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...loaders import LayerStandardization, ZooDataset
from ...zoos.errors import UnsuitableError
from ...zoos.images.signals import ImageSignals, load_signals
from ...zoos.networks.architectures import Architecture
from ..processes import threads
from ..random_states import own_random_numbers
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


MakeEditor = Callable[[LayerStandardization, EditingSettings], nn.Module]


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
    train: ZooDataset,
    settings: EditingSettings | None = None,
    seed: int = 0,
    make: MakeEditor | None = None,
) -> nn.Module:
    """Train an editor to dilate the images of INRs.

    Args:
        train: train rows with the column `image_index`.
        settings: settings of the training; None takes the defaults.
        seed: seed of the initial weights and of the order of the rows.
        make: function from the standardization and the settings to an untrained editor, which maps
            flat weights (B, D) to flat weights; None makes a `WeightEditor`.

    Raises:
        UnsuitableError: if the rows are no INRs of images that the zoo records.
    """
    settings = settings or EditingSettings()
    architecture, points, targets = _task(train)
    with threads(1), own_random_numbers(seed):
        editor = (make or equivariant_editor)(LayerStandardization.fit(train), settings)
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


def equivariant_editor(
    standardization: LayerStandardization, settings: EditingSettings
) -> WeightEditor:
    """An untrained `WeightEditor`.

    Args:
        standardization: mean and deviation of each layer.
        settings: settings with the width and the number of layers.
    """
    return WeightEditor(standardization, settings.width, settings.layers)


def editing_error(editors: Sequence[nn.Module], rows: ZooDataset) -> dict[str, Any]:
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
    errors = network_errors(editors, rows)
    found = errors[-1].double().numpy()
    draws = np.random.default_rng(0).integers(0, len(found), (RESAMPLES, len(found)))
    ends = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    return {
        "mse": float(found.mean()),
        "interval": [float(end) for end in np.percentile(found[draws].mean(axis=1), ends)],
        "single": float(errors[:-1].mean()),
        "unedited": float(network_errors([nn.Identity()], rows)[-1].mean()),
        "editors": len(editors),
        "rows": len(found),
    }


def network_errors(editors: Sequence[nn.Module], rows: ZooDataset) -> Tensor:
    """Mean squared error of every edited network, over all pixels.

    Args:
        editors: E trained editors, which map flat weights (B, D) to flat weights.
        rows: N rows with the column `image_index`.

    Returns:
        (E + 1, N): errors of each editor by itself, then those of the average of their outputs.

    Raises:
        ValueError: if there is no editor.
        UnsuitableError: if the rows are no INRs of images that the zoo records.
    """
    if not editors:
        raise ValueError("editing needs at least one editor, got none")
    architecture, points, targets = _task(rows)
    errors = []
    with threads(1), torch.no_grad():
        for block, wanted in zip(rows.weight_blocks(BATCH), targets.split(BATCH), strict=True):
            made = torch.stack([render(architecture, edit(block), points) for edit in editors])
            every = torch.cat([made, made.mean(0, keepdim=True)])
            errors.append(torch.stack([_error(one, wanted) for one in every]))
    return torch.cat(errors, dim=1)


def refitted_errors(rows: ZooDataset, steps: int, lr: float) -> Tensor:
    """Errors of networks that are trained further on their dilated images, a ceiling for editors.

    Args:
        rows: N rows with the column `image_index`.
        steps: steps of Adam with all pixels, from the stored weights.
        lr: peak learning rate, which a cosine schedule lowers to zero.

    Returns:
        (N,).

    Raises:
        UnsuitableError: if the rows are no INRs of images that the zoo records.
    """
    architecture, points, targets = _task(rows)
    errors = []
    with threads(1):
        for block, wanted in zip(rows.weight_blocks(BATCH), targets.split(BATCH), strict=True):
            weights = block.clone().requires_grad_()
            optimizer = torch.optim.Adam([weights], lr)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                optimizer.zero_grad()
                _error(render(architecture, weights, points), wanted).sum().backward()
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                errors.append(_error(render(architecture, weights, points), wanted))
    return torch.cat(errors)


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
