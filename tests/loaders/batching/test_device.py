"""DeviceLoader: the same batches in both modes, on every rank, after a resume; nothing overwritten.

What needs a CUDA device is marked `gpu`.
"""

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.loaders import BlockShuffle, DeviceLoader, LayerSets, ZooDataset, load_zoo
from weightzoo.loaders.batching import device as device_module
from weightzoo.loaders.batching.order import epoch_order
from weightzoo.zoos.errors import ZooFormatError

MODES = ["resident", "streaming"]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])]


def ring_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("weightzoo")]


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """Every test ends with the threads that it began with."""
    yield
    assert ring_threads() == []


def assert_same_batches(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name, value in other.items():
            same = (
                torch.equal(one[name].cpu(), value.cpu())
                if isinstance(value, torch.Tensor)
                else (one[name] == value)
            )
            assert same, name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
def test_batches_hold_the_rows_of_the_order(seven: ZooDataset, mode: str, device: str) -> None:
    columns = ["init", "epoch", "lr", "status"]
    loader = DeviceLoader(seven, 10, device, seed=3, mode=mode, columns=columns)
    assert loader.mode == mode
    for epoch in range(2):
        order = epoch_order(42, 3, epoch)
        wanted = seven.select_columns(columns)
        parts = [np.sort(order[start : start + 10]) for start in range(0, 42, 10)]
        assert len(loader) == len(parts) == 5
        assert_same_batches(list(loader), [wanted[part] for part in parts])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shards", ["one", "seven"])
def test_batches_are_never_overwritten(
    seven: ZooDataset, tiny_zoo: Path, shards: str, mode: str, device: str
) -> None:
    dataset = seven if shards == "seven" else load_zoo(tiny_zoo, split="train")
    loader = DeviceLoader(dataset, 2, device, mode=mode, columns=["epoch"])
    held = [(batch["weights"][1:], batch["epoch"]) for _ in range(6) for batch in loader]
    for epoch in range(6):
        order = epoch_order(len(dataset), 0, epoch)
        for place in range(len(loader)):
            weights, epochs = held.pop(0)
            rows = np.sort(order[2 * place : 2 * place + 2])
            assert torch.equal(weights.cpu(), dataset.weights(rows[1:]))
            assert epochs.tolist() == dataset.columns["epoch"][rows].tolist()


def test_streaming_reuses_memory_that_nobody_holds(tiny_zoo: Path) -> None:
    dataset = load_zoo(tiny_zoo, split="train")
    loader = DeviceLoader(dataset, 2, mode="streaming", columns=[])
    places = {batch["weights"].data_ptr() for _ in range(20) for batch in loader}
    assert len(places) <= 5


def test_batches_hold_all_numbers_by_default(seven: ZooDataset) -> None:
    batch = next(iter(DeviceLoader(seven, 4)))
    numbers = [name for name, column in seven.columns.items() if column.dtype.kind != "O"]
    assert {"epoch", "lr", "test_accuracy"} < set(numbers) < set(seven.columns)
    assert list(batch) == [*numbers, "weights"]
    with pytest.raises(KeyError, match=r"no columns \['size'\]"):
        DeviceLoader(seven, 4, columns=["size"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [True, BlockShuffle(block_rows=4, window_blocks=2)])
def test_four_ranks_read_seven_shards_once(
    seven: ZooDataset, shuffle: bool | BlockShuffle, drop_last: bool, mode: str
) -> None:
    """Every row of every epoch is given to exactly one rank; with drop_last at most one."""
    options = {"shuffle": shuffle, "drop_last": drop_last, "mode": mode, "seed": 1}
    loaders = [DeviceLoader(seven, 3, rank=rank, world_size=4, **options) for rank in range(4)]
    whole = {row.numpy().tobytes() for row in seven.weights()}
    assert len(whole) == 42
    for _ in range(2):
        parts = [list(loader) for loader in loaders]
        rows = [row.numpy().tobytes() for part in parts for b in part for row in b["weights"]]
        assert len(rows) == len(set(rows)) == (36 if drop_last else 42)
        assert set(rows) <= whole
        assert {len(part) for part in parts} == {3 if drop_last else 4}


def test_more_ranks_than_rows_are_refused(seven: ZooDataset) -> None:
    with pytest.raises(ValueError, match="world_size=43 ranks cannot share 42 rows"):
        DeviceLoader(seven, 3, rank=0, world_size=43)


def test_rank_and_world_size_come_from_torch_distributed(seven: ZooDataset, tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        order = DeviceLoader(seven, 3).order
        assert (order.rank, order.world_size) == (0, 1)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_one_model_in_step(seven: ZooDataset, tmp_path: Path) -> None:
    """Gloo, 42 rows: every row once an epoch, as many steps on both ranks, equal parameters."""
    script, zoo = Path(__file__).with_name("train_as_rank.py"), seven.source.files[0].path.parent
    commands = [[sys.executable, script, str(rank), zoo, tmp_path] for rank in range(2)]
    ranks = [subprocess.Popen(command) for command in commands]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    numbers = 10 * seven["model_id"] + seven["epoch"]
    for epoch in (0, 1):
        read = torch.cat([one["rows"][epoch], other["rows"][epoch]])
        assert torch.equal(read.sort().values, numbers.sort().values)
    assert not torch.equal(one["rows"][0], one["rows"][1])
    assert one["steps"] == other["steps"] == 12
    assert torch.equal(one["weight"], other["weight"]) and one["weight"].any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("done", [0, 2, 5])
def test_resume_gives_the_remaining_batches(seven: ZooDataset, done: int, mode: str) -> None:
    def loader() -> DeviceLoader:
        return DeviceLoader(seven, 10, seed=4, mode=mode)

    whole = loader()
    epochs = [list(whole) for _ in range(3)]
    left = loader()
    left.set_epoch(1)
    assert len(list(itertools.islice(left, done))) == done
    resumed = loader()
    resumed.load_state_dict(left.state_dict())
    remaining = epochs[1][done:] if done < 5 else epochs[2]
    assert_same_batches(list(resumed), remaining)
    assert resumed.state_dict()["batches_done"] == 5


def test_state_counts_batches_handed_out_not_those_read_ahead(seven: ZooDataset) -> None:
    loader = DeviceLoader(seven, 10, mode="streaming")
    batches = iter(loader)
    for done in range(1, 4):
        next(batches)
        assert loader.state_dict()["batches_done"] == done
    batches.close()


def test_leaving_early_ends_the_threads_and_the_next_pass_is_whole(seven: ZooDataset) -> None:
    loader = DeviceLoader(seven, 4, mode="streaming")
    for _ in range(3):
        for _batch in loader:
            assert ring_threads()
            break
        assert ring_threads() == []
    assert len(list(loader)) == len(loader) == 11
    with pytest.raises(RuntimeError, match="the loop's own"):
        for _batch in loader:
            raise RuntimeError("the loop's own")
    loader.set_epoch(0)
    first = [batch["weights"] for batch in loader]
    loader.set_epoch(0)
    for one, other in zip(first, loader, strict=True):
        assert torch.equal(one, other["weights"])


def test_an_error_in_a_thread_reaches_the_loop(seven: ZooDataset) -> None:
    loader = DeviceLoader(seven, 4, shuffle=False, mode="streaming")
    path = seven.source.files[6].path
    path.write_bytes(path.read_bytes())
    read = 0
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        for _ in loader:
            read += 1
    assert read == 9  # of 36 rows in the six files before


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
def test_transform_takes_the_weights_on_the_device(
    seven: ZooDataset, mode: str, device: str
) -> None:
    sets = LayerSets(seven.layer_table, 8)
    options = {"mode": mode, "shuffle": False, "columns": ["epoch"]}
    plain = next(iter(DeviceLoader(seven, 4, device, **options)))["weights"]
    batch = next(iter(DeviceLoader(seven, 4, device, transform=sets, **options)))
    assert torch.equal(batch["values"], sets(plain)["values"])
    assert {*batch} == {"epoch", *sets(plain)}
    double = next(iter(DeviceLoader(seven, 4, device, transform=lambda w: 2 * w, **options)))
    assert torch.equal(double["weights"], 2 * plain)
    format_ = seven.with_format("layer_sets", chunk_size=8)
    assert torch.equal(
        next(iter(DeviceLoader(format_, 4, device, **options)))["values"], batch["values"]
    )


def test_device_loader_reads_parts_and_selections(seven: ZooDataset) -> None:
    part = seven.filter("epoch == 2").layer("linear1")
    for mode in MODES:
        loader = DeviceLoader(part, 3, shuffle=False, mode=mode, columns=[])
        found = torch.cat([batch["weights"] for batch in loader])
        assert torch.equal(found, seven.weights()[2::3, 20:56])


@pytest.mark.parametrize("models", [False, True])
def test_prepared_rows_are_equal_in_both_modes(seven: ZooDataset, models: bool) -> None:
    calls: list[int] = []

    def prepare(weights: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        calls.append(len(rows))
        return weights + torch.from_numpy(rows).float()[:, None]

    rows = seven.trajectories() if models else seven
    read = {mode: DeviceLoader(rows, 5, mode=mode, prepare=prepare) for mode in MODES}
    assert calls == [42]  # resident rows are prepared once
    found = {mode: list(loader) for mode, loader in read.items()}
    assert_same_batches(found["streaming"], found["resident"])
    plain = torch.cat([batch["weights"] for batch in DeviceLoader(rows, 42, shuffle=False)])
    whole = torch.cat(
        [batch["weights"] for batch in DeviceLoader(rows, 42, shuffle=False, prepare=prepare)]
    )
    assert torch.equal((whole - plain)[..., 0].round().long().flatten(), torch.arange(42))


def test_auto_mode_goes_by_free_memory(seven: ZooDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 42 * 71 * 4
    for free, mode in ((2 * needed, "resident"), (2 * needed - 2, "streaming")):
        monkeypatch.setattr(device_module, "free_bytes", lambda device, free=free: free)
        assert DeviceLoader(seven, 4).mode == mode
    monkeypatch.undo()
    assert DeviceLoader(seven, 4, "cpu").mode == "streaming"


@pytest.mark.parametrize("error", [MemoryError, torch.cuda.OutOfMemoryError])
def test_resident_mode_falls_back_to_streaming_when_memory_ends(
    seven: ZooDataset, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def upload(*_: object) -> None:
        raise error("out of memory")

    expected = list(DeviceLoader(seven, 10, mode="resident"))
    monkeypatch.setattr(device_module, "_upload", upload)
    with pytest.warns(UserWarning, match="11,928 bytes .* falling back to mode='streaming'"):
        loader = DeviceLoader(seven, 10, mode="resident")
    assert loader.mode == "streaming"
    assert_same_batches(list(loader), expected)


@pytest.mark.gpu
@needs_cuda
def test_resident_mode_falls_back_when_a_real_device_is_full(seven: ZooDataset) -> None:
    torch.cuda.set_per_process_memory_fraction(1e-9)
    torch.cuda.empty_cache()
    try:
        with pytest.warns(UserWarning, match="falling back"):
            loader = DeviceLoader(seven, 10, "cuda", mode="resident")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(list(loader)) == 5


@pytest.mark.gpu
@needs_cuda
def test_streaming_waits_for_kernels_that_still_read(seven: ZooDataset) -> None:
    """A consumer that queues slow kernels and never waits still computes on the right rows."""
    loader = DeviceLoader(seven, 4, "cuda", mode="streaming", columns=[])
    sums = []
    for batch in loader:
        torch.cuda._sleep(20_000_000)
        sums.append(batch["weights"].double().sum())
    expected = [batch["weights"].double().sum() for batch in DeviceLoader(seven, 4)]
    assert torch.allclose(torch.stack(sums).cpu(), torch.stack(expected))


@pytest.mark.parametrize(
    "wrong", [{"mode": "fast"}, {"batch_size": 0}, {"seed": -1}, {"rank": 3, "world_size": 2}]
)
def test_device_loader_refuses_bad_arguments(seven: ZooDataset, wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DeviceLoader(seven, **({"batch_size": 4} | wrong))
    with pytest.raises(ValueError, match="got 'numpy'"):
        DeviceLoader(seven.with_format("numpy"), 4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_cuda_device_that_is_not_there_is_refused(seven: ZooDataset) -> None:
    with pytest.raises(ValueError, match="finds no CUDA device here for 'cuda': pass device='cpu'"):
        DeviceLoader(seven, 4, "cuda")


def test_two_passes_at_once_do_not_disturb_each_other(seven: ZooDataset) -> None:
    loader = DeviceLoader(seven, 10, mode="streaming", columns=[])
    pairs = list(itertools.zip_longest(loader, loader))
    for side, epoch in ((0, 0), (1, 1)):
        found = torch.cat([pair[side]["weights"] for pair in pairs])
        order = epoch_order(42, 0, epoch)
        parts = [np.sort(order[start : start + 10]) for start in range(0, 42, 10)]
        assert torch.equal(found, seven.weights(np.concatenate(parts)))
