"""Training of an encoder on one zoo or several, as a function and as a predictor.

Shape letter: N rows.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...loaders import ZooDataset
from ...loaders.dataset.checks import check_datasets
from ..processes import threads
from ..random_states import own_random_numbers
from .checkpoints import TrainingCheckpoint
from .encoder_making import EncoderFactory, EncoderSpec
from .encoder_training import EncoderTraining
from .property_predictor import PropertyPredictor
from .settings import TrainingSettings

Zoos = ZooDataset | Sequence[ZooDataset]


class EncoderRegressor:
    """A `Predictor` that trains an encoder from scratch on every fit.

    Attributes:
        trained: trained encoder of the last fit.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import EncoderSpec, TrainingSettings, EncoderRegressor
        >>> zoo, encoder = load_zoo(ZOO), EncoderSpec("flat-mlp", {"widths": [4]})
        >>> settings = TrainingSettings(epochs=1, progress=False)
        >>> regressor = EncoderRegressor("MLP", encoder, settings)
        >>> regressor.fit(zoo["train"], zoo["val"], "test_accuracy", seed=0)
        >>> regressor.predict(zoo["test"]).shape
        (3,)
    """

    seeded = True
    trained: PropertyPredictor

    def __init__(
        self,
        name: str = "SNE",
        encoder: EncoderFactory = EncoderSpec("sne"),  # noqa: B008 - frozen
        settings: TrainingSettings | None = None,
    ) -> None:
        """Store the encoder and its training settings.

        Args:
            name: name in the report.
            encoder: encoder to train.
            settings: training settings; None takes the defaults.
        """
        self.name = name
        self.encoder = encoder
        self.settings = settings or TrainingSettings()

    def fit(self, train: Zoos, val: Zoos, target: str, seed: int) -> None:
        """Train from scratch; errors are those of `train_encoder`.

        Args:
            train: zoos of the train split.
            val: zoos of the val split.
            target: name of the target column.
            seed: seed of the training.
        """
        self.trained = train_encoder(self.encoder, train, val, target, self.settings, seed)

    def predict(self, dataset: ZooDataset) -> np.ndarray:
        """Predict the target of every row, (N,)."""
        return self.trained.predict(dataset)


def train_encoder(
    encoder: EncoderFactory,
    train: Zoos,
    val: Zoos,
    target: str,
    settings: TrainingSettings | None = None,
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = True,
) -> PropertyPredictor:
    """Train an encoder; keep the weights of the epoch with the best score on the val split.

    Every process of `torch.distributed` takes `batch_size` rows of a step, so that the steps are
    those of one process with the batch of all of them. The invariance penalty and dropout are drawn
    by each process.

    Args:
        encoder: encoder to train.
        train: train rows, of one zoo or of several zoos; datasets, or streams of `load_zoo`.
        val: val rows, which the epoch is chosen on.
        target: name of the target column, of text or numbers.
        settings: training settings; None takes the defaults.
        seed: seed of initial weights, order of the data, dropout and permutations.
        folder: folder for a checkpoint after every epoch, and within an epoch every
            `CHECKPOINT_SECONDS`; None writes no checkpoint.
        resume: whether to continue from a checkpoint in the folder. The result equals that of an
            uninterrupted run.

    Raises:
        TypeError: if train or val is no dataset, nor several in a list, or the encoder is a text.
        ValueError: before any training: if the target is missing or not finite, or constant in
            the train rows or in the val rows of a zoo, if weights are not finite, if the encoder
            cannot take an architecture, or if the checkpoint in the folder belongs to another
            training, version of weightzoo or format.
        DivergedError: if training diverges before any epoch has a score.
        DeviceMemoryError: if a step does not fit the memory of the device.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks import EncoderSpec, TrainingSettings, train_encoder
        >>> zoo, encoder = load_zoo(ZOO), EncoderSpec("flat-mlp", {"widths": [4]})
        >>> settings = TrainingSettings(epochs=1, progress=False)
        >>> model = train_encoder(encoder, zoo["train"], zoo["val"], "test_accuracy", settings)
        >>> model.target, model.predict(zoo["test"]).shape
        ('test_accuracy', (3,))
    """
    settings = settings or TrainingSettings()
    checkpoint = TrainingCheckpoint(folder) if folder is not None else None
    if checkpoint is not None and not resume:
        checkpoint.discard()
    with own_random_numbers(seed, settings.device), threads(settings.threads):
        training = EncoderTraining(encoder, _zoos(train), _zoos(val), target, settings, seed)
        return training.run(checkpoint)


def _zoos(zoos: Zoos) -> tuple[ZooDataset, ...]:
    one = isinstance(zoos, ZooDataset) or hasattr(zoos, "as_zoo")
    return tuple(check_datasets((zoos,) if one else zoos, "train_encoder"))
