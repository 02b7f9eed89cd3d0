"""What a build would make: counts, bytes, and the time that it takes."""

from collections.abc import Mapping
from typing import Any

from ..zoos.recipe import Recipe
from .estimate import estimate_build


def plan_build(
    recipe: Recipe, models: int | None = None, device: str = "cpu", workers: int | None = None
) -> dict[str, Any]:
    """Say what a build would make, from a probe on this machine; nothing is fetched or written.

    Args:
        recipe: what is to be trained.
        models: number of models; None takes the recipe's.
        device: "cpu" or a CUDA device.
        workers: processes on CPU; None takes one per core.

    Returns:
        Plain data; "bytes" are those of the weights, "seconds" is None where it is not known.

    Raises:
        ValueError: if the number of models is not a whole number from 1, or leaves a split empty.
    """
    population = recipe.models(models)
    estimate = estimate_build(recipe, population, device, workers)
    table = recipe.architecture.layer_table()
    rows = len(population) * len(recipe.checkpoints)
    splits = [model.split for model in population]
    return {
        "recipe": recipe.name,
        "architecture": recipe.architecture.name,
        "parameters": table.parameters,
        "models": len(population),
        "splits": {split: splits.count(split) for split in recipe.split},
        "epochs": recipe.epochs,
        "rows": rows,
        "bytes": rows * table.width * 4,
        "seconds": None if estimate.seconds is None else float(f"{estimate.seconds:.3g}"),
        "estimate": estimate.basis,
    }


def plan_text(plan: Mapping[str, Any]) -> str:
    """A plan for people, a line per value."""
    lines = {key: f"{value:,}" if type(value) is int else value for key, value in plan.items()}
    lines["seconds"] = "unknown" if plan["seconds"] is None else _duration(plan["seconds"])
    return "\n".join(f"{key:<14}{value}" for key, value in lines.items())


def _duration(seconds: float) -> str:
    """Seconds, and what a person takes them for."""
    for unit, length in {"days": 86_400, "hours": 3_600, "minutes": 60}.items():
        if seconds >= 2 * length:
            return f"{seconds:,.0f} ({seconds / length:.1f} {unit})"
    return f"{seconds:,.1f}"
