"""The pipeline from a pool to a mixture: families, filter, search, merge, mixture, report.

Every step writes its result to `steps/` and is read from there when the pipeline is started again;
finished evaluations are kept one by one, so that a kill in the middle of a search repeats none.
Decisions look at val data only. Test data are used once, for the report.

Source: Model-GLUE, Zhao et al. 2024, arXiv:2410.05357.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...zoos.errors import MergeError
from ...zoos.provenance import package_version
from ...zoos.strict_json import json_text
from .families_report import plot_families
from .glue_report import glue_markdown, plot_glue
from .merge import merge_checkpoints
from .merged_zoo import MergedModel, write_merged_zoo
from .mixture import Experts, fitted_gates, mixture_accuracies
from .output import write_text
from .pools import CheckpointPool, Pool, ZooPool
from .search import STRATEGIES, Evaluations, search_weights, single

DEFAULT_STRATEGIES = ("average", "coefficient")
MOST_EXPERTS = 8
STEPS = "steps"


@dataclass(frozen=True, kw_only=True)
class GlueSettings:
    """How a pool is glued.

    Attributes:
        strategies: search strategies, names in `STRATEGIES`.
        budget: most evaluations of every strategy in every family.
        least_share: members whose val score is below this share of their family's best are
            filtered out; scores must be positive for it to apply.
        seed: seed of families, searches and random gates.
    """

    strategies: tuple[str, ...] = DEFAULT_STRATEGIES
    budget: int = 100
    least_share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse unknown strategies and budgets that allow nothing."""
        if unknown := [name for name in self.strategies if name not in STRATEGIES]:
            raise MergeError(f"strategies must be of {sorted(STRATEGIES)}, got {unknown}")
        if not self.strategies or self.budget < 1 or not 0 <= self.least_share <= 1:
            raise MergeError(f"glue needs a strategy, a budget and a share within 0 and 1: {self}")


@dataclass
class _Steps:
    """Results of finished steps, and the evaluations that were spent."""

    folder: Path
    new_evaluations: int = 0

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of a step: read if it is there, else worked out and written."""
        path = self.folder / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        start = time.perf_counter()
        result = {"result": work(), "seconds": round(time.perf_counter() - start, 2)}
        write_text(path, json_text(result))
        return result


def glue(pool: Pool, out: Path, settings: GlueSettings) -> dict[str, Any]:
    """Run the pipeline, or what of it is left.

    Args:
        pool: the models.
        out: folder for results; one that holds an unfinished run of the same is continued.
        settings: settings of the pipeline.

    Returns:
        The report as plain data, which is also in `report.json`.

    Raises:
        MergeError: if `out` holds a run of another pool or other settings.
    """
    steps = _begin(pool, out, settings)
    families = pool.families(settings.seed)
    if not (out / "families.png").exists():
        plot_families(families, out / "families.png")
    similarity = np.nan_to_num(families.similarity_MM.numpy(), nan=-1.0)
    rows = []
    for number, group in enumerate(families.groups):
        rows.append(_family(pool, steps, settings, number, list(group), similarity))
    merged = _write_merges(pool, out, rows)
    test = steps.run("test", lambda: _tested(pool, rows))
    mixture = steps.run("mixture", lambda: _mixture(pool, rows, settings.seed))
    report = {
        "weightzoo": package_version(),
        "settings": asdict(settings),
        "members": list(pool.names),
        "families": [[pool.names[member] for member in row["members"]] for row in rows],
        "cut": families.cut[0],
        "null": families.null[0],
        "steps": rows,
        "test": test["result"],
        "mixture": mixture["result"],
        "seconds": sum(row["seconds"] for row in rows) + test["seconds"] + mixture["seconds"],
        "evaluations": sum(row["evaluations"] for row in rows),
        "new_evaluations": steps.new_evaluations,
        "merged": [str(path) for path in merged],
    }
    write_text(out / "report.json", json_text(report, indent=1))
    write_text(out / "report.md", glue_markdown(report))
    plot_glue(report, out / "report.png")
    return report


def _begin(pool: Pool, out: Path, settings: GlueSettings) -> _Steps:
    folder = out / STEPS
    folder.mkdir(parents=True, exist_ok=True)
    state = json_text({"pool": list(pool.names), "settings": asdict(settings)}, sort_keys=True)
    path = folder / "state.json"
    if path.exists() and path.read_text() != state:
        raise MergeError(
            f"{out} holds the run of another pool or other settings: choose another --out, or "
            "delete it"
        )
    if not path.exists():
        write_text(path, state)
    return _Steps(folder)


def _family(
    pool: Pool,
    steps: _Steps,
    settings: GlueSettings,
    number: int,
    group: list[int],
    similarity: np.ndarray,
) -> dict[str, Any]:
    """Filter, search and choose within one family."""

    def evaluations(name: str, members: Sequence[int]) -> Evaluations:
        path = steps.folder / f"family-{number}-{name}.jsonl"
        return Evaluations(
            lambda weights: pool.evaluate(members, weights, "val"), settings.budget, path
        )

    def work() -> dict[str, Any]:
        singles = evaluations("singles", group)
        singles.budget = len(group)
        scores = [singles(single(place, len(group))) for place in range(len(group))]
        spent = singles.new
        kept = _filtered(group, scores, settings.least_share)
        own = {member: score for member, score in zip(group, scores, strict=True)}
        kept.sort(key=lambda member: -own[member])
        found: dict[str, dict[str, Any]] = {
            "best single": {
                "weights": list(single(0, len(kept))), "val": own[kept[0]], "evaluations": 0
            },
        }  # fmt: skip
        for strategy in settings.strategies if len(kept) > 1 else ():
            asked = evaluations(strategy, kept)
            for place, member in enumerate(kept):  # known from the filter
                asked.known.setdefault(single(place, len(kept)), own[member])
            close = similarity[np.ix_(kept, kept)]
            result = search_weights(
                strategy, asked, len(kept), similarity=close, seed=settings.seed
            )
            found[strategy] = {
                "weights": list(result.weights),
                "val": result.score,
                "evaluations": result.evaluations,
            }
            spent += asked.new
        if len(kept) > 1:
            uniform = evaluations("uniform", kept)
            weights = [1 / len(kept)] * len(kept)
            found["mean of all"] = {
                "weights": weights, "val": uniform(weights), "evaluations": 1
            }  # fmt: skip
            spent += uniform.new
        steps.new_evaluations += spent
        journals = steps.folder.glob(f"family-{number}-*.jsonl")
        inner = similarity[np.ix_(kept, kept)][np.triu_indices(len(kept), 1)]
        return {
            "members": group,
            "kept": kept,
            "similarity": float(inner.mean()) if len(inner) else 1.0,
            "candidates": found,
            "chosen": _chosen(found),
            "evaluations": sum(len(path.read_text().splitlines()) for path in journals),
        }

    done = steps.run(f"family-{number}", work)
    result: dict[str, Any] = done["result"] | {"seconds": done["seconds"]}
    return result


def _filtered(group: Sequence[int], scores: Sequence[float], least_share: float) -> list[int]:
    """Members whose val score is not far below the best."""
    best = max(scores)
    if best <= 0:
        return list(group)
    return [m for m, score in zip(group, scores, strict=True) if score >= least_share * best]


def _chosen(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The rule: the best on val; of equals the one that cost fewer evaluations."""
    return max(found, key=lambda name: (found[name]["val"], -found[name]["evaluations"]))


