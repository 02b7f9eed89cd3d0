"""Hours and bytes of every member of a collection before anything is built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...builders.engines.process_engine import core_count
from ...builders.estimate import part_sizes, plan_population, probe
from .collection import Collection
from .members import Glue, Member, Population, RankingMatrix, class_count

CELL_BYTES = 300  # of a cell of the matrix, in both of its files
STRATEGIES = 2  # searched by `weightzoo glue` in every family


@dataclass(frozen=True, kw_only=True)
class UnitEstimate:
    """Estimate of one member.

    Attributes:
        name: name of the member.
        command: command that makes it.
        models: number of models.
        rows: number of rows, or cells of the matrix.
        size_bytes: size of the weights, in bytes.
        seconds: duration; None if it is unknown.
    """

    name: str
    command: str
    models: int
    rows: int
    size_bytes: int
    seconds: float | None


def estimate_collection(collection: Collection, workers: int | None = None) -> list[UnitEstimate]:
    """Estimate every member by a probe on this machine; nothing is built.

    Args:
        collection: plan of the collection.
        workers: number of worker processes; None takes one per core.
    """
    populations = collection.populations()
    return [
        _estimate(member, populations[member.name], populations, workers or core_count())
        for member in collection.members
    ]


def estimates_text(estimates: Sequence[UnitEstimate]) -> str:
    """A table of the estimates with a line of sums."""
    head = f"{'member':<24}{'command':<18}{'models':>8}{'rows':>9}{'MB':>9}{'minutes':>10}"
    lines = [head, *map(_line, estimates)]
    known = [one.seconds for one in estimates if one.seconds is not None]
    size = sum(one.size_bytes for one in estimates)
    more = "" if len(known) == len(estimates) else ", without members of unknown duration"
    return "\n".join(
        [
            *lines,
            f"{len(estimates)} members, {size / 1e6:,.1f} MB, about {sum(known) / 3600:.2g} "
            f"hours{more}",
        ]
    )


def _line(one: UnitEstimate) -> str:
    minutes = "unknown" if one.seconds is None else f"{one.seconds / 60:,.1f}"
    return (
        f"{one.name:<24}{one.command:<18}{one.models:>8,}{one.rows:>9,}"
        f"{one.size_bytes / 1e6:>9,.1f}{minutes:>10}"
    )


def _estimate(
    member: Member, population: Population, populations: Mapping[str, Population], cores: int
) -> UnitEstimate:
    rows, size = population.rows, population.rows * population.width * 4
    if isinstance(member, RankingMatrix):
        rows = len(population.models) * len(member.targets) * member.seeds
        size, seconds = rows * CELL_BYTES, _matrix_seconds(member, population, cores)
    elif isinstance(member, Glue):
        seconds = _glue_seconds(member, population, populations[member.parents[0]])
    else:
        plan = plan_population(population.recipe, population.models, workers=cores)
        seconds = plan["seconds"]
    return UnitEstimate(
        name=member.name,
        command=member.command,
        models=len(population.models),
        rows=rows,
        size_bytes=size,
        seconds=seconds,
    )


def _matrix_seconds(member: RankingMatrix, population: Population, cores: int) -> float | None:
    """Training and evaluation of every cell, at the rates of the first parent's models."""
    rates = probe(population.recipe, population.models)
    seconds = 0.0
    for target in member.targets:
        images = target.split("+")[0].split("/")[0]
        sizes = part_sizes(images)
        if sizes is None:
            return None
        trained = member.shots * class_count(images) * member.epochs
        seconds += trained / rates.training + sum(sizes[1:]) / rates.evaluation
    runs = len(population.models) * member.seeds * len(member.rates)
    return runs * seconds / cores


def _glue_seconds(member: Glue, families: Population, parent: Population) -> float | None:
    """Evaluations of single members and of every search, in one process."""
    sizes = part_sizes(parent.recipe.images)
    if sizes is None:
        return None
    rates = probe(parent.recipe, parent.models[:1])
    searches = len(families.models) * (STRATEGIES * member.budget + 1)
    return (len(parent.models) + searches) * sizes[1] / rates.evaluation
