"""load_zoo and ZooDataset: what is read equals what the file holds, and bad input is named."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import make_tiny_zoo
from torch.func import functional_call
from torch.utils.data import ConcatDataset, DataLoader, Subset, default_collate, random_split

from weightzoo.loaders import Batch, LayerSets, Row, ZooDataset, concatenate_zoos, load_zoo
from weightzoo.loaders.storage.rows import WeightRows
from weightzoo.zoos.errors import ZooFormatError, ZooNotFoundError
from weightzoo.zoos.format import SPLITS, open_zoo_file, write_zoo_file
from weightzoo.zoos.index import ZooIndex


@pytest.fixture
def mixed_file(tmp_path: Path, sharded_zoo: Path) -> Path:
    """One file whose rows take turns in the splits train, test, train, ..."""
    file = open_zoo_file(sharded_zoo / "train-00000-of-00002.h5")
    columns = file.read_columns()
    columns["split"] = np.array(["train", "test"] * (file.rows // 2), dtype=object)
    path = tmp_path / "mixed.h5"
    write_zoo_file(path, file.header, columns, np.array(file.map_weights()))
    return path


def assert_same(found: dict, expected: dict) -> None:
    """Equal keys, types and values."""
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert type(found[key]) is type(value), key
        if isinstance(value, torch.Tensor):
            assert found[key].dtype == value.dtype, key
            assert torch.equal(found[key], value), key
        else:
            assert found[key] == value, key


def test_load_zoo_gives_every_value_of_every_split(sharded_zoo: Path) -> None:
    datasets = load_zoo(sharded_zoo)
    assert list(datasets) == list(SPLITS)
    for split, dataset in datasets.items():
        files = ZooIndex.read(sharded_zoo).open(sharded_zoo, split)
        weights = np.concatenate([np.array(file.map_weights()) for file in files])
        parts = [file.read_columns() for file in files]
        assert len(dataset) == len(weights)
        assert torch.equal(dataset.weights(), torch.from_numpy(weights))
        assert list(dataset.columns) == list(files[0].columns)
        for name, column in dataset.columns.items():
            np.testing.assert_array_equal(column, np.concatenate([part[name] for part in parts]))


def test_load_zoo_takes_the_hubs_word_for_val(tiny_zoo: Path) -> None:
    val = load_zoo(tiny_zoo, split="validation")
    assert set(val.columns["split"]) == {"val"}


def test_load_zoo_filters_one_file_by_its_split_column(mixed_file: Path) -> None:
    everything = np.array(open_zoo_file(mixed_file).map_weights())
    datasets = load_zoo(mixed_file)
    assert list(datasets) == ["train", "test"]
    np.testing.assert_array_equal(datasets["train"].weights(), everything[0::2])
    np.testing.assert_array_equal(load_zoo(mixed_file, split="test").weights(), everything[1::2])
    assert datasets["test"].name == "tiny"


def test_load_zoo_picks_a_zoo_of_a_collection(tmp_path: Path) -> None:
    collection = tmp_path / "zoos"
    make_tiny_zoo(collection / "one")
    assert len(load_zoo(collection, split="train")) == 6
    make_tiny_zoo(collection / "two", train_shards=2)
    assert len(load_zoo(collection, "two", "train")) == 12
    for name, given in ((None, "and none is given"), ("three", "got 'three'")):
        with pytest.raises(ValueError, match=rf"\['one', 'two'\], {given}"):
            load_zoo(collection, name)
    with pytest.raises(ValueError, match="leave out name='one'"):
        load_zoo(collection / "one", "one")


@pytest.mark.parametrize("missing", ["nowhere", "nowhere.h5", "."])
def test_load_zoo_names_the_missing_path(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ZooNotFoundError, match="no zoo at .*weightzoo build"):
        load_zoo(tmp_path / missing)


def test_load_zoo_names_a_missing_shard(sharded_zoo: Path) -> None:
    (sharded_zoo / "train-00001-of-00002.h5").unlink()
    with pytest.raises(ZooNotFoundError, match="train-00001-of-00002.h5"):
        load_zoo(sharded_zoo, split="train")


@pytest.mark.parametrize("damage", [b"this is no HDF5 file", None])
def test_load_zoo_rejects_a_bad_file(mixed_file: Path, damage: bytes | None) -> None:
    whole = mixed_file.read_bytes()
    mixed_file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(ZooFormatError, match=r"mixed\.h5 is (truncated|not an HDF5 file)"):
        load_zoo(mixed_file)


def test_load_zoo_rejects_unknown_split_and_split_without_rows(mixed_file: Path) -> None:
    with pytest.raises(ValueError, match=r"\('train', 'val', 'test'\), got 'dev'"):
        load_zoo(mixed_file, split="dev")
    with pytest.raises(ValueError, match=r"no rows of split 'val', it has \['train', 'test'\]"):
        load_zoo(mixed_file, split="val")


def test_load_zoo_rejects_a_folder_without_the_split(tiny_zoo: Path) -> None:
    index = ZooIndex.read(tiny_zoo)
    replace(index, shards=index.shards[:1]).write(tiny_zoo)
    with pytest.raises(ValueError, match=r"no rows of split 'test', it has \['train'\]"):
        load_zoo(tiny_zoo, split="test")
    assert list(load_zoo(tiny_zoo)) == ["train"]


def test_load_zoo_rejects_an_index_that_contradicts_the_split_column(tiny_zoo: Path) -> None:
    index = ZooIndex.read(tiny_zoo)
    swapped = {"train": "train", "val": "test", "test": "val"}
    shards = tuple(replace(shard, split=swapped[shard.split]) for shard in index.shards)
    replace(index, shards=shards).write(tiny_zoo)
    with pytest.raises(ZooFormatError, match=r"split \['val'\], allowed are \['test'\]"):
        load_zoo(tiny_zoo, split="test")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny_zoo: Path) -> list[tuple]:
    """Calls of the Hub's functions, which give the tiny zoo and no stream."""
    calls: list[tuple] = []

    def fetch_zoo(*args: object, **options: object) -> Path:
        calls.append((args, options))
        return tiny_zoo

    def stream_zoo(*args: object, **options: object) -> str:
        calls.append((args, options))
        return "a stream"

    monkeypatch.setattr("weightzoo.loaders.load.fetch_zoo", fetch_zoo)
    monkeypatch.setattr("weightzoo.loaders.hub.streaming.stream_zoo", stream_zoo)
    return calls


