from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from weightzoo.encoders.parts.chunk_plan import ChunkPlan, cached_chunks, chunk_plan
from weightzoo.encoders.parts.ragged import Ragged, Rectangle
from weightzoo.encoders.sne import PAPER, SNE
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.networks.presets import preset

CPU = torch.device("cpu")


def small_table() -> LayerTable:
    """Conv kernels larger and smaller than a chunk of 8, ragged ends, a norm with buffers."""
    return LayerTable.from_module(
        nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 2), nn.Flatten(), nn.Linear(5, 4)
        )
    )


def random_weights(table: LayerTable, models: int = 2) -> Tensor:
    return torch.randn(models, table.width, generator=torch.Generator().manual_seed(0))


def make_sne(seed: int = 0, **options: object) -> SNE:
    """A small SNE of the paper's configuration, but for the chunks of convolutions."""
    torch.manual_seed(seed)
    settings = {"width": 8, "heads": 2, "chunk_size": 8, "conv_chunk": "values", "head": None}
    return SNE.paper(**settings | options).double()


def embed(sne: SNE, weights: Tensor, table: LayerTable) -> Tensor:
    with torch.no_grad():
        return sne.embed(weights.double(), table)


def pad(ragged: Ragged, extra: int, filler: int) -> Ragged:
    """The same sets in one rectangle with more padding, in which row `filler` stands."""
    largest = max(one.members.shape[1] for one in ragged.rectangles) + extra
    members, masks = [], []
    for one in ragged.rectangles:
        filled = torch.ones_like(one.members, dtype=torch.bool) if one.mask is None else one.mask
        room = (0, largest - one.members.shape[1])
        masks.append(functional.pad(filled, room))
        members.append(functional.pad(one.members.where(filled, filler), room, value=filler))
    sets = torch.cat([one.sets for one in ragged.rectangles])
    return Ragged((Rectangle(sets, torch.cat(members), torch.cat(masks)),), sets.argsort())


def pad_plan(plan: ChunkPlan, filler: int) -> ChunkPlan:
    return replace(
        plan,
        values=pad(plan.values, 5, filler),
        chunks=pad(plan.chunks, 3, 0),
        tensors=pad(plan.tensors, 2, 1),
    )


def encode(sne: SNE, values: Tensor, plan: ChunkPlan) -> Tensor:
    with torch.no_grad():
        return sne.encode(values.double(), plan)


def places(table: LayerTable, chunk_size: int, align: str, conv_chunk: str = "values") -> Tensor:
    """The place in the flat vector of every value of the tokens, (C * S,)."""
    flat = torch.arange(table.width)[None].double()
    return cached_chunks(table, chunk_size, align, conv_chunk)(flat)["values"].flatten().long()


def chunks_of(
    table: LayerTable, name: str, chunk_size: int, align: str, conv_chunk: str = "values"
) -> list[list[int]]:
    """The places in the flat vector that each chunk of a tensor holds."""
    [spec] = [spec for spec in table if spec.name == name]
    chunks, flat = {}, places(table, chunk_size, align, conv_chunk)
    for one in chunk_plan(table, chunk_size, align, CPU, conv_chunk).values.rectangles:
        mask = torch.ones_like(one.members, dtype=torch.bool) if one.mask is None else one.mask
        for index, members, filled in zip(one.sets.tolist(), one.members, mask, strict=True):
            chunks[index] = flat[members[filled]].tolist()
    inside = range(spec.offset, spec.offset + spec.size)
    return [chunks[index] for index in sorted(chunks) if chunks[index][0] in inside]


def shuffle(weights: Tensor, table: LayerTable, name: str, order: Tensor) -> Tensor:
    """Reorder the rows (R, rest) of one tensor, R the length of `order`."""
    [spec] = [spec for spec in table if spec.name == name]
    changed = weights.clone()
    part = changed[:, spec.offset : spec.offset + spec.size].unflatten(1, (len(order), -1))
    changed[:, spec.offset : spec.offset + spec.size] = part[:, order].flatten(1)
    return changed


@pytest.mark.parametrize("align", ["flat", "row"])
def test_plan_holds_every_parameter_once(align: str) -> None:
    table = small_table()
    held = [
        index
        for spec in table
        if spec.role != "buffer"
        for chunk in chunks_of(table, spec.name, 8, align)
        for index in chunk
    ]
    want = [s.offset + index for s in table if s.role != "buffer" for index in range(s.size)]
    assert sorted(held) == sorted(want)
    padded_size = chunk_plan(table, 8, align, CPU).values.padded_size
    assert len(want) <= padded_size < 2 * len(want)


