"""A trained encoder with everything that prediction of a zoo column from weights needs.

Shape letters: N rows, B models in the batch, D length of the flat vector, H embedding width, K
outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...loaders import ZooDataset
from ...loaders.dataset.checks import check_dataset
from ...zoos.errors import UnsuitableError
from ...zoos.networks.layer_table import LayerTable
from ...zoos.progress import progress_bar
from ..processes import threads
from ..scoring.targets import TargetMapping
from .encoder_making import is_own
from .encoder_reader import EncoderReader
from .weight_scaling import WeightScaler

PREDICTION_BATCH, PREDICTION_BYTES = 64, 2**26  # most rows and bytes of weights in a batch


@dataclass(kw_only=True, eq=False)
class PropertyPredictor:
    """An encoder, the scale of the weights it was trained on, and the target it predicts.

    Attributes:
        module: encoder from (input, layer table) to (B, K), and with `embed` to (B, H); the input
            is what it declares to read, see `encoder_reader.py`.
        target_mapping: mapping between encoder outputs and the target column.
        scaler: scaling of the weights before the encoder.
        training: record of the training (settings, seed, zoos, scores), plain data.
        threads: number of torch threads during prediction on the CPU.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import EncoderSpec, TrainingSettings, train_encoder
        >>> zoo, encoder = load_zoo(ZOO), EncoderSpec("flat-mlp", {"widths": [4]})
        >>> settings = TrainingSettings(epochs=1, progress=False)
        >>> model = train_encoder(encoder, zoo["train"], zoo["val"], "test_accuracy", settings)
        >>> type(model).__name__, model.training["seed"], model.embed(zoo["test"]).shape
        ('PropertyPredictor', 0, torch.Size([3, 4]))
    """

    module: nn.Module
    target_mapping: TargetMapping
    scaler: WeightScaler
    training: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1

    @property
    def device(self) -> torch.device:
        """Device of the encoder; the CPU if it has no parameters."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    @property
    def target(self) -> str:
        """Name of the column that `predict` predicts."""
        return self.target_mapping.target

    def predict(self, dataset: ZooDataset, progress: bool = False) -> np.ndarray:
        """Predict the target of every row: (N,) numbers, or categories.

        Args:
            dataset: rows to predict.
            progress: whether to show a progress bar on stderr.

        Raises:
            ValueError: if the encoder cannot take the architecture, or weights are not finite.
        """
        return self.target_mapping.predicted(self.outputs(dataset, progress))

    def outputs(self, dataset: ZooDataset, progress: bool = False) -> Tensor:
        """Encoder outputs of every row, (N, K); arguments and errors are those of `predict`.

        Args:
            dataset: rows to encode.
            progress: whether to show a progress bar on stderr.
        """
        return self._all_rows(self.module, dataset, progress)

    def embed(self, dataset: ZooDataset, progress: bool = False) -> Tensor:
        """The embedding of every row, (N, H), float32.

        Args:
            dataset: rows to embed.
            progress: whether to show a progress bar on stderr.

        Raises:
            ValueError: if the encoder has no embedding, or for the reasons in `predict`.
        """
        if not callable(embed := getattr(self.module, "embed", None)):
            raise ValueError(f"{type(self.module).__name__} has no embedding, only predictions")
        return self._all_rows(embed, dataset, progress)

    def _all_rows(
        self, function: Callable[[Any, LayerTable], Tensor], dataset: ZooDataset, progress: bool
    ) -> Tensor:
        dataset = check_dataset(dataset, type(self).__name__)
        table = dataset.layer_table
        self.scaler.check(table)
        own_table = getattr(self.module, "layer_table", table)
        if is_own(type(self.module)) and own_table != table:
            raise UnsuitableError(
                f"{type(self.module).__name__} was made for another architecture than that of zoo "
                f"{dataset.name!r}: train it on this zoo, or choose a zoo of its architecture"
            )
        if not len(dataset):
            raise ValueError(f"zoo {dataset.name!r} has no rows to predict")
        self.module.eval()
        parts = list[Tensor]()
        with (
            torch.no_grad(),
            threads(self.threads),
            progress_bar(len(dataset), dataset.name, "row", progress) as bar,
        ):

            def check(weights: Tensor) -> None:
                flat = weights.flatten(0, -2)
                check_finite(flat, dataset.name, sum(len(part) for part in parts))
                bar.update(len(flat))

            reader = EncoderReader(self.module, self.scaler)
            rows = min(PREDICTION_BATCH, PREDICTION_BYTES // (4 * dataset.source.width))
            loader = reader.loader(
                dataset,
                max(1, rows),
                self.device,
                shuffle=False,
                mode="streaming",
                check=check,
            )
            for batch in loader:
                parts.append(function(reader.given(batch), table).float().cpu())
        return torch.cat(parts)

    def rows_of(self, dataset: ZooDataset) -> ZooDataset:
        """The rows that predictions belong to: all, or the last checkpoint of every model."""
        return EncoderReader(self.module, self.scaler).rows_of(dataset)


def check_finite(weights: Tensor, name: str, first_row: int = 0) -> None:
    """Reject weights with NaN or infinity.

    Args:
        weights: weights to check, (B, D).
        name: name of the zoo, for the message.
        first_row: row number of the first of the weights.

    Raises:
        ValueError: if a weight is not finite; the first such row is named.
    """
    finite = torch.isfinite(weights).all(dim=1)
    if not finite.all():
        row = first_row + int((~finite).nonzero()[0])
        raise ValueError(
            f"weights of row {row} of zoo {name!r} are not finite: leave such rows out, e.g. "
            "with usable_rows(...) or filter(\"status == 'ok'\")"
        )