def test_load_zoo_fetches_a_repository(hub: list[tuple]) -> None:
    options = {"revision": "v1", "cache_dir": "here", "token": "t"}
    assert len(load_zoo("org/name", "tiny", "train[:1]", **options)) == 3
    assert len(load_zoo("hf://datasets/org/name", split="train+val")) == 9
    assert list(load_zoo("org/name")) == list(SPLITS)
    nothing = {"revision": None, "cache_dir": None, "token": None}
    assert hub == [
        (("org/name", "tiny", "train"), options),
        (("hf://datasets/org/name", None, None), nothing),
        (("org/name", None, None), nothing),
    ]


def test_load_zoo_streams_when_asked(hub: list[tuple], tiny_zoo: Path) -> None:
    assert load_zoo(tiny_zoo, split="train", streaming=True, columns=["lr"]) == "a stream"
    wanted = {"revision": None, "columns": ["lr", "weights"], "token": None}
    assert hub == [((tiny_zoo, None, "train"), wanted)]


def test_load_zoo_takes_a_path_that_exists_before_a_repository(
    hub: list[tuple], tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_zoo.parent.parent)
    assert len(load_zoo(f"{tiny_zoo.parent.name}/tiny", split="train")) == 6
    with pytest.raises(ValueError, match="a zoo on disk has no revision 'v1'"):
        load_zoo(tiny_zoo, revision="v1")
    assert hub == []


def test_load_zoo_reads_the_columns_asked_for(sharded_zoo: Path) -> None:
    dataset = load_zoo(sharded_zoo, split="train", columns=["lr", "epoch", "weights"])
    assert list(dataset[0]) == ["lr", "epoch", "weights"]
    with pytest.raises(ValueError, match=r"no column \['size'\], its columns are \['model_id'"):
        load_zoo(sharded_zoo, split="train", columns=["size"])
    with pytest.raises(ValueError, match="trajectory needs the column 'model_id'"):
        dataset.trajectory(0)
    with pytest.raises(ValueError, match=r"module needs the columns \['activation', 'dropout'\]"):
        dataset.module(0)


def test_load_zoo_in_memory_gives_the_same(sharded_zoo: Path, train: ZooDataset) -> None:
    copied = load_zoo(sharded_zoo, split="train", in_memory=True)
    assert_same(copied[[7, 3, -1]], train[[7, 3, -1]])


def test_dataset_row_holds_every_column(train: ZooDataset) -> None:
    row = train[-2]
    assert isinstance(row, Row)
    assert list(row) == [*train.columns, "weights"]
    assert row["activation"] == train.columns["activation"][10]
    assert row["test_accuracy"] == train.columns["test_accuracy"][10]
    assert torch.equal(row["weights"], train.weights()[10])
    assert_same(train[torch.tensor(10)], row)


