"""SNE without encodings: the ablations of the paper's appendix E.1."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from weightzoo.encoders.sne import SNE
from weightzoo.zoos.networks.layer_table import LayerTable


def test_without_positions_a_layers_place_in_the_network_does_not_show() -> None:
    table = LayerTable.from_module(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)))
    deeper = LayerTable(tuple(replace(spec, depth=3 - spec.depth) for spec in table))
    weights = torch.randn(2, table.width, generator=torch.Generator().manual_seed(0))
    outputs = {}
    for positions in ("none", "layer"):
        torch.manual_seed(0)
        sne = SNE(width=8, chunk_size=8, positions=positions, head_norm=False).eval()
        outputs[positions] = [sne(weights, one) for one in (table, deeper)]
    torch.testing.assert_close(*outputs["none"])
    assert not torch.allclose(*outputs["layer"], atol=1e-4)


def test_without_hierarchy_it_does_not_show_which_chunks_make_a_tensor() -> None:
    two = LayerTable.from_module(nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, False)))
    one = LayerTable.from_module(nn.Linear(4, 8, bias=False))  # the same chunks, one tensor
    weights = torch.randn(2, one.width, generator=torch.Generator().manual_seed(0))
    outputs = {}
    for hierarchy in (False, True):
        torch.manual_seed(0)
        options = {"positions": "none", "hierarchy": hierarchy, "head_norm": False}
        sne = SNE(width=8, chunk_size=4, **options).eval()  # type: ignore[arg-type]
        outputs[hierarchy] = [sne(weights, table) for table in (two, one)]
    torch.testing.assert_close(*outputs[False])
    assert not torch.allclose(*outputs[True], atol=1e-4)


@pytest.mark.parametrize(("name", "field"), [("level", "depth"), ("type", "kind")])
def test_an_omitted_encoding_does_not_show(name: str, field: str) -> None:
    table = LayerTable.from_module(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)))
    values = {"depth": lambda spec: 3 - spec.depth, "kind": lambda _: "embedding"}[field]
    other = LayerTable(tuple(replace(spec, **{field: values(spec)}) for spec in table))
    weights = torch.randn(2, table.width, generator=torch.Generator().manual_seed(0))
    outputs = {}
    for omit in ([], [name]):
        torch.manual_seed(0)
        sne = SNE(width=8, chunk_size=8, omit=omit, head_norm=False).eval()
        outputs[len(omit)] = [sne(weights, one) for one in (table, other)]
    torch.testing.assert_close(*outputs[1])
    assert not torch.allclose(*outputs[0], atol=1e-4)


def test_an_unknown_encoding_cannot_be_omitted() -> None:
    with pytest.raises(ValueError, match=r"omit must be a list of \('type', 'level'\), got 'type'"):
        SNE(omit="type")
