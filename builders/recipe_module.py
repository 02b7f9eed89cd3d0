"""Recipes whose architecture is that of a torch module, which a caller hands over from Python."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from ..zoos.errors import RecipeError, UnsuitableError
from ..zoos.networks.tracing import TracedModule, trace_architecture
from ..zoos.recipe import Recipe
from .training.objectives import load_data

ModuleFactory = nn.Module | Callable[[], nn.Module]
"""A module, or a function without arguments that makes one."""


def recipe_of_module(recipe: Recipe, module: ModuleFactory) -> Recipe:
    """The recipe with the architecture of a torch module; the result is plain data like any recipe.

    Only layers and their sizes are taken. Initial weights are drawn as the recipe says. The
    module's activation function and dropout rate become factors, where the recipe has none.

    Args:
        recipe: recipe with images, factors and everything else.
        module: module, or function that makes one, of layers that a zoo rebuilds.

    Raises:
        RecipeError: if it makes no module, a layer is unknown, or the module does not take images
            of the recipe's image set.
    """
    made = module if isinstance(module, nn.Module) else _called(module)
    shape = getattr(load_data(recipe.images), "shape", None)
    try:
        traced = trace_architecture(made, shape, _name_of(module))
    except UnsuitableError as error:
        raise RecipeError(
            f"{type(made).__name__} cannot be trained as a population: {error}; images of "
            f"{recipe.images!r} have the shape {shape}"
        ) from error
    return replace(
        recipe, architecture=traced.architecture, factors=_factors(traced) | recipe.factors
    )


def _name_of(module: ModuleFactory) -> str | None:
    """The name of a function that makes modules; None takes that of the module's class."""
    name = getattr(module, "__name__", "<lambda>")
    return None if name == "<lambda>" else str(name)


def _called(factory: Callable[[], Any]) -> nn.Module:
    if not callable(factory):
        raise RecipeError(
            f"module must be a torch module or a function that makes one, got {factory!r}"
        )
    made = factory()
    if not isinstance(made, nn.Module):
        raise RecipeError(f"{factory!r} must make a torch module, it made {made!r}")
    return made


def _factors(traced: TracedModule) -> dict[str, Any]:
    """The hyper-parameters that the module fixes."""
    activation = {"activation": traced.activation} if traced.activation else {}
    return activation | ({"dropout": traced.dropout} if traced.dropout else {})