def test_dataset_columns_by_name(train: ZooDataset) -> None:
    assert torch.equal(train["lr"], torch.tensor(train.columns["lr"]))
    assert train["init"] == train.columns["init"].tolist()
    assert torch.equal(train["weights"], train.weights())
    with pytest.raises(KeyError, match="no column 'size'"):
        train["size"]
    with pytest.raises(ValueError, match="read-only"):
        train.columns["lr"][0] = 1


@pytest.mark.parametrize("key", [slice(2, 9, 3), [2, 5, 8], np.array([2, 5, 8]), range(2, 9, 3)])
def test_dataset_many_rows_by_slice_list_and_array(train: ZooDataset, key: object) -> None:
    batch = train[key]
    assert torch.equal(batch["weights"], train.weights()[[2, 5, 8]])
    assert batch["epoch"].tolist() == train.columns["epoch"][[2, 5, 8]].tolist()
    assert batch["status"] == ["ok"] * 3


@pytest.mark.parametrize("index", [12, -13])
def test_dataset_rejects_an_index_out_of_range(train: ZooDataset, index: int) -> None:
    message = f"row {index} is out of range: there are 12 rows"
    for read in (train.__getitem__, train.state_dict, train.module):
        with pytest.raises(IndexError, match=message):
            read(index)
    for read in (train.__getitem__, train.__getitems__, train.weights, train.select):
        with pytest.raises(IndexError, match=message):
            read([0, index])
    with pytest.raises(TypeError):
        train[torch.tensor(1.5)]


def test_default_collate_of_a_batch_equals_collating_row_by_row(train: ZooDataset) -> None:
    batch = train.__getitems__([7, 0, 11, 7])
    assert isinstance(batch, Batch)
    fast = default_collate(batch)
    assert fast["weights"] is batch.as_torch()["weights"]
    assert_same(fast, default_collate([dict(train[index]) for index in (7, 0, 11, 7)]))
    assert_same(fast, default_collate([train[index] for index in (7, 0, 11, 7)]))
    assert_same(fast, default_collate(list(batch)))


def test_dataloader_subset_and_concat_give_equal_batches(train: ZooDataset) -> None:
    chosen = [5, 9, 0, 2, 11]
    expected = [train[chosen[:4]], train[chosen[4:]]]
    for source in (Subset(train, chosen), ConcatDataset([train.select(chosen)])):
        for found, wanted in zip(DataLoader(source, batch_size=4), expected, strict=True):
            assert_same(found, wanted)
    parts = random_split(train, [8, 4], torch.Generator().manual_seed(0))
    seen = [
        tuple(row.tolist()) for part in parts for row in next(iter(DataLoader(part, 8)))["weights"]
    ]
    assert sorted(seen) == sorted(map(tuple, train.weights().tolist()))


def test_dataloader_batches_stay_as_they_are(train: ZooDataset) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(DataLoader(train, batch_size=2, sampler=order))
    assert torch.equal(torch.cat([batch["weights"] for batch in batches]), train.weights()[order])


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # pytest has threads
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_dataloader_with_two_workers_gives_equal_batches(train: ZooDataset, start: str) -> None:
    order = [5, 9, 0, 2, 11, 7]
    loader = DataLoader(
        train, batch_size=2, sampler=order, num_workers=2, multiprocessing_context=start
    )
    for found, wanted in zip(loader, DataLoader(train, batch_size=2, sampler=order), strict=True):
        assert_same(found, wanted)


def test_pickled_dataset_reads_the_same_and_notices_a_changed_file(train: ZooDataset) -> None:
    data = pickle.dumps(train.select([3, 8]))
    assert_same(pickle.loads(data)[:], train[[3, 8]])
    path = train.source.files[0].path
    path.write_bytes(path.read_bytes())
    for dataset in (pickle.loads(data), train):
        with pytest.raises(ZooFormatError, match="changed since it was opened"):
            dataset[0]


def test_select_and_filter_keep_rows_and_columns_together(train: ZooDataset) -> None:
    last = train.filter(lambda columns: columns["epoch"] == 2)
    assert last.columns["epoch"].tolist() == [2] * 4
    places = np.flatnonzero(train.columns["epoch"] == 2)
    assert_same(last[:], train[places])
    assert_same(last.select([3, 0]).select(slice(1, 2))[0], train[places[0]])
    assert last.source is train.source
    assert len(train.filter(lambda columns: columns["epoch"] > 2)) == 0


