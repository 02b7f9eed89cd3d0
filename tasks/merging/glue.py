"""The pipeline from a pool to a mixture: families, filter, search, merge, mixture, report.

Every step writes its result to `steps/` and is read from there when the pipeline is started again;
finished evaluations are kept one by one, so that a kill in the middle of a search repeats none.
Decisions look at val data only. Test data are used once, for the report.

Source: Model-GLUE, Zhao et al. 2024, arXiv:2410.05357.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...zoos.errors import MergeError
from ...zoos.provenance import package_version
from ...zoos.strict_json import json_text
from ...zoos.texts.text_set import TextSet
from .families_report import plot_families
from .glue_family import GlueSettings, Steps, family_step
from .glue_report import glue_markdown, plot_glue
from .merge import merge_checkpoints
from .merged_zoo import MergedModel, write_merged_zoo
from .mixture import Experts, fitted_gates, mixture_accuracies
from .output import write_text
from .pools import Candidate, CheckpointPool, Pool, ZooPool

MOST_EXPERTS = 8
STEPS = "steps"


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
        rows.append(family_step(pool, steps, settings, number, list(group), similarity))
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


def _begin(pool: Pool, out: Path, settings: GlueSettings) -> Steps:
    folder = out / STEPS
    folder.mkdir(parents=True, exist_ok=True)
    known = {"pool": list(pool.names), "base": pool.base_name, "settings": asdict(settings)}
    state = json_text(known, sort_keys=True)
    path = folder / "state.json"
    if path.exists() and path.read_text() != state:
        raise MergeError(
            f"{out} holds the run of another pool or other settings: choose another --out, or "
            "delete it"
        )
    if not path.exists():
        write_text(path, state)
    return Steps(folder)


def _tested(pool: Pool, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Test scores of all candidates of every family: what the choice cost against hindsight."""
    return [
        {
            name: pool.evaluate(row["kept"], Candidate.of(one), "test")
            for name, one in row["candidates"].items()
        }
        for row in rows
    ]


def _chosen_merge(row: Mapping[str, Any]) -> Candidate:
    return Candidate.of(row["candidates"][row["chosen"]])


def _write_merges(pool: Pool, out: Path, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The merge of every family that is more than one of its members."""
    mixed = [row for row in rows if _chosen_merge(row).is_merge]
    if isinstance(pool, ZooPool):
        folder = out / "merged"
        if mixed and not folder.exists():
            models = [_merged_model(pool, row) for row in mixed]
            write_merged_zoo(folder, models, pool.zoo, images=pool.images.name)
        return [folder] if mixed else []
    assert isinstance(pool, CheckpointPool)
    paths = []
    for number, row in enumerate(mixed):
        path = out / f"merged-{number}"
        if not path.exists():
            merge_checkpoints(pool.recipe(row["kept"], _chosen_merge(row)), path)
        paths.append(path)
    return paths


def _merged_model(pool: ZooPool, row: Mapping[str, Any]) -> MergedModel:
    merge = _chosen_merge(row)
    plain = merge.to_json() | {
        "strategy": row["chosen"],
        "parents": [pool.names[member] for member in row["kept"]],
        "aligned": pool.aligned,
    }
    digest = hashlib.sha256(json_text(plain, sort_keys=True).encode()).hexdigest()[:16]
    return MergedModel(
        pool.merged(row["kept"], merge), plain, digest, pool.activations[row["kept"][0]]
    )


def _mixture(pool: Pool, rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any] | None:
    """Test accuracies of mixtures of the families' merges; None where there is nothing to mix."""
    if not isinstance(pool, ZooPool) or len(rows) < 2 or isinstance(pool.images, TextSet):
        return None
    images = pool.images
    order = sorted(rows, key=lambda row: -row["candidates"][row["chosen"]]["val"])[:MOST_EXPERTS]
    experts = Experts(
        pool.architecture,
        torch.stack([pool.merged(row["kept"], _chosen_merge(row)) for row in order]),
        tuple(pool.activations[row["kept"][0]] for row in order),
    )
    gates = fitted_gates(experts, images.val, seed)
    return {
        "val": mixture_accuracies(experts, gates, images.val),
        "test": mixture_accuracies(experts, gates, images.test),
    }
