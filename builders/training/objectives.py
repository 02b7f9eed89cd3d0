"""Training objectives: image classification, prediction of the next byte, regression of a signal.

Shape letters: M models, N images, windows or points, B of them in a batch, F coordinates of a
point, T tokens of a window, O outputs (classes, tokens, or values of a signal). The layout of
inputs is that of `population`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.errors import BuildError
from ...zoos.images.catalog import load_images
from ...zoos.images.image_set import Images, ImageSet
from ...zoos.images.signals import SignalSet, is_signal_set, load_signals
from ...zoos.recipe import Model
from ...zoos.texts.text_set import TextSet, Windows, is_text_set, load_texts
from ..population.population import Population
from .image_augmentation import Augmentation

EVALUATION_BATCH = {"cpu": 64, "cuda": 1024}  # activations of 64 images fit a core's cache
EVALUATION_SHARE, COPIES = 0.25, 4  # of a GPU's memory; values held per output, patches included
PARTS = ("train", "val", "test")

WINDOW_BATCH = 16  # windows of an evaluation

DataSet = ImageSet | SignalSet | TextSet
Batch = tuple[Tensor, Tensor]


def load_data(name: str) -> DataSet:
    """Load the image set, text set or signal set of a recipe."""
    if is_text_set(name):
        return load_texts(name)
    return load_signals(name) if is_signal_set(name) else load_images(name)


def training_size(data: DataSet) -> int:
    """Number of training images, windows or points."""
    return len(data.inputs) if isinstance(data, SignalSet) else len(data.train)


def output_size(data: DataSet) -> int:
    """Number of outputs of a model: one logit per class or token, or the values of a signal."""
    return data.outputs if isinstance(data, SignalSet) else data.classes


def output_shape(data: DataSet) -> tuple[int, ...]:
    """Shape of a model's output for one input; a language model has logits at every token."""
    size = output_size(data)
    return (*data.shape, size) if isinstance(data, TextSet) else (size,)


def signal_columns(data: DataSet, models: Sequence[Model]) -> dict[str, np.ndarray]:
    """Properties of each model's signal, (M,) by name; empty for image classifiers.

    Args:
        data: image set or signal set of the population.
        models: M models.

    Raises:
        BuildError: if models of two splits fit the same image, which would leak between splits.
    """
    if not isinstance(data, SignalSet):
        return {}
    signals = [data.draw(model.seed) for model in models]
    splits: dict[float | int, str] = {}
    for model, signal in zip(models, signals, strict=True):
        image = signal.get("image_index", len(splits))
        if splits.setdefault(image, model.split) != model.split:
            raise BuildError(
                f"image {image} of {data.name!r} would be in the splits {splits[image]!r} and "
                f"{model.split!r}: give the recipe seed_kind = 'fixed', no grid, and at most as "
                "many seeds as there are images"
            )
    return {name: np.array([signal[name] for signal in signals]) for name in data.property_names}


