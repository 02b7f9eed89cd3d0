"""Indexes of repositories: one layer of each network, fetched by ranges from a local Hub."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hub_client import HubClient
from hub_server import HubServer, blob
from make_published_zoos import zoo_rows

from weightzoo.builders.imports import import_zoo
from weightzoo.zoos.errors import BuildError

safetensors = pytest.importorskip("safetensors.numpy")

LAYER = "vit.encoder.layer.1.output.dense"
IMPORT = """
from weightzoo.builders.imports import import_zoo
report = import_zoo("model-j", index, out, layer=layer, progress=False)
result = [report.models, [[r.model, r.reason] for r in report.refused], report.zoos[0].splits]
"""


def network(seed: int) -> dict[str, np.ndarray]:
    """A network of 2 MB whose named layer takes 96 bytes."""
    rng = np.random.default_rng(seed)
    named = {f"{LAYER}.weight": (5, 4), f"{LAYER}.bias": (4,), "vit.large": (500, 1000)}
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in named.items()}


@pytest.fixture
def index(hub: HubServer, tmp_path: Path) -> Path:
    """An index of the Hub's layout, with three networks, a broken one and one that is not there."""
    hub.forget()
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow import Table

    names = [f"ProbeX/net_{i}" for i in range(3)]
    for seed, name in enumerate(names):
        text = {"format": "pt", "dataset_chosen_targets": f"['cat', 'class{seed}']"}
        data = safetensors.save(network(seed), metadata=text)
        hub.add_repo(name, model=True).commit(
            {"model.safetensors": blob("model.safetensors", data)}
        )
    broken = blob("model.safetensors", (2**40).to_bytes(8, "little") + b"{}")
    hub.add_repo("ProbeX/broken", model=True).commit({"model.safetensors": broken})
    lines = {
        "train": [names[0], "ProbeX/broken", "ProbeX/gone"],
        "val": [names[1]],
        "test": [names[2]],
    }
    for split, found in lines.items():
        rows = [{"hf_model_id": n, "model_idx": i, "lr": 0.1} for i, n in enumerate(found)]
        (tmp_path / "SupViT").mkdir(exist_ok=True)
        parquet.write_table(Table.from_pylist(rows), tmp_path / f"SupViT/{split}-0.parquet")
    return tmp_path / "SupViT"


def test_only_one_layer_is_fetched(
    hub: HubServer, client: HubClient, index: Path, tmp_path: Path
) -> None:
    found = client.run(IMPORT, index=index, out=tmp_path / "out", layer=LAYER)
    models, refused, splits = found
    assert models == 3 and splits == {"train": 1, "val": 1, "test": 1}
    columns, weights = zoo_rows(tmp_path / "out")
    for row, name in enumerate(columns["model_name"]):
        wanted = network(int(name[-1]))
        flat = np.concatenate([wanted[f"{LAYER}.{role}"].ravel() for role in ("bias", "weight")])
        np.testing.assert_array_equal(weights[row], flat)
        assert columns["dataset_chosen_targets"][row] == f"['cat', 'class{name[-1]}']"
    assert set(columns["licence"]) == {"none stated"} and set(columns["lr"]) == {0.1}
    assert all(len(commit) == 40 for commit in columns["commit"])
    reasons = dict(refused)
    assert "header would take" in reasons["ProbeX/broken"] and "ProbeX/gone" in reasons
    assert hub.count(r"GET /lfs/\w+$") == 0  # every read of weights names its range
    assert hub.sent_bytes < 400_000  # of 6 MB: heads of 64 kB, layers of 96 bytes


def test_server_that_fails_for_a_moment_loses_no_network(
    hub: HubServer, client: HubClient, index: Path, tmp_path: Path
) -> None:
    hub.fail("GET", "/api/models/ProbeX/net_0$", status=503)
    hub.fail("GET", "/lfs/", status=503)
    quick = "import weightzoo.zoos.hub.requests as r; r.FIRST_WAIT_SECONDS = 0.01\n"
    models, _, _ = client.run(quick + IMPORT, index=index, out=tmp_path / "out", layer=LAYER)
    assert models == 3


def test_layer_that_no_network_has_is_named(client: HubClient, index: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"has no layer 'vit.head.dense': it has .*dense"):
        client.run(IMPORT, index=index, out=tmp_path / "out", layer="vit.head.dense")


def test_layer_is_asked_for_and_refused_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("hf_model_id\norg/a\n")
    with pytest.raises(BuildError, match="'model-j' takes a layer"):
        import_zoo("model-j", tmp_path / "index.csv", tmp_path / "out", progress=False)
    with pytest.raises(BuildError, match="'hub' takes no layer"):
        import_zoo("hub", tmp_path / "index.csv", tmp_path / "out", layer="x", progress=False)


def test_lines_without_a_repository_are_said(tmp_path: Path) -> None:
    with (tmp_path / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["hf_model_id", "lr"], ["", 1], ["plain", 1]])
    with pytest.raises(BuildError, match="has no repository such as org/name"):
        import_zoo("model-j", tmp_path / "index.csv", tmp_path / "out", layer="x", progress=False)