def test_plan_cuts_convolutions_into_whole_kernels() -> None:
    table = small_table()
    lengths = {
        spec.name: [len(chunk) for chunk in chunks_of(table, spec.name, 8, "flat")]
        for spec in table
        if spec.role != "buffer"
    }
    assert lengths["0.weight"] == [9] * 6  # one 3x3 kernel is more than a chunk
    assert lengths["2.weight"] == [8, 8, 8, 8, 4]  # two 2x2 kernels fit, nine kernels are there
    assert lengths["4.weight"] == [8, 8, 4] and lengths["4.bias"] == [4]
    assert lengths["1.weight"] == [3]


def test_plan_of_the_paper_cuts_convolutions_by_kernels_and_linear_layers_by_values() -> None:
    table = small_table()
    lengths = {
        spec.name: [len(chunk) for chunk in chunks_of(table, spec.name, 4, "flat", "kernels")]
        for spec in table
        if spec.role != "buffer"
    }
    assert lengths["0.weight"] == [4 * 9, 2 * 9]  # (3 * 2) kernels of 3x3, four to a chunk
    assert lengths["2.weight"] == [4 * 4, 4 * 4, 4]  # (3 * 3) kernels of 2x2
    assert lengths["4.weight"] == [4] * 5 and lengths["4.bias"] == [4]


def test_one_encoder_takes_both_kinds_of_convolution_chunks() -> None:
    table, made = small_table(), {}
    for conv_chunk in ("values", "kernels"):
        sne = make_sne(conv_chunk=conv_chunk)
        made[conv_chunk] = embed(sne, random_weights(table), table)
        assert sne.config["conv_chunk"] == conv_chunk
    assert made["values"].shape == made["kernels"].shape
    assert not torch.allclose(made["values"], made["kernels"])
    flat = LayerTable.from_module(nn.Linear(6, 4))  # no convolution, no difference
    both = [embed(make_sne(conv_chunk=c), random_weights(flat), flat) for c in made]
    assert torch.equal(*both)


def test_configuration_of_the_paper_is_not_ours_and_takes_changes() -> None:
    ours, paper = SNE(outputs=2).config, SNE.paper(outputs=2).config
    assert {**PAPER, "outputs": 2} == paper and ours.keys() == paper.keys()
    differs = {name for name in ours if ours[name] != paper[name]}
    assert differs >= {"features", "norm", "element_size", "blocks", "conv_chunk"}
    assert SNE.paper(width=16, outputs=2).config == paper | {"width": 16}


