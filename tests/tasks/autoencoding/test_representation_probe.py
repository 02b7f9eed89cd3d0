"""The predictor that probes a hyper-representation."""

from pathlib import Path

import numpy as np
import pytest

from weightzoo import load_zoo
from weightzoo.tasks.autoencoding.representation_probe import HyperRepresentationProbe
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.zoos.errors import UnsuitableError

SETTINGS = AutoencoderSettings(
    shape={"latent": 8, "width": 16}, aligned=False, epochs=1, keep="last", progress=False
)


def test_probe_reads_an_embedding_that_has_seen_no_label(trained_zoo: Path) -> None:
    zoo = load_zoo(trained_zoo)
    found = {}
    for target, seed in (("test_accuracy", 0), ("epoch", 0), ("epoch", 1)):
        predictor = HyperRepresentationProbe(SETTINGS)
        predictor.fit(zoo["train"], zoo["val"], target, seed)
        rows = predictor.autoencoder.canonical.weights(zoo["test"])
        embedding = predictor.autoencoder.embed(rows)
        assert np.array_equal(predictor.probe.predict(embedding), predictor.predict(zoo["test"]))
        found[target, seed] = embedding, predictor.predict(zoo["train"])
    assert found["test_accuracy", 0][0].equal(found["epoch", 0][0])
    assert not found["epoch", 1][0].equal(found["epoch", 0][0])
    assert not np.array_equal(found["test_accuracy", 0][1], found["epoch", 0][1])


def test_probe_refuses_another_architecture(trained_zoo: Path, tiny_zoo: Path) -> None:
    zoo, other = load_zoo(trained_zoo), load_zoo(tiny_zoo, split="test")
    predictor = HyperRepresentationProbe(SETTINGS)
    predictor.fit(zoo["train"], zoo["val"], "test_accuracy", seed=0)
    with pytest.raises(UnsuitableError, match="tied to one architecture"):
        predictor.predict(other)
