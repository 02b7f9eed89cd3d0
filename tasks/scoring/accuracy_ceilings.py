"""How well test accuracy can be predicted at all: what measuring it on few images allows.

Test accuracy on n images is a draw: the same network on n other images has another one. Three
figures stand beside the scores of predictors, because the largest tau_b (Kendall's rank
correlation) of predictors without ties says nothing about that noise:

- the measurement ceiling, the expected tau_b between two binomial draws with the networks' own
  accuracies. A predictor that knows every network's accuracy exactly does not rank one draw much
  better. Measured accuracies spread more than true ones do, so the ceiling is on the high side.
- the oracle, accuracy on val images, which running the networks on labelled images tells.
- scores of the models above chance alone, since models at chance have no order.

Shape letters: N rows.
"""

from dataclasses import dataclass

import numpy as np

from ...loaders import ZooDataset
from .metrics import kendall_tau

TARGET, ORACLE = "test_accuracy", "val_accuracy"
MOST_IMAGES, LEAST_VALUES = 100_000, 10
DRAWS = 20
DEVIATIONS = 3.0  # of chance on n images, above which a model counts as above chance


@dataclass(frozen=True, kw_only=True)
class AccuracyCeilings:
    """Ceilings of predictions of test accuracy in some rows; None where one is not known.

    Attributes:
        images: number of test images.
        measurement: expected tau_b between two measurements on as many images.
        oracle: tau_b of accuracy on val images.
        above_chance: share of the rows above chance.
    """

    images: int | None
    measurement: float | None
    oracle: float | None
    above_chance: float | None


def accuracy_ceilings(dataset: ZooDataset, target: str) -> AccuracyCeilings | None:
    """Ceilings of the rows of a dataset; None if the target is not test accuracy.

    Args:
        dataset: N rows, with a finite target.
        target: name of the target column.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.tasks.scoring.accuracy_ceilings import accuracy_ceilings
        >>> accuracy_ceilings(load_zoo(ZOO, split="test"), "epoch") is None
        True
    """
    if target != TARGET or len(dataset) < 2:
        return None
    true = np.asarray(dataset.columns[target], np.float64)
    images = image_count(true)
    above = rows_above_chance(dataset, target)
    return AccuracyCeilings(
        images=images,
        measurement=None if images is None else _finite(measurement_ceiling(true, images)),
        oracle=_oracle(dataset, true),
        above_chance=None if above is None else float(above.mean()),
    )


def image_count(accuracies: np.ndarray) -> int | None:
    """Number of images that accuracies were measured on, the smallest that fits all of them.

    Every accuracy is a whole number of images divided by it. None if there are fewer than
    `LEAST_VALUES` different accuracies, if none up to `MOST_IMAGES` fits, as for means of several
    measurements, or if a value is no share.

    Args:
        accuracies: accuracies in float32 precision, (N,).

    Example:
        >>> import numpy as np
        >>> from weightzoo.tasks.scoring.accuracy_ceilings import image_count
        >>> image_count(np.arange(40, 100).astype(np.float32) / 300)
        300
    """
    values = np.unique(np.asarray(accuracies, np.float64))
    if len(values) < LEAST_VALUES or values.min() < 0 or values.max() > 1:
        return None
    counts = np.arange(1, MOST_IMAGES + 1)
    for part in np.array_split(values, max(1, len(values) // 8)):  # most counts fail at once
        right = part[:, None] * counts
        rounding = 2e-7 * counts + 1e-9  # float32
        counts = counts[(np.abs(right - right.round()) <= rounding).all(0)]
    return int(counts[0]) if len(counts) else None


def measurement_ceiling(
    accuracies: np.ndarray, images: int, draws: int = DRAWS, seed: int = 0
) -> float:
    """Expected tau_b between two binomial draws with given accuracies; NaN if all are certain.

    Args:
        accuracies: accuracies, (N,).
        images: number of images of a draw.
        draws: number of pairs of draws.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    pairs = rng.binomial(images, np.asarray(accuracies, np.float64), (draws, 2, len(accuracies)))
    return float(np.mean([kendall_tau(one, other) for one, other in pairs]))


def rows_above_chance(dataset: ZooDataset, target: str) -> np.ndarray | None:
    """Whether test accuracy is above chance by more than noise explains, (N,).

    Chance is one in the number of classes; the noise is its binomial deviation on the test images.

    Args:
        dataset: N rows, with a finite target.
        target: name of the target column.

    Returns:
        None if the target is not test accuracy, or the number of classes or images is not known.
    """
    architecture = dataset.header.architecture
    if target != TARGET or architecture is None:
        return None
    true = np.asarray(dataset.columns[target], np.float64)
    outputs, images = architecture.shapes()[-1], image_count(true)
    if images is None or len(outputs) != 1 or outputs[0] < 2:
        return None
    chance = 1 / outputs[0]
    above: np.ndarray = true > chance + DEVIATIONS * np.sqrt(chance * (1 - chance) / images)
    return above


def _oracle(dataset: ZooDataset, true: np.ndarray) -> float | None:
    """tau_b of accuracy on val images."""
    if ORACLE not in dataset.columns:
        return None
    known = np.asarray(dataset.columns[ORACLE], np.float64)
    return _finite(kendall_tau(true, known)) if np.isfinite(known).all() else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
