"""Streams of a zoo: the rows of `load_zoo`, resumable, sharded, and only the bytes asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_client import HubClient, RemoteError  # noqa: E402
from hub_server import HubServer  # noqa: E402
from make_tiny_zoo import (  # noqa: E402
    make_tiny_zoo,
    tiny_architecture,
    tiny_header,
    tiny_rows,
)

from weightzoo.loaders import DeviceLoader, load_zoo  # noqa: E402
from weightzoo.loaders.hub.streaming import stream_zoo  # noqa: E402
from weightzoo.zoos.format import write_zoo_file  # noqa: E402
from weightzoo.zoos.index import ZooIndex, describe_shard  # noqa: E402
from weightzoo.zoos.recipe import load_recipe  # noqa: E402

STREAM = """
import weightzoo.loaders.hub.streaming as streaming
stream = streaming.stream_zoo(**options)
tables = list(stream.with_format("arrow").iter(batch_size=5))
result = {n: sum((table[n].to_pylist() for table in tables), []) for n in tables[0].column_names}
"""

TRAIN = """
import torch
from weightzoo import load_zoo
from weightzoo.tasks import EncoderSpec, TrainingSettings, train_encoder, train_hyper_representation
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
torch.set_num_threads(1)
train, val = (load_zoo(zoo, split=split, **options) for split in ("train", "val"))
if options.get("streaming"):
    train, val = train.with_format("layer_sets"), val.with_format("layer_sets")
spec = EncoderSpec("sne", {"width": 8, "heads": 1, "blocks": 1})
settings = TrainingSettings(epochs=2, batch_size=4, progress=False)
trained = train_encoder(spec, train, val, "test_accuracy", settings)
shape = {"latent": 2, "width": 8, "heads": 1, "blocks": 1}
plain = AutoencoderSettings(shape=shape, epochs=2, batch_size=4, progress=False)
autoencoder = train_hyper_representation(train, val, plain)
result = [
    [epoch["train_loss"] for epoch in trained.training["history"]],
    trained.predict(val).tolist(),
    [epoch["loss"] for epoch in autoencoder.history],
    autoencoder.embed(val).tolist(),
]
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody in this process look for the network."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def ids(rows: Any) -> list[tuple[int, int]]:
    return [(row["model_id"], row["epoch"]) for row in rows]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_stream_of_a_folder_equals_load_zoo(split: str, sharded_zoo: Path) -> None:
    stream = stream_zoo(sharded_zoo, None, split)
    assert str(stream.split) == split
    (table,) = stream.with_format("arrow").iter(batch_size=100)
    ours = load_zoo(sharded_zoo, split=split).with_format("numpy")[:]
    assert table.column_names == list(ours)
    assert table.to_pydict() == {name: column.tolist() for name, column in ours.items()}
    (batch,) = stream.with_format("numpy").iter(batch_size=100)
    assert batch["weights"].dtype == np.float32
    np.testing.assert_array_equal(batch["weights"], ours["weights"])


def test_stream_without_split_has_every_split(sharded_zoo: Path) -> None:
    streams = stream_zoo(sharded_zoo.parent, "sharded")
    assert {name: len(ids(stream)) for name, stream in streams.items()} == {
        "train": 12,
        "val": 3,
        "test": 3,
    }


def test_stream_takes_the_hubs_word_for_val(tiny_zoo: Path) -> None:
    assert ids(stream_zoo(tiny_zoo, split="validation")) == ids(stream_zoo(tiny_zoo, split="val"))


def test_stream_reads_the_columns_asked_for(tiny_zoo: Path) -> None:
    stream = stream_zoo(tiny_zoo, split="train", columns=["weights", "epoch"])
    assert list(next(iter(stream))) == stream.column_names == ["weights", "epoch"]
    with pytest.raises(ValueError, match=r"no column \['accuracy'\], its columns are \['model_id'"):
        stream_zoo(tiny_zoo, split="train", columns=["accuracy"])


def test_stream_names_what_there_is(tiny_zoo: Path, tmp_path: Path) -> None:
    make_tiny_zoo(tmp_path / "other")
    with pytest.raises(ValueError, match=r"holds the zoos \['other', 'tiny'\].* got 'big'"):
        stream_zoo(tmp_path, "big")
    with pytest.raises(ValueError, match="split must be one of .* got 'dev'"):
        stream_zoo(tiny_zoo, split="dev")


def test_stream_of_a_folder_with_wildcards_in_its_name(tmp_path: Path) -> None:
    assert len(ids(stream_zoo(make_tiny_zoo(tmp_path / "a[b]*"), split="train"))) == 6


def test_stream_resumes_in_the_middle(sharded_zoo: Path) -> None:
    stream = stream_zoo(sharded_zoo, split="train")
    rows = iter(stream)
    first = ids(next(rows) for _ in range(7))
    again = stream_zoo(sharded_zoo, split="train")
    again.load_state_dict(stream.state_dict())
    assert first + ids(again) == ids(stream_zoo(sharded_zoo, split="train"))
    assert len(ids(again)) == 5


def test_stream_splits_by_node_without_overlap_or_loss(sharded_zoo: Path) -> None:
    from datasets.distributed import split_dataset_by_node

    stream = stream_zoo(sharded_zoo, split="train")
    assert stream.n_shards == 2
    for nodes in (2, 3):
        parts = [ids(split_dataset_by_node(stream, node, nodes)) for node in range(nodes)]
        assert sorted(sum(parts, [])) == sorted(ids(stream)) and all(parts)


