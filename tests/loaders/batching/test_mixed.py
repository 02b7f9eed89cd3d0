"""MixedLoader: batches of one architecture each, in an order of the seed, resumable."""

import itertools
from pathlib import Path

import pytest
import torch

from weightzoo.loaders import DeviceLoader, MixedLoader, ZooDataset


def mixed(seven: ZooDataset, rank: int = 0, world_size: int = 1, seed: int = 2) -> MixedLoader:
    """Two "architectures": whole rows, and one layer of them."""
    options = {"columns": ["model_id", "epoch"], "rank": rank, "world_size": world_size}
    return MixedLoader(
        {
            "whole": DeviceLoader(seven, 5, mode="resident", **options),
            "layer": DeviceLoader(seven.layer("linear1"), 9, mode="streaming", **options),
        },
        seed=seed,
    )


def plain(loader: MixedLoader) -> list[tuple]:
    return [(name, batch["weights"].tolist(), batch["epoch"].tolist()) for name, batch in loader]


def test_mixed_loader_gives_every_batch_of_every_loader(seven: ZooDataset) -> None:
    loader = mixed(seven)
    assert len(loader) == 9 + 5
    found = list(loader)
    assert [name for name, _ in found] == loader.turns(0)
    widths = {
        name: {batch["weights"].shape[1] for one, batch in found if one == name}
        for name in ("whole", "layer")
    }
    assert widths == {"whole": {71}, "layer": {36}}
    for name, single in mixed(seven).loaders.items():
        of_loader = [batch["weights"] for one, batch in found if one == name]
        for one, other in zip(of_loader, single, strict=True):
            assert torch.equal(one, other["weights"])


def test_mixed_loader_order_is_a_function_of_seed_and_epoch(seven: ZooDataset) -> None:
    loader, same, other = mixed(seven), mixed(seven), mixed(seven, seed=3)
    epochs = [plain(loader), plain(loader)]
    assert epochs[0] != epochs[1]
    assert plain(same) == epochs[0]
    same.set_epoch(1)
    assert plain(same) == epochs[1]
    assert other.turns(0) != loader.turns(0)


@pytest.mark.parametrize("done", [0, 1, 6, 14])
def test_mixed_loader_resumes_in_mid_epoch(seven: ZooDataset, done: int) -> None:
    whole = mixed(seven)
    epochs = [plain(whole) for _ in range(3)]
    left = mixed(seven)
    left.set_epoch(1)
    for _ in itertools.islice(left, done):
        state = left.state_dict()
    state = left.state_dict()
    resumed = mixed(seven)
    resumed.load_state_dict(state)
    expected = epochs[1][done:] if done < 14 else epochs[2]
    assert plain(resumed) == expected


def test_mixed_loader_ranks_take_turns_together(seven: ZooDataset) -> None:
    ranks = [mixed(seven, rank, 2) for rank in range(2)]
    assert ranks[0].turns(0) == ranks[1].turns(0)
    rows = [
        (name, int(model), int(epoch))
        for loader in ranks
        for name, batch in loader
        for model, epoch in zip(batch["model_id"], batch["epoch"], strict=True)
    ]
    assert len(rows) == len(set(rows)) == 2 * 42


def test_mixed_loader_refuses_nothing_and_another_state(seven: ZooDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one loader"):
        MixedLoader({})
    state = mixed(seven).state_dict()
    with pytest.raises(ValueError, match="seed 2, this MixedLoader has .* and seed 3"):
        mixed(seven, seed=3).load_state_dict(state)
