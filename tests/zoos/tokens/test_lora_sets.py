import pickle

import pytest
import torch
from torch import Tensor

from weightzoo.zoos.networks.layer_table import LayerTable, TensorSpec
from weightzoo.zoos.tensors.lora_names import factor_of, stored_factor
from weightzoo.zoos.tokens.lora_sets import LoraSets

SHAPES = {  # a linear layer, a convolution, and one whose rank exceeds its outputs
    "a.lora_A.weight": (3, 7),
    "a.lora_B.weight": (5, 3),
    "c.lora_A.weight": (2, 4, 3, 3),
    "c.lora_B.weight": (6, 2, 1, 1),
    "w.lora_A.weight": (4, 9),
    "w.lora_B.weight": (2, 4),
    "head.bias": (2,),
}


def entry(name: str, kind: str, shape: tuple[int, ...], offset: int, depth: int) -> TensorSpec:
    layer = name.rpartition(".")[0]
    return TensorSpec(
        name=name,
        kind=kind,
        role="weight",
        shape=shape,
        offset=offset,
        layer=layer,
        depth=depth,
        dtype="float32",
    )


def table() -> LayerTable:
    tensors, offset = [], 0
    for depth, (name, shape) in enumerate(SHAPES.items()):
        kind = "conv" if len(shape) == 4 else "linear"
        spec = entry(name, kind, shape, offset, depth)
        tensors.append(spec)
        offset += spec.size
    return LayerTable(tuple(tensors))


def product(state: dict[str, Tensor], module: str) -> Tensor:
    return state[f"{module}.lora_B.weight"].flatten(1) @ state[f"{module}.lora_A.weight"].flatten(1)


def turned(state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The same adapter with other factors: B G and G^-1 A."""
    generator = torch.Generator().manual_seed(seed)
    state = dict(state)
    for module in "acw":
        a, b = state[f"{module}.lora_A.weight"], state[f"{module}.lora_B.weight"]
        g = torch.randn(len(a), len(a), generator=generator) + 3 * torch.eye(len(a))
        state[f"{module}.lora_A.weight"] = torch.linalg.solve(g, a.flatten(1)).view(a.shape)
        state[f"{module}.lora_B.weight"] = (b.flatten(1) @ g).view(b.shape)
    return state


def weights(count: int = 3) -> Tensor:
    return torch.randn(count, table().width, generator=torch.Generator().manual_seed(0))


def test_sets_are_unchanged_by_any_invertible_matrix() -> None:
    sets, before = LoraSets(table()), weights()
    after = torch.stack(
        [table().flatten(turned(table().state_dict(row), i)) for i, row in enumerate(before)]
    )
    one, other = sets(before), sets(after)
    assert not torch.allclose(before, after, atol=0.1)
    torch.testing.assert_close(one["values"], other["values"], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(one["singular"], other["singular"], atol=1e-3, rtol=1e-3)


def test_another_product_has_other_sets() -> None:
    state = table().state_dict(weights()[0])
    other = state | {"a.lora_B.weight": state["a.lora_B.weight"].flip(0)}
    one, two = (LoraSets(table())(table().flatten(s)[None])["values"] for s in (state, other))
    assert (one - two).abs().max() > 0.1


def test_decomposition_is_that_of_the_product() -> None:
    sets, rows = LoraSets(table()), weights()
    for module in sets.modules:
        found = sets.decompose(rows, module)
        for index, row in enumerate(rows):
            wanted = product(table().state_dict(row), module.name)
            made = found.u[index] * found.singular[index] @ found.v[index].T
            torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-4)


def test_tokens_hold_both_singular_vectors() -> None:
    sets = LoraSets(table())
    tokens = sets(weights())
    assert sets.shape == (3 + 2 + 2, 42) and tokens["singular"].shape == (3, 7)
    assert tokens["level"].tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert not tokens["values"][:, ~tokens["mask"]].any()
    squares = tokens["values"].square().sum(-1)  # u and v have unit length
    torch.testing.assert_close(squares, 2 * tokens["singular"], atol=1e-4, rtol=1e-4)


def test_rows_that_are_not_finite_are_nan_alone() -> None:
    rows = weights()
    rows[1, 0] = torch.inf
    tokens = LoraSets(table())(rows)
    assert tokens["singular"].isfinite().all(1).tolist() == [True, False, True]


def test_product_is_never_made() -> None:
    """Two factors of 8 MB have a product of 4 TB."""
    size = 1_000_000
    a = entry("q.lora_A.weight", "linear", (1, size), 0, 0)
    b = entry("q.lora_B.weight", "linear", (size, 1), size, 1)
    assert LoraSets(LayerTable((a, b)))(torch.ones(1, 2 * size))[
        "singular"
    ].item() == pytest.approx(size, rel=1e-4)


def test_tables_without_factors_are_refused() -> None:
    spec = entry("q.weight", "linear", (2, 2), 0, 0)
    with pytest.raises(ValueError, match="no factors of LoRA adapters"):
        LoraSets(LayerTable((spec,)))
    assert pickle.loads(pickle.dumps(LoraSets(table()))).shape == (7, 42)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("base_model.model.h.0.q_proj.lora_A.weight", "h.0.q_proj.lora_A.weight"),
        ("base_model.model.h.0.q_proj.lora_B.default.weight", "h.0.q_proj.lora_B.weight"),
        ("base_model.model.wte.lora_embedding_A", "wte.lora_embedding_A.weight"),
        ("base_model.model.wte.lora_embedding_B.default", "wte.lora_embedding_B.weight"),
        ("unet.a.to_k.lora.down.weight", "unet.a.to_k.lora_A.weight"),
        ("a.processor.to_out_lora.up.weight", "a.to_out.lora_B.weight"),
        ("lora_unet_a_to_q.lora_up.weight", "lora_unet_a_to_q.lora_B.weight"),
        ("B", "lora_B.weight"),
    ],
)
def test_factors_of_all_layouts_have_one_name(name: str, stored: str) -> None:
    factor = factor_of(name)
    assert factor is not None and factor.stored == stored
    assert stored_factor(stored) == factor


@pytest.mark.parametrize("name", ["h.0.bias", "lora_unet_a.alpha", "a.lora_magnitude_vector"])
def test_other_tensors_are_no_factors(name: str) -> None:
    assert factor_of(name) is None
