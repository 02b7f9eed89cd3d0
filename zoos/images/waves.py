"""The set `waves`: one-dimensional signals of ten wave forms, folded into rows of an image.

A family of tasks that are not images: 784 samples of a signal fill 28 rows of 28 pixels, so that
neighbouring rows are parts of one signal and hold no shape. A class is a wave form; frequency,
phase, amplitude and noise are drawn anew for every signal, so no signal is in two splits.

Shape letters: N signals, P samples of a signal.
"""

import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from .image_set import SPLIT_SEED, ImageSet, make_image_set

WAVES = "waves"
SIZES = {"train": 2000, "val": 500, "test": 500}
SIDE = 28
SAMPLES = SIDE * SIDE
SLOWEST, FASTEST = 5.0, 40.0  # cycles in a signal
NOISE = 0.15

Form = Callable[[np.ndarray], np.ndarray]
"""Takes cycles since the start, (N, P), and gives values in [-1, 1]."""


def _sine(cycles: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * cycles)


def _rise(cycles: np.ndarray) -> np.ndarray:
    """From -1 to 1 in each cycle."""
    return 2 * (cycles % 1) - 1


def _pulses(cycles: np.ndarray) -> np.ndarray:
    return np.where(cycles % 1 < 0.15, 1.0, -1.0)


def _beats(cycles: np.ndarray) -> np.ndarray:
    return _sine(cycles) * np.abs(_sine(cycles / 10))


def _bursts(cycles: np.ndarray) -> np.ndarray:
    return _sine(cycles) * np.exp(-3 * ((cycles / 5) % 1))


def _chirp(cycles: np.ndarray) -> np.ndarray:
    along = np.linspace(0, 1, cycles.shape[1])
    return _sine(cycles * (0.3 + 1.4 * along))


FORMS: dict[str, Form] = {
    "sine": _sine,
    "square": lambda cycles: np.sign(_sine(cycles)),
    "triangle": lambda cycles: 2 * np.abs(_rise(cycles)) - 1,
    "rising": _rise,
    "falling": lambda cycles: -_rise(cycles),
    "pulses": _pulses,
    "rectified": lambda cycles: 2 * np.abs(_sine(cycles)) - 1,
    "beats": _beats,
    "bursts": _bursts,
    "chirp": _chirp,
}


@cache
def load_waves() -> ImageSet:
    """Draw the set: 10 balanced classes; 2,000 train, 500 val and 500 test signals."""
    rng = np.random.default_rng([SPLIT_SEED, zlib.crc32(WAVES.encode())])
    splits = []
    for size in SIZES.values():
        labels = rng.permutation(np.arange(size) % len(FORMS))
        images = np.stack([signal(list(FORMS)[label], rng) for label in labels])
        pixels = (np.clip(0.5 + 0.4 * images, 0, 1) * 255).round().astype(np.uint8)
        shaped = torch.from_numpy(pixels).view(size, 1, SIDE, SIDE)
        splits.append((shaped, torch.from_numpy(labels)))
    return make_image_set(WAVES, splits, len(FORMS))


def signal(form: str, rng: np.random.Generator) -> np.ndarray:
    """One signal of a wave form with noise, (P,).

    Args:
        form: a key of `FORMS`.
        rng: source of frequency, phase, amplitude and noise.
    """
    frequency = np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST)))
    cycles = rng.uniform(0, 1) + frequency * np.arange(SAMPLES) / SAMPLES
    values = rng.uniform(0.6, 1) * FORMS[form](cycles[None])[0]
    noisy: np.ndarray = values + rng.normal(0, NOISE, SAMPLES)
    return noisy