def test_row_alignment_keeps_units_apart() -> None:
    table = small_table()
    [spec] = [spec for spec in table if spec.name == "4.weight"]  # (4, 5), chunks of 3
    units = [
        {(index - spec.offset) // 5 for index in chunk}
        for chunk in chunks_of(table, "4.weight", 3, "row")
    ]
    assert units == [{0}, {0}, {1}, {1}, {2}, {2}, {3}, {3}]
    flat = chunks_of(table, "4.weight", 3, "flat")
    assert any(len({(p - spec.offset) // 5 for p in chunk}) > 1 for chunk in flat)


def test_plan_parts_queries_keys_and_values() -> None:
    table = LayerTable.from_module(nn.MultiheadAttention(4, 2))
    plan = chunk_plan(table, 16, "flat", CPU)
    assert len(plan.role) == 8  # query, key, value and their biases; the output's weight and bias
    assert plan.role[plan.tensor_level == 0].unique().numel() == 6


def test_one_instance_encodes_every_architecture() -> None:
    sne = SNE(width=8, heads=2, outputs=3, blocks=1, chunk_size=64)
    sizes = {"resnet18": {"width": 2}, "vit": {"blocks": 1}}
    for name in ("inr", "cnn-s", "cnn-l", "resnet18", "vit"):
        table = preset(name, **sizes.get(name, {})).layer_table()
        weights = random_weights(table)
        with torch.no_grad():
            assert sne(weights, table).shape == (2, 3)
    transformer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    for table in (LayerTable.from_module(transformer), small_table()):
        assert sne.embed(random_weights(table), table).shape == (2, 8)


def test_sne_has_the_parameters_of_the_paper() -> None:
    sne = SNE.paper()
    encoder = sum(p.numel() for name, p in sne.named_parameters() if not name.startswith("head"))
    # Five stacks of two set attention blocks and four poolings: per block four linear layers and
    # two layer norms; the first block reads scalars; a pooling adds its seed and rFF(X).
    linear, norms = 32 * 32 + 32, 4 * 32
    block = 4 * linear + norms
    assert encoder == 9 * block + (3 * 64 + linear + norms) + 4 * (block + 32 + linear)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"positions": "layer"},
        {"align": "row"},
        {"norm": "pre", "features": "scales"},
        {"features": "scales", "element_size": 3},
        {"norm": "pre", "features": "magnitudes", "element_size": 8},
        {"hierarchy": False},
        {"heads": 0},
    ],
)
def test_padding_never_changes_an_output(options: dict[str, object]) -> None:
    table, sne = small_table(), make_sne(**options)
    plan = chunk_plan(table, 8, str(options.get("align", "flat")), CPU)
    weights = random_weights(table).double()
    want = embed(sne, weights, table)
    [buffer] = [spec for spec in table if spec.name == "1.running_mean"]
    weights[:, buffer.offset] = 1e3  # stands in the padding, and nowhere else
    align = str(options.get("align", "flat"))
    filler = int((places(table, 8, align) == buffer.offset).nonzero()[0])
    values, padded = sne.tokenizer(table)(weights)["values"], pad_plan(plan, filler)
    torch.testing.assert_close(encode(sne, values, padded), want)
    [rectangle] = padded.values.rectangles
    unmasked = replace(padded.values, rectangles=(replace(rectangle, mask=None),))
    assert not torch.allclose(
        encode(sne, values, replace(padded, values=unmasked)), want, atol=1e-8
    )


def test_models_of_a_batch_do_not_see_each_other() -> None:
    table, sne = small_table(), make_sne()
    weights = random_weights(table, 3)
    together = embed(sne, weights, table)
    torch.testing.assert_close(embed(sne, weights[1:2], table), together[1:2])


@pytest.mark.parametrize("positions", ["element", "layer"])
def test_order_of_chunks_shows_only_with_element_positions(positions: str) -> None:
    table = LayerTable.from_module(nn.Linear(8, 4))  # one chunk of 8 per neuron
    sne, weights = make_sne(positions=positions), random_weights(table)
    chunks = shuffle(weights, table, "weight", torch.tensor([2, 0, 3, 1]))
    values = shuffle(weights, table, "weight", torch.tensor([1, 0, *range(2, 32)]))
    same = [
        torch.allclose(embed(sne, other, table), embed(sne, weights, table), atol=1e-9)
        for other in (chunks, values)
    ]
    assert same == [positions == "layer"] * 2


def test_values_moved_between_layers_show_with_layer_positions() -> None:
    table = LayerTable.from_module(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    sne, weights = make_sne(positions="layer"), random_weights(table)
    swapped = weights.roll(table.width // 2, dims=1)  # the two layers change places
    assert not torch.allclose(embed(sne, swapped, table), embed(sne, weights, table), atol=1e-8)


def test_sne_tells_weight_from_bias() -> None:
    table = LayerTable.from_module(nn.Linear(1, 4))
    sne, weights = make_sne(), random_weights(table)
    swapped = weights.roll(4, dims=1)
    assert not torch.allclose(embed(sne, swapped, table), embed(sne, weights, table), atol=1e-8)


def test_head_has_the_widths_asked_for() -> None:
    widths = [
        layer.out_features
        for layer in make_sne(head=(512, 512)).head
        if hasattr(layer, "weight") and layer.weight.ndim > 1
    ]
    assert widths == [512, 512, 1]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in make_sne(head_norm=False).modules())


@pytest.mark.parametrize("align", ["flat", "row"])
@pytest.mark.parametrize("name", ["inr", "cnn-s", "vit"])
def test_layer_sets_give_the_same_as_flat_weights(name: str, align: str) -> None:
    table = preset(name, **({"blocks": 1} if name == "vit" else {})).layer_table()
    sne, weights = make_sne(align=align, blocks=1, chunk_size=64), random_weights(table).double()
    sets = sne.tokenizer(table)(weights)
    assert torch.equal(sne.embed(sets, table), sne.embed(weights, table))
    sets["values"] = sets["values"].flip(1)  # negative control: other chunks in their places
    assert not torch.allclose(sne.embed(sets, table), sne.embed(weights, table), atol=1e-8)


def test_sne_rejects_layer_sets_of_another_tokenizer() -> None:
    table = small_table()
    sets = make_sne(chunk_size=5).tokenizer(table)(random_weights(table))
    with pytest.raises(ValueError, match=r"layer sets must have shape \(B, 22, 9\)"):
        make_sne().embed(sets, table)


def test_sne_ignores_buffers() -> None:
    table, sne = small_table(), make_sne()
    weights = random_weights(table)
    changed = weights.clone()
    [spec] = [spec for spec in table if spec.name == "1.running_mean"]
    changed[:, spec.offset : spec.offset + spec.size] = 9.0
    assert torch.equal(embed(sne, changed, table), embed(sne, weights, table))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "pre", "features": "scales"},
        {"norm": "pre", "features": "magnitudes", "element_size": 8},
        {"hierarchy": False},
    ],
)
def test_gradient_reaches_every_parameter_and_the_weights(options: dict[str, object]) -> None:
    table, sne = small_table(), make_sne(**options)
    weights = random_weights(table).double().requires_grad_()
    sne(weights, table).square().sum().backward()
    for name, parameter in sne.named_parameters():
        if name.endswith("key.bias"):  # adds the same to all scores of a query
            assert parameter.grad is None or parameter.grad.abs().sum() < 1e-9, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert weights.grad is not None
    for spec in table:
        reached = weights.grad[:, spec.offset : spec.offset + spec.size].abs().sum() > 0
        assert reached == (spec.role != "buffer"), spec.name


