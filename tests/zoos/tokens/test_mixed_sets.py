"""Layer sets of several architectures in one batch: every value in its place, padding masked."""

import pytest
import torch
from torch import Tensor

from weightzoo.loaders import Chunks, Neurons, pad_layer_sets
from weightzoo.zoos.networks.presets import preset

TABLES = [preset(name).layer_table() for name in ("inr", "cnn-s")]


def sets() -> tuple[list[Neurons], list[dict[str, Tensor]]]:
    tokenizers = [Neurons(table) for table in TABLES]
    rows = [torch.randn(2 + place, table.width) for place, table in enumerate(TABLES)]
    return tokenizers, [t(weights) for t, weights in zip(tokenizers, rows, strict=True)]


def test_padded_sets_hold_each_set_and_mask_the_rest() -> None:
    tokenizers, parts = sets()
    batch = pad_layer_sets(parts)
    tokens, size = (max(t.shape[axis] for t in tokenizers) for axis in (0, 1))
    assert batch["values"].shape == batch["mask"].shape == (5, tokens, size)
    assert batch["position"].shape == (5, tokens, 3) and batch["kind"].shape == (5, tokens)
    assert batch["architecture"].tolist() == [0, 0, 1, 1, 1]
    for model, place in enumerate(batch["architecture"].tolist()):
        part, (count, length) = parts[place], tokenizers[place].shape
        mine = model if place == 0 else model - 2
        assert torch.equal(batch["values"][model, :count, :length], part["values"][mine])
        assert torch.equal(batch["mask"][model, :count, :length], part["mask"])
        assert batch["mask"][model].sum() == TABLES[place].width
        for name in ("kind", "role", "level", "tensor", "position"):
            assert torch.equal(batch[name][model, :count], part[name])
            assert not batch[name][model, count:].any()
    assert not batch["values"][~batch["mask"]].any()


def test_padding_refuses_no_sets_and_other_names() -> None:
    with pytest.raises(ValueError, match=r"one or more, all with the same names, got \[\]"):
        pad_layer_sets([])
    tokens = Chunks(TABLES[0])(torch.zeros(1, TABLES[0].width))
    with pytest.raises(ValueError, match="same names, got"):
        pad_layer_sets([tokens, {"values": tokens["values"]}])
