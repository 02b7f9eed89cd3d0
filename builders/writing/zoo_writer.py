"""`ZooWriter`: models of one's own, added one by one, become a zoo folder.

Rows are kept on the disk as they come (see `spool`), so that a run that is killed goes on; only
when the last one is there are splits drawn and the files of the zoo written.

Shape letters: D length of the flat weight vector.
"""

import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ...zoos.errors import BuildError
from ...zoos.folder_identity import Identity
from ...zoos.format import ZooHeader
from ...zoos.index import LONGEST_NAME, ZooIndex
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layer_kind import ACTIVATIONS
from ...zoos.networks.layer_table import LayerTable
from ...zoos.networks.tracing import TracedModule
from ...zoos.partial_folder import SCRATCH_NAME, partial_folder
from ...zoos.provenance import commit, package_version, parent_provenance
from ...zoos.strict_json import finite_or_null
from ...zoos.zoo_folder import status_column, write_zoo_rows
from .model_layout import ModelLayout
from .model_splits import SplitRule
from .spool import Spool, decoded, encoded, read_table, write_table
from .written_columns import (
    UNKNOWN_EPOCH,
    fill_splits,
    hyper_parameters_of,
    plain_values,
    zoo_columns,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_PLAN = {"rows": "in the order in which they were added"}


@dataclass(frozen=True, kw_only=True)
class WrittenZoo:
    """What was written.

    Attributes:
        path: the zoo folder.
        models: number of models.
        rows: number of checkpoints.
        splits: models by split.
        diverged_rows: rows with weights that are not finite; they are kept.
        architecture: name of the architecture, None where state dicts only are kept.
        note: what the user should know, "" for nothing.
    """

    path: Path
    models: int
    rows: int
    splits: dict[str, int]
    diverged_rows: int
    architecture: str | None
    note: str


class ZooWriter:
    """A zoo folder that is being written, for a training loop of one's own.

    Use it as a context manager: the folder appears when the block ends. After an error or a kill
    the rows that were added stay in `<folder>.partial`, and a writer with the same arguments goes
    on; ask `(model_id, epoch) in writer` for what is there already. A row that is added again
    must be the same, and is not written twice.

    Attributes:
        result: what was written, a `WrittenZoo`, after the block.

    Example:
        >>> import tempfile, torch
        >>> from torch import nn
        >>> from weightzoo import ZooWriter, load_zoo
        >>> folder = tempfile.mkdtemp() + "/mine"
        >>> with ZooWriter(folder, name="mine", licence="mit") as writer:
        ...     for seed in range(4):
        ...         _ = torch.manual_seed(seed)
        ...         module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        ...         _ = writer.add(module, seed=seed, epoch=0, test_accuracy=0.5)
        >>> writer.result.models, writer.result.architecture
        (4, 'Sequential')
        >>> load_zoo(folder, split="train").module(0)(torch.zeros(1, 4)).shape
        torch.Size([1, 3])
    """

    result: WrittenZoo

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str,
        licence: str,
        architecture: Any = None,
        input_shape: Sequence[int] | None = None,
        splits: int | Mapping[str, float] | None = None,
        parents: str | Path | None = None,
        description: str = "",
        overwrite: bool = False,
    ) -> None:
        """Check what the zoo is to be; nothing is written yet.

        Args:
            folder: the zoo folder to make.
            name: the zoo's name: letters, digits, dots, dashes and underscores.
            licence: the Hub's word for the licence of the weights, such as "cc-by-4.0" or "mit".
            architecture: an `Architecture` or its plain data, a `LayerTable`, an `nn.Module` or a
                `TracedModule`; None looks at the first model that is added.
            input_shape: (channels, height, width) or (features,) of an input, without the batch;
                None derives it where it can be derived.
            splits: seed from which splits are drawn by model, or shares by split; None takes the
                seed 0 and 70, 15 and 15 %. A column "split" takes precedence.
            parents: zoo folder that the models descend from. Give the columns `parent_model_id`
                and `parent_epoch`, and `relation` unless they are fine-tuned; without splits of
                their own, models have the split of their parent.
            description: a line for the card.
            overwrite: replace a zoo at `folder`, and discard other unfinished work.

        Raises:
            TypeError: if an argument is of another type.
            ValueError: if a name, a licence or shares are not allowed.
        """
        self._folder = _folder(folder)
        self._name = _checked(name, "name", _NAME, "letters, digits, dots, dashes")
        self._licence = _checked(licence, "licence", _LICENCE, "the Hub's words, such as 'mit'")
        self._architecture, self._input_shape = architecture, input_shape
        self._rule, self._is_drawn = SplitRule.of(splits), splits is not None
        self._parent = None if parents is None else _folder(parents)
        self._parent_data = parent_provenance(self._parent) if self._parent else {}
        self._description, self._overwrite = description, overwrite
        self._layout: ModelLayout | None = None
        self._spool: Spool | None = None
        self._places: dict[tuple[int, int], int] = {}
        self._added: set[tuple[int, int]] = set()
        self._next_id = 0

    def __enter__(self) -> Self:
        """Take the folder, and find the rows of an earlier run.

        Raises:
            BuildError: if the folder is taken, or holds other unfinished work.
        """
        self._stack = ExitStack()
        identity = Identity("write", self._name, self._settings())
        self._held = self._stack.enter_context(
            partial_folder(self._folder, identity, self._overwrite)
        )
        try:
            self._resume()
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the zoo folder, unless the block ended in an error."""
        if error is not None:
            self._close()
            if not self._places:
                self._held.forget_plan()  # there is nothing to go on with
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()
        self.result = _result(self._folder, self._layout)

    def __len__(self) -> int:
        """Number of rows that are there, those of an earlier run too."""
        return len(self._places)

    def __contains__(self, row: tuple[int, int]) -> bool:
        """Whether the row of (model_id, epoch) is there."""
        return tuple(row) in self._places

    def add(self, model: Any, **columns: Any) -> int:
        """Add one checkpoint of one model.

        Args:
            model: a state dict, an `nn.Module`, or a flat weight vector.
            columns: value by column name. `model_id` counts up from 0 unless it is given; give it,
                and `epoch`, for several checkpoints of a model.

        Returns:
            The row's `model_id`.

        Raises:
            TypeError: if the model or a value is of a type that no zoo holds.
            ValueError: if the model does not fit the zoo, a value is not allowed, or another row
                of the same model and epoch is there.
        """
        if getattr(self, "_held", None) is None:
            raise ValueError("open the writer first: `with ZooWriter(...) as writer:`")
        columns = plain_values(columns)
        if self._held.is_done:  # an earlier run finished the zoo, and was killed then
            return self._noted(columns)[0]
        layout = self._layout_for(model)
        row = layout.row(model)
        columns = layout.hyper_parameters_of(model) | columns
        _check_rebuildable(layout, columns)
        values = self._noted(columns)
        self._append(row, *values)
        return values[0]

    def check(self) -> None:
        """Check the rows so far against each other, as the end of the block does.

        Raises:
            TypeError: if a column holds text in some rows and numbers in others.
            ValueError: if splits or parents are given to some rows only, or the lineage
                contradicts itself.
        """
        if self._spool is not None and self._spool.rows:
            self._columns()

    def discard(self) -> None:
        """Forget all rows, also those of an earlier run; the block must end in an error then."""
        self._close()
        self._places.clear()

    def _noted(self, columns: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
        """Model, epoch and all columns of a row."""
        model = int(columns.get("model_id", self._next_id))
        epoch = int(columns.get("epoch", UNKNOWN_EPOCH))
        self._next_id = max(self._next_id, model + 1)
        return model, epoch, columns | {"model_id": model, "epoch": epoch}

    def _append(self, row: np.ndarray, model: int, epoch: int, columns: dict[str, Any]) -> None:
        assert self._spool is not None
        key, values = (model, epoch), encoded(columns)
        if key in self._added:
            raise ValueError(
                f"model {model} has a row of epoch {epoch} already: give another epoch=... or "
                "model_id=..."
            )
        if key not in self._places:
            self._places[key] = self._spool.append(row, values)
        elif not self._spool.holds(self._places[key], row, values):
            raise ValueError(
                f"the row of model {model} at epoch {epoch} differs from that of the earlier run: "
                f"skip rows that are in the writer, or delete {self._held.path} to start anew"
            )
        self._added.add(key)

    def _layout_for(self, model: Any) -> ModelLayout:
        """The layout of the zoo, found out with the first model."""
        if self._layout is None:
            self._layout = ModelLayout.of(self._architecture, model, self._input_shape)
            if self._layout.note and self._layout.is_surprising:
                warnings.warn(f"zoo {self._name!r}: {self._layout.note}", stacklevel=3)
            write_table(self._held.path / SCRATCH_NAME, self._layout.to_json())
            self._open_spool()
        return self._layout

    def _resume(self) -> None:
        """Read the rows of an earlier run; of a zoo that it finished, which rows it has."""
        if self._held.is_done:
            for file in ZooIndex.read(self._folder).open(self._folder):
                own = file.read_columns(["model_id", "epoch"])
                keys = zip(own["model_id"].tolist(), own["epoch"].tolist(), strict=True)
                self._places |= dict.fromkeys(keys, -1)
            return
        if not self._held.is_planned(_PLAN, self._overwrite):
            self._held.set_planned(_PLAN)
        data = read_table(self._held.path / SCRATCH_NAME)
        if data is not None:
            self._layout = ModelLayout.from_json(data)
            self._open_spool()

    def _open_spool(self) -> None:
        assert self._layout is not None
        spool = Spool(self._held.path / SCRATCH_NAME, self._layout.table.width)
        self._places = {
            (row["model_id"], row["epoch"]): place for place, row in enumerate(spool.rows)
        }
        self._spool = spool

    def _finish(self) -> None:
        """Write the files of the zoo into the folder that is renamed to its place."""
        if self._held.is_done:
            return
        if self._spool is None or self._layout is None or not self._spool.rows:
            self._held.forget_plan()
            raise BuildError(f"no model was added to zoo {self._name!r}: there is nothing to write")
        self._spool.sync()
        columns, hyper, how = self._columns()
        weights = self._spool.weights()
        columns["status"] = status_column(weights, columns["status"] == "diverged")
        self._write(columns, weights, hyper, how)
        self._close()

    def _columns(self) -> tuple[dict[str, np.ndarray], tuple[str, ...], dict[str, Any]]:
        """All columns, the names of the hyper-parameters, and what the header says of splits."""
        assert self._spool is not None
        rows = [{name: decoded(value) for name, value in row.items()} for row in self._spool.rows]
        names = list(dict.fromkeys(name for row in rows for name in row))
        hyper = hyper_parameters_of(names)
        columns = zoo_columns(rows, self._parent_data.get("name", ""), hyper)
        parent = None if self._is_drawn else self._parent
        columns["split"], how = fill_splits(columns, self._rule, parent)
        return columns, hyper, how

    def _write(
        self,
        columns: dict[str, np.ndarray],
        weights: np.ndarray,
        hyper: tuple[str, ...],
        how: dict[str, Any],
    ) -> None:
        assert self._layout is not None
        order = np.argsort(columns["epoch"], kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
        by_model = np.argsort(columns["model_id"], kind="stable")
        columns = {name: column[by_model] for name, column in columns.items()}
        shutil.rmtree(self._held.finished, ignore_errors=True)  # of a run with fewer rows
        header = ZooHeader(
            architecture=self._layout.architecture,
            layer_table=self._layout.table,
            hyper_parameters=hyper,
            recipe=self._recipe(),
            split=how,
            provenance=self._held.start_finishing(self._provenance()),
        )
        places = order[by_model]
        write_zoo_rows(
            self._held.finished, self._name, header, columns, lambda rows: weights[places[rows]]
        )

    def _recipe(self) -> dict[str, Any]:
        """What stands where a built zoo has its recipe."""
        assert self._layout is not None
        recipe: dict[str, Any] = {"name": self._name, "description": self._description}
        if self._layout.note:
            recipe["notes"] = [self._layout.note]
        names = self._layout.names
        if any(ours != theirs for ours, theirs in names.items()):
            recipe["tensor_names"] = names
        return recipe

    def _provenance(self) -> dict[str, Any]:
        parent = {"parent": self._parent_data} if self._parent_data else {}
        return {
            "written_by": "ZooWriter",
            "weightzoo": package_version(),
            "commit": commit(),
            "torch": torch.__version__,
            "licence": self._licence,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        } | parent

    def _settings(self) -> dict[str, Any]:
        settings = {
            "licence": self._licence,
            "splits": self._rule.to_json(),
            "architecture": _described(self._architecture),
            "input_shape": None if self._input_shape is None else list(self._input_shape),
            "parent": self._parent_data,
            "description": self._description,
        }
        return dict(finite_or_null(settings))

    def _close(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None


def _result(folder: Path, layout: ModelLayout | None) -> WrittenZoo:
    """What lies at the folder now."""
    index = ZooIndex.read(folder)
    files = index.open(folder)
    splits: dict[str, int] = {}
    for shard in index.shards:
        splits[shard.split] = splits.get(shard.split, 0) + shard.models
    status = [file.read_columns(["status"])["status"] for file in files]
    architecture = files[0].header.architecture
    return WrittenZoo(
        path=folder,
        models=sum(splits.values()),
        rows=sum(shard.rows for shard in index.shards),
        splits=splits,
        diverged_rows=sum(int((column == "diverged").sum()) for column in status),
        architecture=architecture.name if architecture else None,
        note=layout.note if layout else "",
    )


def _check_rebuildable(layout: ModelLayout, columns: Mapping[str, Any]) -> None:
    """Refuse a row that lacks what its module is rebuilt with."""
    architecture = layout.architecture
    if architecture is None or "activation" not in architecture.kinds():
        return
    name = columns.get("activation")
    if name not in ACTIVATIONS:
        raise ValueError(
            f"architecture {architecture.name!r} has activation layers: the column activation must "
            f"be one of {list(ACTIVATIONS)}, got {name!r}"
        )


def _folder(path: Any) -> Path:
    if not isinstance(path, str | Path):
        raise TypeError(f"a folder must be a path, got {type(path).__name__}")
    return Path(path)


def _checked(text: Any, what: str, pattern: re.Pattern[str], allowed: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a text, got {text!r}")
    if not pattern.fullmatch(text) or len(text) > LONGEST_NAME:
        raise ValueError(f"{what} must be written in {allowed}, got {text!r}")
    return text


def _described(architecture: Any) -> Any:
    """Plain data by which a resumed run knows that its architecture is the same."""
    if isinstance(architecture, TracedModule):
        return [architecture.architecture.to_json(), architecture.activation, architecture.dropout]
    if isinstance(architecture, Architecture | LayerTable):
        return architecture.to_json()
    if isinstance(architecture, nn.Module):
        return repr(architecture)
    return dict(architecture) if isinstance(architecture, Mapping) else None
