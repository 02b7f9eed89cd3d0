"""The catalogue, and its notes on the rescaling of ReLU networks, checked on a network."""

import pytest
import torch
from torch import Tensor

from weightzoo.tasks.dynamics.agreement import population_agreement
from weightzoo.tasks.dynamics.barriers import barriers, line_losses
from weightzoo.tasks.dynamics.fisher import fisher_trace
from weightzoo.tasks.dynamics.measures import FAMILIES, chosen_families, rescaling_notes
from weightzoo.tasks.dynamics.networks import EvaluationSet, Networks
from weightzoo.tasks.dynamics.paths import path_measures
from weightzoo.tasks.dynamics.sharpness import (
    HessianProducts,
    extreme_eigenvalues,
    hessian_trace,
    m_sharpness,
    random_signs,
    random_start,
)
from weightzoo.tasks.dynamics.spectra import spectrum_measures
from weightzoo.zoos.networks.architectures import Architecture

LAYERS = [
    {"kind": "linear", "out": 14},
    {"kind": "activation"},
    {"kind": "linear", "out": 12},
]
MLP = Architecture.from_json({"name": "mlp", "input_shape": [11], "layers": LAYERS})
KEPT = 1e-6  # relative change that rounding explains


def population(models: int = 3, checkpoints: int = 4) -> Tensor:
    """Random paths of ReLU networks, (M, K, D), float64."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(models, 1, MLP.layer_table().width, generator=generator).double()
    steps = torch.randn(models, checkpoints - 1, start.shape[2], generator=generator) / 4
    return torch.cat([start, start + steps.cumsum(1).double()], dim=1) / 3


def rescaled(weights: Tensor, factor: float) -> Tensor:
    """The same functions: first layer times a factor, second weight divided by it."""
    parts = MLP.layer_table().split(weights.clone())
    parts["linear1.weight"] *= factor
    parts["linear1.bias"] *= factor
    parts["linear2.weight"] /= factor
    return torch.cat([part.flatten(2) for part in parts.values()], dim=2)


def measured(path: Tensor) -> dict[str, Tensor]:
    """Every measure of the last checkpoints that does not name another model."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(20, 11, generator=generator, dtype=torch.float64)
    data = EvaluationSet(inputs, torch.randint(0, 12, (20,), generator=generator))
    networks = Networks(MLP, ["relu"] * len(path))
    losses, last = networks.losses(data), path[:, -1]
    products = HessianProducts(losses, last)
    largest, smallest = extreme_eigenvalues(products, random_start(last, 0), 40)
    predictions = networks.outputs(last, inputs).argmax(2)
    first = networks.outputs(path[:, 0], inputs).argmax(2)
    to_other = barriers(line_losses(losses, last, population()[:, -1].roll(1, 0)))
    return (
        {name: values[:, -1] for name, values in path_measures(path, torch.arange(4)).items()}
        | spectrum_measures(last, MLP.layer_table())
        | {
            "hessian_largest": largest,
            "hessian_smallest": smallest,
            "hessian_trace": hessian_trace(products, random_signs(400, last, 0)),
            "gradient_norm": products.gradient.norm(dim=1),
            "m_sharpness": m_sharpness([losses], last, 0.5),
            "adaptive_sharpness": m_sharpness([losses], last, 0.5, adaptive=True),
            "fisher_trace": fisher_trace(lambda w: networks.outputs(w, inputs), last),
            "agreement": population_agreement(predictions),
            "agreement_with_last": (predictions == first).double().mean(1),
            "step_barrier": barriers(line_losses(losses, path[:, -2], last)),
            "path_barrier": barriers(line_losses(losses, path[:, 0], last)),
            "barrier": to_other,
            "barrier_aligned": to_other,
        }
    )


def test_rescaling_a_relu_network_keeps_its_function() -> None:
    path, inputs = population(), torch.randn(9, 11, dtype=torch.float64)
    networks = Networks(MLP, ["relu"] * 3)
    torch.testing.assert_close(
        networks.outputs(rescaled(path, 4.0)[:, -1], inputs), networks.outputs(path[:, -1], inputs)
    )


def test_rescaling_a_relu_network_moves_the_measures_whose_note_says_so() -> None:
    before, after = measured(population()), measured(rescaled(population(), 4.0))
    found = {}
    for name in rescaling_notes():
        if name == "barrier_partner":
            continue
        change = (after[name] - before[name]).abs().max()
        found[name] = "moves" if change > KEPT * before[name].abs().max() + 1e-12 else "stays"
    wanted = {name: note for name, note in rescaling_notes().items() if name in found}
    assert len(found) > 20 and found == wanted


def test_families_are_chosen_by_name_in_the_order_of_the_catalogue() -> None:
    assert [family.name for family in chosen_families(["spectra", "paths"])] == ["paths", "spectra"]
    assert chosen_families(None) == tuple(FAMILIES.values())
    with pytest.raises(ValueError, match=r"got \['sharpnes'\].*sharpness"):
        chosen_families(["sharpnes"])


def test_columns_are_named_once_and_say_where_they_come_from() -> None:
    names = [one.name for family in FAMILIES.values() for one in family.measures]
    assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)
    assert all(family.source and family.cost for family in FAMILIES.values())
