"""Methods on collections: fixed points, streaming, settings."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from weightzoo.loaders.collections import ModelCollection
from weightzoo.tasks.merging import tensor_reader
from weightzoo.tasks.merging.methods import merged
from weightzoo.tasks.merging.settings import METHODS, MergeSettings, read_settings
from weightzoo.tasks.merging.zoo_rows import StateMember
from weightzoo.zoos.errors import MergeError

IN_MEMORY = [name for name, method in METHODS.items() if method.companion is None]
AVERAGES = {
    "mean": {},
    "weighted": {"weights": [1.0, 3.0], "normalize": True},
    "slerp": {"fraction": 0.3},
    "task_arithmetic": {"normalize": True},
    "ties": {"density": 1.0},
    "dare": {"density": 1.0, "normalize": True},
    "dare_ties": {"density": 1.0},
    "model_stock": {},
    "wudi": {},
    "emr": {},
}


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv.weight": (4, 3, 2, 2), "linear.weight": (5, 7), "norm.bias": (6,)}
    floats = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    return {key: value.to(dtype) for key, value in floats.items()} | {"steps": torch.tensor(3)}


def collection(
    *states: Mapping[str, Tensor], base: Mapping[str, Tensor] | None = None
) -> ModelCollection:
    members = [StateMember(f"m{index}", one) for index, one in enumerate(states)]
    return ModelCollection(members, None if base is None else StateMember("base", base))


def assert_equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor], atol: float = 2e-6) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value.dtype == two[name].dtype
        assert torch.allclose(value, two[name], atol=atol), name


@pytest.mark.parametrize("method", IN_MEMORY)
def test_members_equal_to_the_base_are_a_fixed_point(method: str) -> None:
    assert_equal(
        merged(
            method,
            collection(state(1), state(1), base=state(1)),
            MergeSettings(weights=(0.5, 0.5) if method == "weighted" else None),
        ),
        state(1),
    )


@pytest.mark.parametrize("method", AVERAGES)
def test_identical_members_are_a_fixed_point_of_averages(method: str) -> None:
    settings = read_settings(method, AVERAGES[method])
    assert_equal(merged(method, collection(state(1), state(1), base=state(0)), settings), state(1))


@pytest.mark.parametrize("method", ["tsv", "wudi", "task_arithmetic", "emr"])
def test_one_member_is_its_own_merge(method: str) -> None:
    assert_equal(merged(method, collection(state(1), base=state(0)), MergeSettings()), state(1))


@pytest.mark.parametrize("method", [name for name in IN_MEMORY if name not in ("slerp",)])
def test_every_method_changes_something(method: str) -> None:
    """The fixed points above would also hold for a method that returns the first member."""
    settings = MergeSettings(weights=(0.5, 0.7) if method == "weighted" else None)
    result = merged(method, collection(state(1), state(2), base=state(0)), settings)
    for seed in (0, 1, 2):
        assert not torch.allclose(result["linear.weight"], state(seed)["linear.weight"], atol=1e-3)


@pytest.mark.parametrize("method", IN_MEMORY)
def test_small_blocks_give_the_same(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method.startswith("dare"):
        pytest.skip("masks are drawn by block, and blocks are always cut alike")
    settings = MergeSettings(weights=(0.5, 0.7) if method == "weighted" else None)
    members = collection(state(1), state(2), base=state(0))
    wanted = merged(method, members, settings)
    monkeypatch.setattr(tensor_reader, "BLOCK_VALUES", 5)
    assert_equal(merged(method, members, settings), wanted)


def test_half_precision_is_summed_in_float32_and_rounded_once() -> None:
    half = [state(seed, torch.bfloat16) for seed in range(3)]
    result = merged("mean", collection(*half), MergeSettings())
    wanted = torch.stack([one["linear.weight"].double() for one in half]).mean(0).bfloat16()
    assert torch.equal(result["linear.weight"], wanted)


def test_kernels_are_merged_as_matrices_and_vectors_averaged() -> None:
    result = merged("iso_c", collection(state(1), state(2), base=state(0)), MergeSettings())
    values = torch.linalg.svdvals((result["conv.weight"] - state(0)["conv.weight"]).flatten(1))
    assert torch.allclose(values, values[0].expand_as(values), rtol=1e-4)
    mean = (state(1)["norm.bias"] + state(2)["norm.bias"]) / 2
    assert torch.allclose(result["norm.bias"], mean)


@pytest.mark.parametrize("method", IN_MEMORY)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(method: str, value: float) -> None:
    broken = state(2)
    broken["linear.weight"][2, 3] = value
    with pytest.raises(MergeError, match="'linear.weight' of m1 holds NaN or infinity"):
        merged(method, collection(state(1), broken, base=state(0)), MergeSettings())


def test_dare_repeats_its_masks_and_draws_others_for_another_seed() -> None:
    members = collection(state(1), state(2), base=state(0))
    first, again, other = (
        merged("dare", members, MergeSettings(seed=seed))["linear.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_fisher_takes_the_members_own_information() -> None:
    certain = {k: torch.full_like(v, 1e6) for k, v in state(0).items() if v.is_floating_point()}
    silent = {k: torch.zeros_like(v) for k, v in certain.items()}
    result = merged(
        "fisher", collection(state(1), state(2)), MergeSettings(), collection(silent, certain)
    )
    assert_equal(result, state(2))
    with pytest.raises(MergeError, match="Fisher information of 'conv.weight' is missing"):
        merged("fisher", collection(state(1)), MergeSettings())


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("tie", {}, "method must be one of"),
        ("mean", {"weights": [1.0]}, r"takes the settings \[\], got \['weights'\]"),
        ("ties", {"density": 0}, "density must lie within"),
        ("ties", {"density": 1.5}, "density must lie within"),
        ("ties", {"scale": float("nan")}, "scale must be a number"),
        ("slerp", {"fraction": "half"}, "fraction must be a number, got 'half'"),
        ("weighted", {"weights": []}, "one number per member"),
        ("dare", {"seed": 1.5}, "seed must be a number"),
        ("weighted", {"normalize": 1}, "normalize must be true or false"),
    ],
)
def test_wrong_settings_are_refused(method: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(MergeError, match=message):
        read_settings(method, given)


def test_as_many_weights_as_members_are_needed(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="3 weights for 2 members"):
        merged("weighted", collection(state(1), state(2)), MergeSettings(weights=(1, 1, 1)))
