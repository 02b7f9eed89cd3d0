"""Files that an earlier version wrote still open, with equal values.

`data/older` holds a collection of two zoos (the second fine-tuned from the first), a trained
encoder and a trained autoencoder, written by weightzoo 0.1.0 in format 1.1; `values.json` holds
what that version read from them.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightzoo.loaders import load_zoo
from weightzoo.tasks.autoencoding.saved import load_autoencoder
from weightzoo.tasks.pretrained import from_pretrained

OLDER = Path(__file__).parent / "data" / "older"
VALUES = json.loads((OLDER / "values.json").read_text())


def digest(values: Any) -> str:
    """SHA-256 of numbers as they lie in memory, of text as UTF-8 with a zero byte after each."""
    array = np.asarray(values)
    if array.dtype.kind in "OU":
        return hashlib.sha256(b"".join(str(v).encode() + b"\0" for v in array)).hexdigest()
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def digests(zoo: Path) -> dict[str, dict[str, str]]:
    """Digest of every column and of the weights, by split."""
    return {
        split: {name: digest(column) for name, column in rows.columns.items()}
        | {"weights": digest(rows.weights())}
        for split, rows in load_zoo(zoo).items()
    }


@pytest.mark.parametrize("zoo", ["small-cnn", "tuned"])
def test_older_zoo_opens_with_equal_columns(zoo: str) -> None:
    assert digests(OLDER / "zoos" / zoo) == VALUES["columns"][zoo]


def test_older_zoo_keeps_its_lineage() -> None:
    rows = load_zoo(OLDER / "zoos" / "tuned", split="train")
    assert set(rows.columns["relation"]) == {"fine-tuned"}
    assert set(rows.columns["parent_zoo"]) == {"small-cnn"}
    assert rows.header.provenance["parent"] == VALUES["parent"]


def test_older_encoder_predicts_equal_values() -> None:
    rows = load_zoo(OLDER / "zoos" / "small-cnn", split="test")
    predicted = from_pretrained(OLDER / "sne").predict(rows)
    np.testing.assert_allclose(predicted, VALUES["predicted"], rtol=1e-4)


def test_older_autoencoder_maps_to_equal_values() -> None:
    autoencoder, origin = load_autoencoder(OLDER / "autoencoder.pt")
    rows = load_zoo(OLDER / "zoos" / "small-cnn", split="test")
    latent = autoencoder.encode(autoencoder.canonical.weights(rows))
    assert origin is not None and origin.zoo == "zoos/small-cnn"
    np.testing.assert_allclose(latent, VALUES["latent"], rtol=1e-4, atol=1e-5)
    norms = autoencoder.decode(latent).norm(dim=1)
    np.testing.assert_allclose(norms, VALUES["decoded_norms"], rtol=1e-4)


@pytest.mark.parametrize("name", ["autoencoder.pt", ""])
def test_older_autoencoder_is_an_encoder(name: str, tmp_path: Path) -> None:
    shutil.copy(OLDER / "autoencoder.pt", tmp_path)
    model = from_pretrained(tmp_path / name)
    rows = load_zoo(OLDER / "zoos" / "small-cnn", split="test")
    np.testing.assert_allclose(model.embed(rows), VALUES["latent"], rtol=1e-4, atol=1e-5)
