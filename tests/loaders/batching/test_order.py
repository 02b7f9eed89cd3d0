"""The order of an epoch: a function of seed and epoch, shared by ranks without overlap or loss."""

import itertools

import numpy as np
import pytest
from torch.utils.data import DataLoader

from weightzoo.loaders import BatchOrder, BlockShuffle, ZooDataset
from weightzoo.loaders.batching.order import epoch_order

SHUFFLES = [True, False, BlockShuffle(block_rows=4, window_blocks=3)]


def batches(order: BatchOrder) -> list[list[int]]:
    return [batch.tolist() for batch in order]


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_epoch_order_holds_every_row_once(shuffle: bool | BlockShuffle) -> None:
    for rows in (1, 2, 50, 1000):
        assert sorted(epoch_order(rows, 3, 1, shuffle).tolist()) == list(range(rows))


def test_epoch_order_depends_on_seed_and_epoch_alone() -> None:
    orders = {
        pair: epoch_order(200, *pair).tolist() for pair in itertools.product(range(3), range(3))
    }
    assert len({tuple(order) for order in orders.values()}) == 9
    assert orders[1, 2] == epoch_order(200, 1, 2).tolist()
    # pinned: the same on every machine and numpy version
    assert epoch_order(10, 0, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


def test_block_shuffle_keeps_blocks_within_their_window() -> None:
    order = epoch_order(100, 0, 0, BlockShuffle(block_rows=5, window_blocks=4))
    for window in order.reshape(5, 20):
        assert len(set((window // 5).tolist())) == 4
    assert order.tolist() != sorted(order.tolist())
    inside = order.reshape(5, 20)[0]
    assert (np.diff(inside // 5) != 0).sum() > 4  # rows of the blocks are mixed


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_ranks_share_rows_without_overlap_or_loss(
    shuffle: bool | BlockShuffle, drop_last: bool
) -> None:
    for rows, size, ranks in itertools.product([7, 42, 101], [1, 2, 5, 64], [1, 2, 4, 7]):
        options = {"shuffle": shuffle, "drop_last": drop_last, "world_size": ranks}
        orders = [BatchOrder(rows, size, rank=rank, **options) for rank in range(ranks)]
        parts = [batches(order) for order in orders]
        assert [len(part) for part in parts] == [len(order) for order in orders]
        seen = [row for part in parts for batch in part for row in batch]
        assert len(seen) == len(set(seen))
        sizes = {len(batch) for part in parts for batch in part}
        steps = {len(part) for part in parts}
        if drop_last:
            assert steps == {rows // ranks // size} and sizes <= {size}
        else:
            assert sorted(seen) == list(range(rows)) and max(sizes) <= size and min(sizes) >= 1
            assert len(steps) == 1 or size == 1 and max(steps) - min(steps) == 1


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_ranks_together_read_the_batches_of_one_process(shuffle: bool | BlockShuffle) -> None:
    for rows, size, ranks in itertools.product([42, 101], [2, 5], [2, 3]):
        whole = batches(BatchOrder(rows, size * ranks, shuffle=shuffle, seed=4))
        parts = [
            batches(BatchOrder(rows, size, shuffle=shuffle, seed=4, rank=rank, world_size=ranks))
            for rank in range(ranks)
        ]
        joined = [sum((part[index] for part in parts), []) for index in range(len(parts[0]))]
        if rows % (size * ranks) >= ranks:  # else a rank would have no row of the last batch
            assert joined == whole
        assert sorted(sum(joined, [])) == list(range(rows))


def test_more_ranks_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="world_size=8 ranks cannot share 7 rows"):
        BatchOrder(7, 2, world_size=8)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="the dataset has no rows, so there is no batch"):
        BatchOrder(0, 2)


def test_every_pass_takes_the_next_epoch_and_set_epoch_says_which() -> None:
    order, other = BatchOrder(20, 6, seed=5), BatchOrder(20, 6, seed=5)
    first, second = batches(order), batches(order)
    assert first != second
    other.set_epoch(1)
    assert batches(other) == second
    other.set_epoch(0)
    assert batches(other) == first
    next(iter(other))  # left early
    assert batches(other) == batches_of_epoch(2)


def batches_of_epoch(epoch: int) -> list[list[int]]:
    order = BatchOrder(20, 6, seed=5)
    order.set_epoch(epoch)
    return batches(order)


@pytest.mark.parametrize("done", [0, 1, 3, 4])
def test_state_resumes_with_the_remaining_batches(done: int) -> None:
    order = BatchOrder(20, 6, seed=5)
    order.set_epoch(3)
    for batch in itertools.islice(order, done):
        assert len(batch) > 0
    copy = BatchOrder(20, 6, seed=5)
    copy.load_state_dict(order.state_dict())
    expected = batches_of_epoch(3)[done:] if done < 4 else batches_of_epoch(4)
    assert batches(copy) == expected
    assert batches(copy) == batches_of_epoch(4 if done < 4 else 5)


def test_state_of_another_order_is_refused() -> None:
    state = BatchOrder(20, 6, world_size=2).state_dict()
    with pytest.raises(ValueError, match="saved with {'world_size': 2}, this order has"):
        BatchOrder(20, 6).load_state_dict(state)
    BatchOrder(20, 6, rank=1, world_size=2).load_state_dict(state)


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"rank": 2}, {"rank": -1}, {"seed": -1}, {"world_size": 0}, {"shuffle": 1}],
)
def test_batch_order_refuses_numbers_out_of_range(wrong: dict[str, int]) -> None:
    settings = {"rows": 9, "batch_size": 3, "world_size": 2} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BatchOrder(**settings)
    with pytest.raises(ValueError, match="block_rows must be a whole number from 1, got 0"):
        BlockShuffle(block_rows=0)


def test_batch_order_is_a_batch_sampler_of_a_dataloader(train: ZooDataset) -> None:
    order = BatchOrder(len(train), 5, seed=1)
    loader = DataLoader(train, batch_sampler=order)
    assert len(loader) == 3
    seen = [epoch for batch in loader for epoch in batch["model_id"].tolist()]
    rows = epoch_order(12, 1, 0)
    parts = [np.sort(rows[start : start + 5]) for start in (0, 5, 10)]
    assert seen == train.columns["model_id"][np.concatenate(parts)].tolist()