@pytest.mark.parametrize("answer", [True, [0, 1], np.zeros(12), np.zeros(11, bool)])
def test_filter_rejects_what_is_not_one_boolean_per_row(train: ZooDataset, answer: object) -> None:
    with pytest.raises(ValueError, match="condition must return 12 booleans"):
        train.filter(lambda columns: answer)


def test_filter_takes_a_condition_as_text(train: ZooDataset) -> None:
    chosen = train.filter("test_accuracy >= 0.5 and epoch == 2")
    wanted = (train.columns["test_accuracy"] >= 0.5) & (train.columns["epoch"] == 2)
    assert 0 < len(chosen) < 4
    assert torch.equal(chosen.weights(), train.weights()[wanted])
    optimizer = train.columns["optimizer"][0]
    assert set(train.filter(f"optimizer == {optimizer!r}").columns["optimizer"]) == {optimizer}
    with pytest.raises(ValueError, match="no column 'size'"):
        train.filter("size > 3")


def test_select_columns_leaves_the_weights(train: ZooDataset) -> None:
    chosen = train.select_columns(["lr", "weights", "init"])
    assert list(chosen[3]) == ["lr", "init", "weights"]
    assert list(chosen.columns) == ["lr", "init"]
    assert_same(chosen[[3, 1]], {name: train[[3, 1]][name] for name in chosen[3]})
    assert list(chosen.select_columns("lr")[3]) == ["lr", "weights"]
    assert list(chosen.select_columns([])[[3]]) == ["weights"]
    chosen.module(3)  # the columns it needs were loaded, if not shown
    with pytest.raises(KeyError, match=r"no columns \['epoch'\], there are \['lr', 'init'"):
        chosen.select_columns(["epoch"])


def test_features_name_every_type(train: ZooDataset) -> None:
    features = train.features
    assert list(features) == [*train.columns, "weights"]
    assert (features["model_id"], features["init"], features["weights"]) == (
        "int64",
        "text",
        "float32[71]",
    )


def test_concatenate_zoos_joins_rows_and_columns(tiny_zoo: Path, sharded_zoo: Path) -> None:
    one, other = load_zoo(tiny_zoo, split="train"), load_zoo(sharded_zoo, split="val")
    both = concatenate_zoos([one.select([5, 0]), other, one])
    assert torch.equal(
        both.weights(), torch.cat([one[[5, 0]]["weights"], *map(_all, (other, one))])
    )
    for name, column in both.columns.items():
        parts = [one.columns[name][[5, 0]], other.columns[name], one.columns[name]]
        np.testing.assert_array_equal(column, np.concatenate(parts))
    assert_same(both[[0, 3]], {**both.select([0, 3])[:]})
    assert pickle.loads(pickle.dumps(both))[3]["optimizer"] == other.columns["optimizer"][1]


def _all(dataset: ZooDataset) -> torch.Tensor:
    return dataset.weights()


def test_concatenate_zoos_refuses_what_does_not_fit(train: ZooDataset, sharded_zoo: Path) -> None:
    with pytest.raises(ValueError, match="at least one dataset"):
        concatenate_zoos([])
    with pytest.raises(ValueError, match="differ in their layer table"):
        concatenate_zoos([train, train.layer("conv1")])
    with pytest.raises(ValueError, match=r"without the columns \['model_id'"):
        concatenate_zoos([train, load_zoo(sharded_zoo, split="val", columns=["epoch"])])


def test_trajectory_is_one_model_by_epoch(train: ZooDataset) -> None:
    chosen = train.trajectory(2)
    assert chosen.columns["epoch"].tolist() == [0, 1, 2]
    assert torch.equal(chosen.weights(), train.weights()[6:9])
    with pytest.raises(ValueError, match=r"no model 77 among 4 models, .* \[0, 1, 2, 3\]"):
        train.trajectory(77)


def test_module_gives_the_logits_of_its_weights(train: ZooDataset) -> None:
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for index in range(len(train)):
        module = train.module(index)
        assert not module.training
        activation = train.columns["activation"][index]
        fresh = train.header.architecture.module(activation).eval()
        tensors = train.layer_table.split(train.weights([index])[0])
        assert torch.equal(module(images), functional_call(fresh, tensors, images))
        rates = {m.p for m in module.modules() if isinstance(m, torch.nn.Dropout)}
        assert rates == {train.columns["dropout"][index]}


def test_state_dict_has_the_shapes_of_the_table(train: ZooDataset) -> None:
    state = train.state_dict(4)
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        tensor.name: tensor.shape for tensor in train.layer_table
    }
    assert torch.equal(train.layer_table.flatten(state), train.weights()[4])


