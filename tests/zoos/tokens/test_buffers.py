"""Reused memory: a batch is never written again, and padding is zero whatever users did."""

import gc

import pytest
import torch
from torch import nn

from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.tokens.buffers import PaddedBuffers
from weightzoo.zoos.tokens.neurons import Neurons

NEURONS = Neurons(LayerTable.from_module(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))))
WIDTH = NEURONS.layer_table.width


def padding(values: torch.Tensor) -> torch.Tensor:
    """What stands where there is no value."""
    return values[:, ~NEURONS.shared["mask"]]


def test_memory_is_reused_only_when_nothing_refers_to_it() -> None:
    buffers = PaddedBuffers(8)
    first = buffers.take(4)
    address, view = first.data_ptr(), first[1:3].view(-1)
    del first
    gc.collect()
    assert buffers.take(4).data_ptr() != address  # the view still reads it
    del view
    found = [buffers.take(4) for _ in range(3)]
    assert address in [tensor.data_ptr() for tensor in found]


def test_batches_that_are_kept_stay_as_they_are() -> None:
    batches = [NEURONS(torch.full((3, WIDTH), float(number)))["values"] for number in range(20)]
    for number, values in enumerate(batches):
        assert torch.equal(NEURONS.inverse(values), torch.full((3, WIDTH), float(number)))


@pytest.mark.parametrize("write", ["add_", "view", "detach", "out", "inference"])
def test_padding_is_zero_again_after_a_user_wrote_to_it(write: str) -> None:
    addresses = set()
    for _ in range(3):
        values = NEURONS(torch.ones(3, WIDTH))["values"]
        addresses.add(values.data_ptr())
        assert not padding(values).any()
        if write == "add_":
            values.add_(5)
        elif write == "view":
            values[1].transpose(0, 1).fill_(5)
        elif write == "detach":
            values.detach()[:] = 5
        elif write == "out":
            torch.add(values, 5, out=values)
        else:
            with torch.inference_mode():
                values.add_(5)
        assert padding(values).any()
        del values
    assert len(addresses) == 1


def test_inference_mode_reuses_memory_too() -> None:
    with torch.inference_mode():
        values = NEURONS(torch.ones(3, WIDTH))["values"]
        values += 1
        del values
        assert not padding(NEURONS(torch.ones(3, WIDTH))["values"]).any()


def test_smaller_batch_in_a_larger_buffer_leaves_the_rest_clean() -> None:
    buffers = PaddedBuffers(4)
    buffers.take(8)
    buffers.take(2).fill_(7)
    assert not buffers.take(8).any()
