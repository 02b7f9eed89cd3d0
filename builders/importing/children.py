"""Imported models that were made from others: their splits and lineage.

A fine-tuned or pruned model is close to its parent, so both belong in one split. The parent may be
in the same source, or in a zoo that was imported before.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...zoos.errors import BuildError, ZooError
from ...zoos.index import ZooIndex
from ...zoos.lineage import NO_PARENT, Lineage
from .groups import Group
from .models import FoundModel, Parent, Remark, Scan

ParentRows = dict[str, tuple[str, int, str, frozenset[int]]]  # zoo, model_id, split, epochs


def read_parents(folder: Path | None) -> ParentRows:
    """Zoo, `model_id`, split and epochs of the models of an imported zoo, by their name.

    Args:
        folder: zoo folder, or folder of zoos; None gives no models.

    Raises:
        BuildError: if there is no imported zoo at `folder`.
    """
    if folder is None:
        return {}
    indexes = [*folder.glob("zoo.json"), *folder.glob("*/zoo.json")]
    if not indexes:
        raise BuildError(f"no zoo at {folder}: give the folder of an imported zoo as the parents")
    found: ParentRows = {}
    for path in sorted(indexes):
        try:
            _add_rows(found, path.parent)
        except (ZooError, KeyError) as error:
            raise BuildError(f"{path.parent} is no imported zoo of parents: {error}") from error
    return found


def inherit_splits(models: Sequence[FoundModel], parents: ParentRows) -> list[FoundModel]:
    """Give models with a parent in `parents` its split, and return the models to draw for.

    Of each group only the first model is drawn for. `split_children` gives the other members its
    split, and children of a model in `models` their parent's.

    Args:
        models: all models of a source.
        parents: models of an earlier import.
    """
    names = {model.name for model in models}
    roots, groups = [], set[str]()
    for model in models:
        if model.group is not None and model.group in groups:
            continue
        groups |= {model.group} if model.group else set()
        known = parents.get(model.parent.model) if model.parent else None
        if known is not None:
            model.split = known[2]
        elif model.parent is None or model.parent.model not in names:
            roots.append(model)
    return roots


def split_children(models: Sequence[FoundModel]) -> None:
    """Give models without a split that of their group, or of the closest ancestor with one."""
    of_group = {model.group: model.split for model in models if model.group and model.split}
    for model in models:
        model.split = model.split or of_group.get(model.group or "")
    by_name = {model.name: model for model in models}
    for model in models:
        chain = [model]
        while chain[-1].split is None and chain[-1].parent is not None:
            parent = by_name.get(chain[-1].parent.model)
            if parent is None or parent in chain:
                break
            chain.append(parent)
        for one in chain:
            one.split = one.split or chain[-1].split or "train"


def set_lineage(
    scan: Scan, groups: Sequence[Group], names: Sequence[str], parents: ParentRows
) -> None:
    """Set the lineage of all models, if any of them has a parent.

    Args:
        scan: models found; remarks on missing parents are added.
        groups: groups of models, one zoo each.
        names: name of the zoo of each group.
        parents: models of an earlier import.
    """
    kept = [model for group in groups for model in group.models]
    if not any(model.parent for model in kept):
        return
    rows = parents | {
        model.name: (name, number, model.split or "", frozenset(model.epochs.tolist()))
        for group, name in zip(groups, names, strict=True)
        for number, model in enumerate(group.models)
    }
    for model in kept:
        model.lineage = Lineage() if model.parent is None else _lineage(model, rows, scan)


def _lineage(model: FoundModel, rows: ParentRows, scan: Scan) -> Lineage:
    parent: Parent = model.parent  # type: ignore[assignment]
    if parent.model not in rows:
        if not parent.zoo:
            reason = f"its parent {parent.model} is not in the source: only its name is kept"
            scan.remarks.append(Remark(model.name, reason))
        return Lineage(relation=parent.relation, parent_zoo=parent.zoo)
    zoo, number, _, epochs = rows[parent.model]
    epoch = parent.epoch if parent.epoch in epochs else NO_PARENT
    if epoch == NO_PARENT:
        reason = f"epoch {parent.epoch} of its parent {parent.model} is not in the zoo {zoo}"
        scan.remarks.append(Remark(model.name, reason))
    return Lineage(
        relation=parent.relation, parent_zoo=zoo, parent_model_id=number, parent_epoch=epoch
    )


def _add_rows(found: ParentRows, folder: Path) -> None:
    index = ZooIndex.read(folder)
    for file in index.open(folder):
        columns = file.read_columns(["model_name", "model_id", "split", "epoch"])
        names = columns["model_name"].astype(str)
        for name in dict.fromkeys(names.tolist()):
            own = np.flatnonzero(names == name)
            number, split = int(columns["model_id"][own[0]]), str(columns["split"][own[0]])
            epochs = frozenset(columns["epoch"][own].tolist())
            found[name] = (index.name, number, split, epochs)