def test_module_without_architecture_says_what_to_do(mixed_file: Path) -> None:
    file = open_zoo_file(mixed_file)
    header = replace(file.header, architecture=None)
    weights = np.array(file.map_weights())
    write_zoo_file(mixed_file, header, file.read_columns(), weights)
    dataset = load_zoo(mixed_file, split="train")
    with pytest.raises(ZooFormatError, match="no architecture.*state_dict"):
        dataset.module(0)
    assert dataset.state_dict(0)["conv1.weight"].shape == (2, 1, 3, 3)


def test_numpy_format_gives_arrays(train: ZooDataset) -> None:
    arrays = train.with_format("numpy")
    batch, tensors = arrays[[3, 9]], train[[3, 9]]
    assert {type(value) for value in batch.values()} == {np.ndarray}
    for name, value in tensors.items():
        assert batch[name].tolist() == (value if isinstance(value, list) else value.tolist())
    assert type(arrays[3]["weights"]) is np.ndarray
    assert type(arrays["lr"]) is type(arrays["init"]) is np.ndarray
    assert_same(default_collate(arrays.__getitems__([3, 9])), tensors)


def test_state_dict_format_gives_tensors_by_name(train: ZooDataset) -> None:
    states = train.with_format("state_dict")
    batch, row = states[[3, 9]]["state_dict"], states[9]["state_dict"]
    for name, value in train.state_dict(9).items():
        assert torch.equal(batch[name][1], value)
        assert torch.equal(row[name], value)
    loaded = next(iter(DataLoader(states.select([3, 9]), batch_size=2)))
    assert torch.equal(loaded["state_dict"]["conv1.weight"], batch["conv1.weight"])
    assert loaded["epoch"].tolist() == [0, 0]


def test_module_format_gives_networks(train: ZooDataset) -> None:
    modules = train.with_format("module").select_columns(["epoch"])
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = next(iter(DataLoader(modules, batch_size=3)))
    assert list(batch) == ["epoch", "module"]
    for index, module in enumerate([*batch["module"], modules[3]["module"]]):
        assert torch.equal(module(images), train.module(index)(images))


def test_layer_sets_format_takes_any_tokenizer(train: ZooDataset) -> None:
    tokens = train.with_format("layer_sets", lambda weights: {"double": 2 * weights})
    assert torch.equal(tokens[[4, 2]]["double"], 2 * train.weights([4, 2]))
    assert "weights" not in tokens[4]


def test_layer_sets_format_gives_tokens_in_place_of_weights(train: ZooDataset) -> None:
    tokens = train.with_format("layer_sets", chunk_size=8)
    expected = LayerSets(train.layer_table, 8)(train.weights([3, 9]))
    for batch in (
        tokens[[3, 9]],
        next(iter(DataLoader(tokens.select([3, 9]), batch_size=2))),
        default_collate([tokens[3], tokens[9]]),
    ):
        assert set(batch) == {*train.columns, *expected}
        assert all(torch.equal(batch[name], value) for name, value in expected.items())
        assert batch["epoch"].tolist() == [0, 0]
    assert torch.equal(tokens[9]["values"], expected["values"][1])
    assert tokens[[]]["values"].shape == (0, *expected["values"].shape[1:])
    assert list(tokens.with_format("torch")[3]) == list(train[3])


def test_layer_sets_of_large_rows_are_cut_where_the_rows_lie(
    train: ZooDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = LayerSets(train.layer_table, 8)(train.weights([9, 3, 4]))
    monkeypatch.setattr("weightzoo.loaders.dataset.formats.LARGE_ROW_BYTES", 0)
    tokens = train.with_format("layer_sets", chunk_size=8)
    with monkeypatch.context() as patch:
        patch.setattr(WeightRows, "take", None)
        batch = tokens[[9, 3, 4]]
    assert all(torch.equal(batch[name], value) for name, value in expected.items())
    assert batch["model_id"].tolist() == train[[9, 3, 4]]["model_id"].tolist()
    path = train.source.files[1].path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        tokens[[9]]


def test_with_format_rejects_unknown_formats_and_clashing_columns(train: ZooDataset) -> None:
    with pytest.raises(ValueError, match=r"'module', 'layer_sets'\), got 'jax'"):
        train.with_format("jax")
    clashing = replace(train, shown=("epoch", "level"))
    with pytest.raises(ValueError, match=r"layer sets use the names \['level'\]"):
        clashing.with_format("layer_sets")


def test_weight_blocks_are_all_rows_in_order(train: ZooDataset) -> None:
    blocks = list(train.weight_blocks(5))
    assert [len(block) for block in blocks] == [5, 5, 2]
    assert torch.equal(torch.cat(blocks), train.weights())
    assert list(train.select([]).weight_blocks()) == []
