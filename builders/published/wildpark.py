"""The CNN Wild Park of Kofinas et al. 2024 (arXiv 2403.12143).

Ray Tune folders `<model>/checkpoint_<n>/checkpoint.pt`, each a pickle with the keys model,
optimizer, config (an omegaconf object, kept as a stub), iteration and last_result. Nearly every
model has its own widths and kernels, so an import makes one mixed zoo. Tensors keep the names of
the published class. `epoch` is the
published `iteration`: the published loop counts from 0 and trains before it saves, so 0 means one
epoch of training.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checkpoints.tensors import Leaf
from ..checkpoints.unpickling import Stub
from ..checkpoints.unreadable import UnreadableFileError
from ..importing.layers import count_layers
from ..importing.models import (
    UNKNOWN_EPOCH,
    FoundModel,
    Reader,
    Remark,
    Scan,
    metric_name,
    read_metrics,
    sort_config,
    take_constants,
    unique_names,
    whole,
)

_FILE = "checkpoint.pt"
CONFIG_LIMIT = 100_000


class WildParkReader(Reader):
    """Reads pickles that hold omegaconf objects, without omegaconf."""

    stubs = (
        "omegaconf",
        "experiments.cnn_generalization",
        "typing",
        "operator.getitem",
        "_operator.getitem",
        "types.GenericAlias",
    )
    mixes = True

    def scan(self) -> Scan:
        """Read config, iteration and results from the pickle of every checkpoint.

        An unreadable or repeated checkpoint becomes one line in `Scan.refused`.
        """
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        folders: dict[str, list[str]] = {}
        for name in self.source.names:
            if name.rpartition("/")[2] == _FILE:
                folders.setdefault("/".join(name.split("/")[:-2]), []).append(name)
        for folder, name in sorted(unique_names(folders).items(), key=lambda item: item[1]):
            rows: dict[int, _CheckpointRow] = {}
            for file in folders[folder]:
                with scan.refusing(name, file):
                    _add_row(rows, self._row(file))
            if rows:
                with scan.refusing(name):
                    scan.models.append(_model(name, [rows[epoch] for epoch in sorted(rows)]))
        scan.constants = take_constants(scan.models)
        return scan

    def rename(self, state: dict[str, Leaf], model: FoundModel) -> dict[str, Leaf]:
        """Check that the layers follow one another, and sort them from input to output.

        Args:
            state: tensors by published name, which they keep.
            model: model of the source.
        """
        names = {id(leaf): name for name, leaf in state.items()}
        return {names[id(leaf)]: leaf for leaf in count_layers(state).values()}

    def _row(self, file: str) -> "_CheckpointRow":
        """Data of one pickle, without its weights."""
        root = self.open_file(file).root
        if not isinstance(root, Mapping) or "model" not in root:
            raise UnreadableFileError("holds no checkpoint of the Wild Park")
        result, config = root.get("last_result"), plain(root.get("config"))
        result = result if isinstance(result, Mapping) else {}
        metrics = {key: value for key, value in result.items() if metric_name(str(key))}
        config = config if isinstance(config, dict) else {}
        return _CheckpointRow(file, whole(root.get("iteration"), UNKNOWN_EPOCH), metrics, config)


@dataclass(frozen=True)
class _CheckpointRow:
    """One checkpoint: its file, epoch, metrics by published name, and config."""

    file: str
    iteration: int
    metrics: dict[str, Any]
    config: dict[str, Any]


def plain(value: Any) -> Any:
    """Convert the stub of an omegaconf object to plain data.

    Raises:
        UnreadableFileError: if it has more than `CONFIG_LIMIT` entries; an entry with several
            references counts several times.
    """
    return _plain(value, iter(range(CONFIG_LIMIT)))


def _plain(value: Any, left: Iterator[int]) -> Any:
    if next(left, None) is None:
        raise UnreadableFileError(f"its config has more than {CONFIG_LIMIT} entries")
    if isinstance(value, Stub):
        state = value.state if isinstance(value.state, Mapping) else {}
        return _plain(state.get("_val", state.get("_content")), left)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, left) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, left) for entry in value]
    return value


def _add_row(rows: "dict[int, _CheckpointRow]", row: "_CheckpointRow") -> None:
    """Add a checkpoint by its iteration; one that is there twice is refused."""
    if row.iteration in rows:
        raise UnreadableFileError(f"iteration {row.iteration} is there twice")
    rows[row.iteration] = row


def _model(name: str, rows: Sequence[_CheckpointRow]) -> FoundModel:
    metrics, diverged = read_metrics([row.metrics for row in rows])
    config = dict(rows[0].config)
    activations = config.pop("activation", None)
    if isinstance(activations, list):  # one per layer
        same = len(set(map(str, activations))) == 1
        activations = activations[0] if same else ",".join(map(str, activations))
    hyper_parameters, rest = sort_config(config | {"activation": activations})
    return FoundModel(
        name=name,
        locations=[row.file for row in rows],
        epochs=np.array([row.iteration for row in rows]),
        metrics=metrics,
        hyper_parameters=hyper_parameters,
        properties=rest | {"published_file": [row.file for row in rows]},
        diverged=diverged,
    )