class Classification:
    """Classification of images by mean cross-entropy."""

    def __init__(
        self, data: ImageSet, models: Sequence[Model], device: torch.device | str = "cpu"
    ) -> None:
        """Copy the images to the device.

        Args:
            data: image set.
            models: M models of one cohort.
            device: training device.

        Raises:
            ValueError: if the models differ in augmentation.
        """
        self._parts = {
            name: Images(part.pixels.to(device), part.labels.to(device))
            for name, part in zip(PARTS, (data.train, data.val, data.test), strict=True)
        }
        black = [-m / d for m, d in zip(data.mean, data.deviation, strict=True)]
        seeds = [model.seed for model in models]
        names = {model.hyper_parameters.augmentation for model in models}
        if len(names) > 1:
            raise ValueError(f"a cohort must have one augmentation, got {sorted(names)}")
        self._augment = Augmentation(names.pop(), seeds, black or [0.0] * data.shape[0])

    def batch(self, positions: Tensor) -> Batch:
        """Each model's train images, augmented: ((M, H, C, W, B), labels (M, B))."""
        return gather(self._parts["train"], positions, self._augment)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each model, (M,).

        Args:
            outputs: logits, (M, O, B).
            labels: class indices, (M, B).
        """
        return F.cross_entropy(outputs, labels, reduction="none").mean(1)

    def evaluate(self, population: Population, part: str, subsets: Tensor | None) -> Tensor:
        """Loss and accuracy of each model, (2, M); see `evaluate`.

        Args:
            population: M models.
            part: "train", "val" or "test".
            subsets: image indices of each model, (M, n); None takes all images.
        """
        return evaluate(population, self._parts[part], subsets)


class NextByte:
    """Prediction of every next byte of a text by mean cross-entropy, in nats per byte."""

    def __init__(
        self, data: TextSet, models: Sequence[Model], device: torch.device | str = "cpu"
    ) -> None:
        """Copy the windows to the device.

        Args:
            data: text set.
            models: M models of one cohort.
            device: training device.

        Raises:
            ValueError: if a model asks for an augmentation, which texts lack.
        """
        odd = {model.hyper_parameters.augmentation for model in models} - {"none"}
        if odd:
            raise ValueError(f"augmentation of a text must be 'none', got {sorted(odd)}")
        self._parts = {
            name: Windows(part.tokens.to(device), part.labels.to(device))
            for name, part in zip(PARTS, (data.train, data.val, data.test), strict=True)
        }

    def batch(self, positions: Tensor) -> Batch:
        """Each model's train windows: (tokens (M, T, B), next bytes (M, B, T))."""
        return _gather_windows(self._parts["train"], positions)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each model, (M,).

        Args:
            outputs: logits, (M, B, T, O).
            labels: next bytes, (M, B, T).
        """
        return _byte_losses(outputs, labels)

    def evaluate(self, population: Population, part: str, subsets: Tensor | None) -> Tensor:
        """Loss and share of bytes that are predicted right of each model, (2, M).

        Args:
            population: M models.
            part: "train", "val" or "test".
            subsets: window numbers of each model, (M, n); None takes all windows.
        """
        return evaluate_windows(population, self._parts[part], subsets)


class SignalRegression:
    """Regression of each model's own signal by mean squared error."""

    def __init__(
        self, data: SignalSet, models: Sequence[Model], device: torch.device | str = "cpu"
    ) -> None:
        """Compute the models' signals and copy them to the device.

        Args:
            data: signal set.
            models: M models of one cohort.
            device: training device.
        """
        signals = [data.draw(model.seed) for model in models]
        self._parts = {
            name: (
                data.part_inputs(name).T.contiguous().to(device)[None],  # (1, F, N)
                data.targets(signals, name).transpose(1, 2).contiguous().to(device),  # (M, O, N)
            )
            for name in PARTS
        }

    def batch(self, positions: Tensor) -> Batch:
        """Each model's points: ((M, F, B), targets (M, O, B)); shared points, if all are taken."""
        x, targets = self._parts["train"]
        if positions.shape[1] == x.shape[2]:
            return x, targets
        positions = positions[:, None].to(x.device)
        inputs = x.expand(len(positions), -1, -1).gather(2, positions.expand(-1, x.shape[1], -1))
        return inputs, targets.gather(2, positions.expand(-1, targets.shape[1], -1))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of each model, (M,).

        Args:
            outputs: predicted values, (M, O, B).
            targets: values of the signals, (M, O, B).
        """
        return (outputs - targets).square().mean((1, 2))

    def evaluate(self, population: Population, part: str, subsets: Tensor | None) -> Tensor:
        """Loss of each model, and NaN for the accuracy, which a regression lacks: (2, M).

        Args:
            population: M models.
            part: "train", "val" or "test".
            subsets: point indices of each model, (M, n); None takes all points.
        """
        x, targets = self._parts[part]
        if subsets is not None:
            x, targets = self.batch(subsets)
        with torch.no_grad():
            losses = self.losses(population.outputs(x), targets)
        losses[~losses.isfinite()] = torch.nan
        return torch.stack([losses, torch.full_like(losses, torch.nan)])


def make_objective(
    data: DataSet, models: Sequence[Model], device: torch.device | str
) -> Classification | NextByte | SignalRegression:
    """Make the objective of a cohort, by the kind of its data.

    Args:
        data: image set, text set or signal set.
        models: M models of one cohort.
        device: training device.
    """
    if isinstance(data, SignalSet):
        return SignalRegression(data, models, device)
    if isinstance(data, TextSet):
        return NextByte(data, models, device)
    return Classification(data, models, device)


def gather(images: Images, positions: Tensor, augment: Augmentation | None = None) -> Batch:
    """Select each model's images.

    Args:
        images: N images.
        positions: image indices, (M, B).
        augment: augmentation of the selected images; None changes nothing.

    Returns:
        Pixels (M, H, C, W, B) and labels (M, B).
    """
    positions = positions.to(images.labels.device)
    picked = images.pixels.flatten(1).index_select(0, positions.flatten())
    shape = images.pixels.shape[1:]
    if augment is not None:
        picked = augment(picked.view(-1, *shape))
    x = picked.view(*positions.shape, *shape).permute(0, 3, 2, 4, 1)
    return x.contiguous(), images.labels[positions]


def evaluate(population: Population, images: Images, subsets: Tensor | None) -> Tensor:
    """Mean cross-entropy and accuracy of each model, without dropout.

    If the GPU's memory runs out, batches are halved and the population keeps the size that fits,
    so that a cohort's training is never lost to its evaluation.

    Args:
        population: M models.
        images: N images.
        subsets: image indices that each model is evaluated on, (M, n); None takes all images.

    Returns:
        (2, M): loss and accuracy; both NaN for a model whose logits are not finite.
    """
    while True:
        size = population.evaluation_batch or _evaluation_size(population)
        try:
            return _evaluate(population, images, subsets, size)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        torch.cuda.empty_cache()  # here, where the failed batch's tensors are gone
        population.evaluation_batch = size // 2


def evaluate_windows(population: Population, windows: Windows, subsets: Tensor | None) -> Tensor:
    """Mean cross-entropy of each model, and the share of bytes that it predicts.

    Args:
        population: M language models.
        windows: N windows.
        subsets: window numbers that each model is evaluated on, (M, n); None takes all windows.

    Returns:
        (2, M): loss and accuracy; both NaN for a model whose logits are not finite.
    """
    if subsets is None:
        every = torch.arange(len(windows), device=population.flat.device)
        subsets = every.expand(len(population), -1)
    sums = torch.zeros(2, len(population), device=population.flat.device)
    with torch.no_grad():
        for positions in subsets.split(WINDOW_BATCH, dim=1):
            x, labels = _gather_windows(windows, positions)
            logits = population.outputs(x)
            sums[0] += _byte_losses(logits, labels) * positions.shape[1]
            sums[1] += (logits.argmax(-1) == labels).float().mean(2).sum(1)
    sums /= subsets.shape[1]
    sums[:, ~sums[0].isfinite()] = torch.nan
    return sums


def _gather_windows(windows: Windows, positions: Tensor) -> Batch:
    """Tokens (M, T, B) and next bytes (M, B, T)."""
    positions = positions.to(windows.tokens.device)
    return windows.tokens[positions].mT.contiguous(), windows.labels[positions].long()


def _byte_losses(logits: Tensor, labels: Tensor) -> Tensor:
    losses = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none")
    return losses.view(len(labels), -1).mean(1)


def _evaluation_size(population: Population) -> int:
    """Images per batch; on a GPU the total memory limits them, as it limits a cohort."""
    device = population.flat.device
    most = EVALUATION_BATCH[device.type]
    if device.type == "cpu":
        return most
    memory = torch.cuda.get_device_properties(device).total_memory * EVALUATION_SHARE
    image = 4 * COPIES * len(population) * population.output_values()
    return max(1, min(most, int(memory // image)))


def _evaluate(population: Population, images: Images, subsets: Tensor | None, size: int) -> Tensor:
    count = len(images) if subsets is None else subsets.shape[1]
    sums = torch.zeros(2, len(population), device=population.flat.device)
    with torch.no_grad():
        for start in range(0, count, size):
            stop = min(start + size, count)
            x, labels = _evaluation_batch(images, subsets, start, stop)
            logits = population.outputs(x)
            labels = labels.expand(len(population), -1)
            sums[0] += F.cross_entropy(logits, labels, reduction="none").sum(1)
            sums[1] += (logits.argmax(1) == labels).sum(1)
    sums /= count
    sums[:, ~sums[0].isfinite()] = torch.nan
    return sums


def _evaluation_batch(images: Images, subsets: Tensor | None, start: int, stop: int) -> Batch:
    if subsets is not None:
        return gather(images, subsets[:, start:stop])
    x = images.pixels[start:stop].permute(2, 1, 3, 0).contiguous()
    return x[None], images.labels[None, start:stop]
