"""Provenance: a descendant names its parent zoo and the very files of it."""

import hashlib
import json
from pathlib import Path

import h5py
import pytest

from weightzoo.zoos.errors import ZooNotFoundError
from weightzoo.zoos.provenance import parent_provenance


def test_parent_provenance_is_of_the_index(tiny_zoo: Path) -> None:
    digest = hashlib.sha256((tiny_zoo / "zoo.json").read_bytes()).hexdigest()
    assert parent_provenance(tiny_zoo) == {"name": "tiny", "sha256": digest}


def test_parent_provenance_remembers_an_import(tiny_zoo: Path) -> None:
    with h5py.File(tiny_zoo / "train-00000-of-00001.h5", "r+") as file:
        file.attrs["provenance"] = json.dumps({"imported": "smallcnn"})
    assert parent_provenance(tiny_zoo)["imported"] == "smallcnn"
    with h5py.File(tiny_zoo / "train-00000-of-00001.h5", "r+") as file:
        file.attrs["provenance"] = json.dumps({"parent": {"imported": "wildpark"}})
    assert parent_provenance(tiny_zoo)["imported"] == "wildpark"


def test_parent_provenance_needs_a_zoo_folder(tmp_path: Path) -> None:
    with pytest.raises(ZooNotFoundError, match="no zoo folder"):
        parent_provenance(tmp_path)
