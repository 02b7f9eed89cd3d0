"""`attach_architecture`: a zoo that holds state dicts only gets the architecture of its models.

The tensors of the zoo must be those of the architecture. Where the images of the zoo are known,
rebuilt models must also reach their recorded test accuracy.

Shape letters: N rows, D length of the flat weight vector.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...builders.training.objectives import DataSet, load_data
from ...builders.writing.model_layout import STATE_DICT_ONLY, ModelLayout
from ...loaders.load import ZooDataset, concatenate_zoos, load_zoo
from ...loaders.storage.opening import find_zoo
from ...zoos.errors import UnsuitableError
from ...zoos.folder_identity import Identity
from ...zoos.format import ZooHeader
from ...zoos.images.signals import SignalSet
from ...zoos.index import ZooIndex
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layer_kind import ACTIVATIONS
from ...zoos.partial_folder import partial_folder
from ...zoos.provenance import package_version
from ...zoos.zoo_folder import write_zoo_rows
from .attached_tensors import tensor_order
from .rebuilt_models import measured_difference, training_data

_UNKNOWN_WEIGHTS = STATE_DICT_ONLY.partition("{")[0]
_WRITTEN = ("*.h5", "zoo.json", "README.md")  # written anew with the zoo


@dataclass(frozen=True, kw_only=True)
class AttachedArchitecture:
    """Result of `attach_architecture`.

    Attributes:
        path: zoo folder with the architecture.
        architecture: name of the architecture.
        matched_by: "name" or "order", how tensors of the zoo were matched to the architecture.
        images: name of the image set or signal set that the models were tested on, None if it is
            not known.
        tested_rows: number of rows whose rebuilt model reached its recorded measure.
        largest_difference: largest difference from a recorded measure, NaN without tested rows.
    """

    path: Path
    architecture: str
    matched_by: str
    images: str | None
    tested_rows: int
    largest_difference: float


def attach_architecture(
    zoo: str | Path,
    architecture: Any,
    *,
    name: str | None = None,
    input_shape: Sequence[int] | None = None,
    activation: str | None = None,
    images: str | None = None,
    models: int = 8,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> AttachedArchitecture:
    """Give a zoo the architecture from which its models are rebuilt.

    The zoo is written anew and then takes the place of the old one, so that nothing is lost if the
    architecture does not fit or the process is killed.

    Args:
        zoo: zoo folder, or a folder of zoo folders.
        architecture: an `Architecture` or its plain data, an `nn.Module`, or the result of
            `trace_architecture`.
        name: name of the zoo in a folder of zoo folders.
        input_shape: (channels, height, width) or (features,) of an input, for tracing a module.
        activation: activation function of all models, for a zoo without the column `activation`;
            None takes that of the traced module.
        images: name of the image set or signal set of the models; None takes the recorded one.
        models: number of random rows whose rebuilt model must reach its recorded test measure.
        seed: seed of these rows.
        out: zoo folder to write; None replaces the zoo itself.
        overwrite: replace a zoo at `out`, or the architecture that the zoo has already.

    Raises:
        TypeError: if `architecture` is of another type.
        UnsuitableError: if a module cannot be traced, tensors differ, or a rebuilt model does not
            reach its recorded measure.
        ValueError: if the zoo has an architecture already, or an activation is unknown.
        RecipeError: if the image set is unknown or cannot be fetched.
        BuildError: if `out` is taken.
    """
    folder = Path(zoo) if name is None and _is_unfinished(zoo) else find_zoo(Path(zoo), name)
    if folder.is_file():
        raise ValueError(f"{folder} is a zoo file: give its zoo folder, or make one with save_zoo")
    layout = _layout(architecture, input_shape)
    assert layout.architecture is not None
    settings = {
        "architecture": layout.architecture.to_json(),
        "activation": activation or layout.hyper_parameters.get("activation"),
        "images": images,
    }
    target = folder if out is None else Path(out)
    identity = Identity("attach", str(folder), settings)
    with partial_folder(target, identity, overwrite or out is None) as held:
        if held.is_done:  # an earlier run was killed after it
            return _noted(held.out)
        held.is_planned({}, overwrite=True)
        rows = concatenate_zoos(list(load_zoo(folder).values()))
        if rows.header.architecture is not None and not overwrite:
            raise ValueError(
                f"{folder} has the architecture {rows.header.architecture.name!r}: replace it with "
                "--overwrite (in Python overwrite=True)"
            )
        plan = _Plan.of(rows, layout, activation)
        data = _data(rows.header, images)
        tested = plan.test(data, models, seed) if data is not None else []
        found = _result(target, plan, data, tested)
        plan.write(held.finished, ZooIndex.read(folder).name, data, found)
        _copy_others(folder, held.finished)
    return found


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Rows of a zoo, and how they become rows of the architecture."""

    rows: ZooDataset
    layout: ModelLayout
    architecture: Architecture
    order: np.ndarray  # (D,) position in the zoo's vector of each value of the architecture's
    matched_by: str
    columns: dict[str, np.ndarray]
    hyper_parameters: tuple[str, ...]

    @classmethod
    def of(cls, rows: ZooDataset, layout: ModelLayout, activation: str | None) -> "_Plan":
        """Match tensors and columns of a zoo to an architecture."""
        assert layout.architecture is not None
        order, matched_by = tensor_order(rows.layer_table, layout)
        columns = {name: rows.hidden_column(name, "attaching") for name in rows.table.names}
        added = _added_columns(columns, layout, activation, len(rows))
        hyper = dict.fromkeys([*rows.header.hyper_parameters, *added])
        return cls(
            rows=rows,
            layout=layout,
            architecture=layout.architecture,
            order=order,
            matched_by=matched_by,
            columns=columns | added,
            hyper_parameters=tuple(hyper),
        )

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Weights of some rows in the order of the architecture, (n, D)."""
        weights = self.rows.source.take(self.rows.rows[rows])
        return np.ascontiguousarray(weights[:, self.order])

    def test(self, data: DataSet, models: int, seed: int) -> list[float]:
        """Rebuild random rows with a recorded measure; return their differences from it."""
        recorded = "test_loss" if isinstance(data, SignalSet) else "test_accuracy"
        known = np.isfinite(self.columns[recorded]) & (self.columns["status"] == "ok")
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(known))[:models]
        found = []
        for row in rows.tolist():
            columns = {name: column[row] for name, column in self.columns.items()}
            difference, allowed = self._measured(row, columns, data)
            if not difference <= allowed:
                raise UnsuitableError(
                    f"model {columns['model_id']} at epoch {columns['epoch']} differs by "
                    f"{difference:.4g} from its recorded {recorded} {columns[recorded]:.4g} on "
                    f"{data.name!r}: the architecture, its activation or the images are others "
                    f"(tensors were matched by their {self.matched_by})"
                )
            found.append(difference)
        return found

    def _measured(self, row: int, columns: Mapping[str, Any], data: DataSet) -> tuple[float, float]:
        """Difference of the rebuilt network of a row, and the allowed difference."""
        rate = float(columns.get("dropout", 0.0))
        module = self.architecture.module(str(columns.get("activation", "relu")), rate)
        vector = torch.from_numpy(self.take(np.array([row]))[0])
        module.load_state_dict(self.architecture.layer_table().state_dict(vector))
        try:
            with torch.no_grad():
                return measured_difference(module.eval(), columns, data)
        except RuntimeError as error:
            raise UnsuitableError(
                f"architecture {self.architecture.name!r} takes inputs of "
                f"{self.architecture.input_shape} and not those of {data.name!r}: {error}"
            ) from error

    def write(
        self, folder: Path, name: str, data: DataSet | None, found: AttachedArchitecture
    ) -> None:
        """Write the zoo with its architecture."""
        header = self.rows.header
        provenance = dict(header.provenance) | {
            "attached": {
                "weightzoo": package_version(),
                "matched_by": found.matched_by,
                "tested_rows": found.tested_rows,
            }
        }
        if data is not None:
            provenance["images"] = {"name": data.name, "fingerprint": data.fingerprint}
        header = replace(
            header,
            architecture=self.architecture,
            layer_table=self.architecture.layer_table(),
            hyper_parameters=self.hyper_parameters,
            recipe=_recipe(header, self.layout),
            provenance=provenance,
            checksums={},
        )
        write_zoo_rows(folder, name, header, self.columns, self.take)


def _layout(architecture: Any, input_shape: Sequence[int] | None) -> ModelLayout:
    """Layout of the models, with an architecture."""
    if architecture is None:
        raise TypeError("architecture must be an Architecture, its plain data, or a module")
    layout = ModelLayout.of(architecture, np.empty(0), input_shape)
    if layout.architecture is None:
        reason = layout.note.removeprefix(_UNKNOWN_WEIGHTS).partition(". ")[0]
        kind = type(architecture).__name__
        raise UnsuitableError(f"no architecture can be read from {kind}: {reason}")
    return layout


def _added_columns(
    columns: Mapping[str, np.ndarray], layout: ModelLayout, activation: str | None, count: int
) -> dict[str, np.ndarray]:
    """Columns that rebuilding needs and the zoo lacks; those that it has are checked."""
    assert layout.architecture is not None
    kinds, added = layout.architecture.kinds(), {}
    if "activation" in kinds:
        if "activation" not in columns or activation is not None:
            word = activation or layout.hyper_parameters.get("activation")
            added["activation"] = np.full(count, word or "", object)
        names = set((dict(columns) | added)["activation"].tolist())
        if odd := sorted(names - set(ACTIVATIONS)):
            got = "none" if odd == [""] else str(odd)
            raise ValueError(
                f"models of architecture {layout.architecture.name!r} need an activation of "
                f"{list(ACTIVATIONS)}, got {got}: give --activation (in Python activation=...)"
            )
    if "dropout" in kinds and "dropout" not in columns:
        added["dropout"] = np.full(count, layout.hyper_parameters.get("dropout", 0.0))
    return added


def _data(header: ZooHeader, images: str | None) -> DataSet | None:
    """Image set or signal set of the zoo, if it is known."""
    if images is not None:
        return load_data(images)
    return training_data(header) if header.provenance.get("images") else None


def _recipe(header: ZooHeader, layout: ModelLayout) -> dict[str, Any]:
    """The recipe, without the note of what is missing, and with the names of the user's tensors."""
    recipe = dict(header.recipe)
    notes = [str(note) for note in recipe.pop("notes", [])]
    if kept := [note for note in notes if not note.startswith(_UNKNOWN_WEIGHTS)]:
        recipe["notes"] = kept
    if any(ours != theirs for ours, theirs in layout.names.items()):
        recipe["tensor_names"] = layout.names
    return recipe