def test_stream_reads_a_file_in_bounded_pieces(
    sharded_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weightzoo.loaders.hub.streaming.BATCH_BYTES", 20_000)
    pieces = stream_zoo(sharded_zoo, split="train").with_format("arrow")
    sizes = [len(table) for _, table in pieces._ex_iterable.iter_arrow()]
    assert sum(sizes) == 12 and max(sizes) < 6


def test_stream_of_a_repo_equals_that_of_the_folder(
    hub: HubServer, client: HubClient, sharded_zoo: Path
) -> None:
    hub.add_repo("org/zoo", sharded_zoo.parent)
    options = {"path_or_repo": "org/zoo", "name": "sharded", "split": "train"}
    remote = client.run(STREAM, options=options)
    ours = load_zoo(sharded_zoo, split="train").with_format("numpy")[:]
    assert {name: column.tolist() for name, column in ours.items()} == remote
    assert hub.count("GET .*validation|GET .*test-") == 0
    pinned = client.run(STREAM, options=options | {"revision": hub.repos["org/zoo"].main})
    assert pinned == remote
    with pytest.raises(RemoteError, match="ValueError: .* has no revision 'v9'"):
        client.run(STREAM, options=options | {"revision": "v9"})


def test_stream_of_scalars_fetches_no_weights(
    hub: HubServer, client: HubClient, tmp_path: Path
) -> None:
    architecture, folder = load_recipe("digits-cnn").architecture, tmp_path / "zoo"
    columns, _ = tiny_rows(tiny_architecture(), ["test"] * 200)
    weights = np.zeros((600, architecture.layer_table().width), np.float32)
    folder.mkdir()
    write_zoo_file(folder / "test.h5", tiny_header(architecture), columns, weights)
    ZooIndex(name="zoo", shards=(describe_shard(folder, "test.h5", "test", 200),)).write(folder)
    hub.add_repo("org/big", folder)
    hub.forget()
    options = {"path_or_repo": "org/big", "split": "test", "columns": ["epoch", "test_accuracy"]}
    client.run("import weightzoo.loaders.hub.streaming as s; s.READ_AHEAD_BYTES = (2**16, 2**16)")
    rows = client.run(STREAM, options=options)
    assert rows["epoch"] == columns["epoch"].tolist()
    assert 100_000 < hub.sent_bytes < weights.nbytes * 2 / 3
    client.run(STREAM, options=options | {"columns": ["weights"]})
    assert hub.sent_bytes > weights.nbytes


@pytest.mark.parametrize("split", ["train[:50%]", "train+val"])
def test_stream_of_a_part_of_a_split_is_refused(tiny_zoo: Path, split: str) -> None:
    with pytest.raises(ValueError, match="a stream has whole splits only, got 'train"):
        load_zoo(tiny_zoo, split=split, streaming=True)


def test_stream_in_layer_sets_holds_those_of_the_dataset(sharded_zoo: Path) -> None:
    ours = load_zoo(sharded_zoo, split="train").with_format("layer_sets", chunk_size=8)[:]
    stream = stream_zoo(sharded_zoo, split="train").with_format("layer_sets", chunk_size=8)
    batches = list(stream.iter(batch_size=5))
    assert torch.equal(torch.cat([batch["values"] for batch in batches]), ours["values"])
    assert "weights" not in batches[0] and torch.equal(batches[0]["mask"], ours["mask"])
    assert sum((batch["status"] for batch in batches), []) == ours["status"]
    row = next(iter(stream.filter(lambda row: row["epoch"] == 1)))  # keeps the format
    assert row["values"].shape == ours["values"].shape[1:] and int(row["epoch"]) == 1
    streams = stream_zoo(sharded_zoo).with_format("layer_sets")
    assert next(iter(streams["val"]))["values"].shape[1] == 32


def test_stream_that_was_filtered_is_not_trained_on(tiny_zoo: Path) -> None:
    stream = stream_zoo(tiny_zoo, split="train")
    assert len(DeviceLoader(stream, 2, mode="streaming")) == 3
    with pytest.raises(TypeError, match="filtered, shuffled or changed has no rows by number"):
        DeviceLoader(stream.filter(lambda row: row["epoch"] > 0), 2)


def test_training_on_a_stream_of_the_hub_equals_that_on_files(
    hub: HubServer, client: HubClient, tmp_path: Path
) -> None:
    folder = make_tiny_zoo(tmp_path / "zoos" / "big", train_shards=3)
    hub.add_repo("org/trained", folder.parent)
    hub.requests.clear()
    streamed = client.run(TRAIN, zoo="org/trained", options={"streaming": True})
    assert hub.count("GET .*test-") == 0
    assert streamed == client.run(TRAIN, zoo=str(folder), options={})


BROKEN = """
import time
from weightzoo import load_zoo
from weightzoo.loaders import DeviceLoader
slept, time.sleep = time.sleep, lambda seconds: None
try:
    dataset = load_zoo("org/broken", split="train", streaming=True).as_zoo()
    result = [batch["weights"].tolist() for batch in DeviceLoader(dataset, 3, shuffle=False)]
finally:
    time.sleep = slept
"""


@pytest.mark.parametrize("times", [2, 50])
def test_stream_that_breaks_is_read_again_or_named(
    hub: HubServer, client: HubClient, sharded_zoo: Path, times: int
) -> None:
    hub.add_repo("org/broken", sharded_zoo.parent)
    hub.fail("GET", "/lfs/", times=times, skip=7, truncate=True)
    try:
        if times == 2:
            rows = load_zoo(sharded_zoo, split="train").weights()
            assert sum(client.run(BROKEN), []) == rows.tolist()
            return
        with pytest.raises(RemoteError, match="HubError: the Hub failed for org/broken: call"):
            client.run(BROKEN)
    finally:
        hub.forget()
