"""A zoo for tests of autoencoders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows

from weightzoo.loaders import HiddenPermutations, ZooDataset, load_zoo
from weightzoo.zoos.format import write_zoo_file


@pytest.fixture
def zoo(tmp_path: Path) -> dict[str, ZooDataset]:
    """Models that are four numbers: mixtures of as many fixed weights, units in random order."""
    torch.manual_seed(0)
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    rng = np.random.default_rng(0)
    shares = np.repeat(rng.uniform(0.5, 1.5, (60, 4)).astype(np.float32), 3, axis=0)
    columns["test_accuracy"][:] = shares[:, 0] / 2
    mixed = torch.from_numpy(shares @ weights[:4])
    permutations = HiddenPermutations.of(architecture)
    drawn = permutations.random_permutations(torch.Generator().manual_seed(0), 60)
    orders = [order.repeat_interleave(3, 0) for order in drawn]
    write_zoo_file(
        tmp_path / "zoo.h5",
        tiny_header(architecture),
        columns,
        permutations.apply(mixed, orders).numpy(),
    )
    return load_zoo(tmp_path / "zoo.h5")
