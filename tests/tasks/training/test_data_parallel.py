"""Training by two processes: the steps of one process with the batch of both."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows
from torch import nn

from weightzoo.tasks.training import data_parallel
from weightzoo.tasks.training.data_parallel import SharedBatchNorm, share_batch_norms
from weightzoo.zoos.format import write_zoo_file

# of weights and buffers; with a batch norm in the head one process that starts from weights changed
# by 3e-8 ends as far away, in its second loss by 0.4 %
TOLERANCES = {"sne": 5e-3, "sne, pre-norm": 2e-4, "hyper-representation": 2e-4}
LOSS_TOLERANCES = 2 * [1e-2] + 4 * [1e-5]
# their gradients are zero but for rounding, which AdamW scales to whole steps
WITHOUT_GRADIENT = ("key.bias", "in_proj_bias", "network.pool.block.norm.bias", "running_mean")


def run(processes: int, zoo: Path, folder: Path) -> list[dict]:
    script = Path(__file__).with_name("train_as_rank.py")
    commands = [
        [sys.executable, script, str(rank), str(processes), zoo, folder]
        for rank in range(processes)
    ]
    started = [subprocess.Popen(command) for command in commands]
    assert [one.wait(timeout=600) for one in started] == [0] * processes
    return [torch.load(folder / f"{rank}-of-{processes}.pt") for rank in range(processes)]


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one_with_the_batch_of_both(tmp_path: Path) -> None:
    architecture = tiny_architecture()
    torch.manual_seed(0)
    columns, weights = tiny_rows(architecture, ["train"] * 24 + ["val"] * 6)
    zoo = tmp_path / "zoo.h5"
    write_zoo_file(zoo, tiny_header(architecture), columns, weights)
    [alone], (one, other) = run(1, zoo, tmp_path), run(2, zoo, tmp_path)
    for encoder, tolerance in TOLERANCES.items():
        for name, want in alone[encoder].items():
            assert torch.equal(one[encoder][name], other[encoder][name]), name
            if not name.endswith(WITHOUT_GRADIENT):
                torch.testing.assert_close(one[encoder][name], want, atol=tolerance, rtol=0)
    assert one["losses"] == other["losses"]
    for loss, want, tolerance in zip(one["losses"], alone["losses"], LOSS_TOLERANCES, strict=True):
        assert loss == pytest.approx(want, rel=tolerance)
    torch.testing.assert_close(torch.cat([one["norm"], other["norm"]]), alone["norm"])


def test_batch_norm_of_one_process_is_the_stock_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    stock, shared = nn.BatchNorm1d(3), SharedBatchNorm(3)
    monkeypatch.setattr(data_parallel, "rank_and_world", lambda: (0, 2))
    monkeypatch.setattr(data_parallel, "summed", lambda tensor: tensor)  # no rows elsewhere
    torch.testing.assert_close(shared(values), stock(values))
    for name, buffer in stock.named_buffers():
        torch.testing.assert_close(shared.get_buffer(name), buffer)
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    with pytest.raises(ValueError, match="encoders with BatchNorm1d alone, got BatchNorm2d"):
        share_batch_norms(net)