def _result(
    path: Path, plan: _Plan, data: DataSet | None, differences: Sequence[float]
) -> AttachedArchitecture:
    return AttachedArchitecture(
        path=path,
        architecture=plan.architecture.name,
        matched_by=plan.matched_by,
        images=data.name if data is not None else None,
        tested_rows=len(differences),
        largest_difference=max(differences, default=float("nan")),
    )


def _noted(path: Path) -> AttachedArchitecture:
    """What an earlier run noted in the zoo."""
    header = ZooIndex.read(path).open(path)[0].header
    assert header.architecture is not None
    noted = header.provenance["attached"]
    return AttachedArchitecture(
        path=path,
        architecture=header.architecture.name,
        matched_by=noted["matched_by"],
        images=(header.provenance.get("images") or {}).get("name"),
        tested_rows=noted["tested_rows"],
        largest_difference=float("nan"),
    )


def _is_unfinished(zoo: str | Path) -> bool:
    """Whether a kill may have moved the zoo into its partial folder."""
    path = Path(zoo)
    return not path.exists() and path.with_name(f"{path.name}.partial").is_dir()


def _copy_others(folder: Path, target: Path) -> None:
    """Keep the files of a user that lie beside those of the zoo."""
    if folder.resolve() == target.resolve():
        return
    for path in folder.iterdir():
        if path.is_file() and not any(path.match(pattern) for pattern in _WRITTEN):
            shutil.copy2(path, target / path.name)