def _tested(pool: Pool, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Test scores of all candidates of every family: what the choice cost against hindsight."""
    return [
        {
            name: pool.evaluate(row["kept"], one["weights"], "test")
            for name, one in row["candidates"].items()
        }
        for row in rows
    ]


def _chosen_weights(row: Mapping[str, Any]) -> list[float]:
    weights: list[float] = row["candidates"][row["chosen"]]["weights"]
    return weights


def _write_merges(pool: Pool, out: Path, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The merge of every family that is more than one of its members."""
    mixed = [row for row in rows if sum(weight > 0 for weight in _chosen_weights(row)) > 1]
    if isinstance(pool, ZooPool):
        folder = out / "merged"
        if mixed and not folder.exists():
            write_merged_zoo(folder, [_merged_model(pool, row) for row in mixed], pool.zoo)
        return [folder] if mixed else []
    assert isinstance(pool, CheckpointPool)
    paths = []
    for number, row in enumerate(mixed):
        path = out / f"merged-{number}"
        if not path.exists():
            base = pool.collection.base
            recipe = pool.recipe(row["kept"], _chosen_weights(row))
            merge_checkpoints(replace(recipe, base=base.name if base else ""), path)
        paths.append(path)
    return paths


def _merged_model(pool: ZooPool, row: Mapping[str, Any]) -> MergedModel:
    weights = _chosen_weights(row)
    plain = {
        "method": "weighted",
        "strategy": row["chosen"],
        "parents": [pool.names[member] for member in row["kept"]],
        "weights": weights,
        "aligned": pool.aligned,
    }
    digest = hashlib.sha256(json_text(plain, sort_keys=True).encode()).hexdigest()[:16]
    return MergedModel(
        pool.merged(row["kept"], weights), plain, digest, pool.activations[row["kept"][0]]
    )


def _mixture(pool: Pool, rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any] | None:
    """Test accuracies of mixtures of the families' merges; None where there is nothing to mix."""
    if not isinstance(pool, ZooPool) or len(rows) < 2:
        return None
    order = sorted(rows, key=lambda row: -row["candidates"][row["chosen"]]["val"])[:MOST_EXPERTS]
    experts = Experts(
        pool.architecture,
        torch.stack([pool.merged(row["kept"], _chosen_weights(row)) for row in order]),
        tuple(pool.activations[row["kept"][0]] for row in order),
    )
    gates = fitted_gates(experts, pool.images.val, seed)
    return {
        "val": mixture_accuracies(experts, gates, pool.images.val),
        "test": mixture_accuracies(experts, gates, pool.images.test),
    }