def test_sne_is_the_same_for_equal_seeds() -> None:
    table = small_table()
    weights = random_weights(table)
    first, again, other = (embed(make_sne(seed), weights, table) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_sne_trains_after_it_encoded_in_inference_mode() -> None:
    table, sne = LayerTable.from_module(nn.Linear(3, 7)), SNE(width=8)
    weights = random_weights(table)
    with torch.inference_mode():
        sne(weights, table)
    sne(weights, table).sum().backward()
    assert sne.head[1].weight.grad is not None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"features": "scales", "element_size": 1},
        {"features": "value", "norm": "post", "element_size": 1},
    ],
)
def test_sne_learns_the_mean_of_a_tensor(options: dict[str, str]) -> None:
    table = LayerTable.from_module(nn.Linear(6, 3))
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(192, table.width, generator=generator)
    weights[:, :18] += torch.randn(192, 1, generator=generator)
    target = weights[:, :18].mean(dim=1)
    torch.manual_seed(0)
    sne = SNE(width=16, heads=2, chunk_size=8, blocks=1, **options)
    optimizer = torch.optim.Adam(sne.parameters(), lr=3e-3)
    for step in range(120):
        rows = torch.arange(step * 32, (step + 1) * 32) % 128
        loss = (sne(weights[rows], table)[:, 0] - target[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (sne(weights[128:], table)[:, 0] - target[128:]).square().mean()
    assert error < 0.2 * target[128:].var()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "chunk"}, "positions must be one of"),
        ({"align": "column"}, "align must be one of"),
        ({"conv_chunk": "rows"}, "conv_chunk must be one of"),
        ({"features": "log"}, "features must be one of"),
        ({"norm": "batch"}, "norm must be one of"),
        ({"width": 6, "heads": 4}, "heads must divide width"),
        ({"chunk_size": 0}, "at least 1"),
    ],
)
def test_sne_rejects_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sne(**options)


def test_sne_rejects_weights_of_another_table_and_buffers_alone() -> None:
    table = small_table()
    with pytest.raises(ValueError, match="of the layer table"):
        SNE(width=8)(torch.zeros(2, table.width + 1), table)
    [buffer] = LayerTable.from_module(nn.BatchNorm1d(2, affine=False)).tensors[:1]
    with pytest.raises(ValueError, match="no parameter"):
        SNE(width=8)(torch.zeros(2, 2), LayerTable((buffer,)))


def test_sne_refuses_text_in_place_of_a_flag() -> None:
    with pytest.raises(ValueError, match=r"hierarchy must be true or false, got 'False'"):
        make_sne(hierarchy="False")
