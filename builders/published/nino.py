"""Training trajectories of NiNo (Knyazev et al. 2025, arXiv 2409.04434), as float16 memory maps.

Revision `mmap` of the published set holds `<task>.dat`, values (models, states, parameters) without
a header, in two files `_p1` and `_p2` for the larger tasks, and `<task>_metrics.dat`, float16 too,
(models, states, 4) with test loss, test accuracy, train loss and train accuracy, or (models,
states, 1) with a loss for language models. The shapes are published beside the files. A trajectory
is one model and its states are the checkpoints: `epoch` is the number of the state. Values are kept
exactly, as one flat tensor, because the files name no tensors.
"""

import re
from dataclasses import dataclass

import numpy as np

from ...zoos.errors import BuildError
from ..checkpoints.archives import open_range
from ..checkpoints.tensors import slice_bytes
from ..checkpoints.unreadable import UnreadableFileError, shown
from ..importing.models import FoundModel, OpenState, Reader, Remark, Scan

SHAPES = {  # task: models, states, parameters, as published
    "fm-16": (300, 2688, 14_378),
    "c10-16": (300, 2513, 14_666),
    "lm1b-3-24": (200, 124, 1_252_464),
    "lm1b-2-32": (200, 124, 1_666_464),
}
METRICS = ("test_loss", "test_accuracy", "train_loss", "train_accuracy")
_FILE = re.compile(r"(?:.*/)?(?P<task>[\w-]+?)(?:_p[0-9])?\.dat")
_ITEM_BYTES = 2


@dataclass(frozen=True)
class _State:
    """Place of one state: file, first byte and number of values."""

    file: str
    start: int
    values: int


class NinoReader(Reader):
    """Reads the memory maps of any of the published tasks."""

    def scan(self) -> Scan:
        """Take every trajectory as a model.

        Raises:
            BuildError: if a task's files have another size than published.
        """
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        tasks: dict[str, list[str]] = {}
        for name in self.source.names:
            match = _FILE.fullmatch(name)
            if match and match["task"] in SHAPES:
                tasks.setdefault(match["task"], []).append(name)
            elif name.endswith(".dat") and not name.endswith("_metrics.dat"):
                scan.refused.append(Remark(name, f"no task of {list(SHAPES)}: no shape is known"))
        for task, files in sorted(tasks.items()):
            scan.models += self._models(task, sorted(files), scan)
        scan.notes.append("epoch is the number of a state in its trajectory")
        return scan

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open one state as a flat tensor.

        Args:
            model: model of the source.
            row: index of the state in `model.locations`.
        """
        place: _State = model.locations[row]
        with open_range(self.source.locate(place.file)) as file:
            data = slice_bytes(file, place.start, place.values * _ITEM_BYTES)
        values = np.frombuffer(data, "<f2").astype(np.float32)
        return OpenState({"parameters": values}, lambda leaf: leaf)  # type: ignore[arg-type, return-value]

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Size of the values of a state, in bytes.

        Args:
            model: model of the source.
            row: index of the state in `model.locations`.
        """
        return int(model.locations[row].values) * _ITEM_BYTES

    def _models(self, task: str, files: list[str], scan: Scan) -> list[FoundModel]:
        count, states, parameters = SHAPES[task]
        size = states * parameters * _ITEM_BYTES
        held = [self.source.size(file) for file in files]
        if any(one % size for one in held) or sum(held) != count * size:
            raise BuildError(
                f"{self.source.path}: {shown(files)} have {sum(held)} bytes, {task} is published "
                f"with {count * size}: fetch all of its files again"
            )
        places = [(f, i * size) for f, n in zip(files, held, strict=True) for i in range(n // size)]
        metrics = self._metrics(task, files[0], scan)
        width = parameters * _ITEM_BYTES
        return [
            FoundModel(
                name=f"{task}/{number:04d}",
                locations=[_State(file, start + s * width, parameters) for s in range(states)],
                epochs=np.arange(states),
                metrics={} if metrics is None else _columns(metrics[number]),
                properties={"task": task},
            )
            for number, (file, start) in enumerate(places)
        ]

    def _metrics(self, task: str, file: str, scan: Scan) -> np.ndarray | None:
        """Metrics of all states, (models, states, 4 or 1); None without the file."""
        count, states, _ = SHAPES[task]
        name = "/".join([*file.split("/")[:-1], f"{task}_metrics.dat"])
        values = np.frombuffer(self.source.read(name), "<f2") if name in self.source else None
        if values is None or len(values) not in (count * states * 4, count * states):
            scan.remarks.append(Remark(task, f"no {name} of the published size: no metrics"))
            return None
        return values.astype(np.float64).reshape(count, states, -1)


def _columns(values: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of one trajectory by name."""
    if values.shape[1] not in (1, len(METRICS)):
        raise UnreadableFileError(f"metrics have {values.shape[1]} columns, not 1 or 4")
    names = METRICS if values.shape[1] > 1 else METRICS[:1]
    return {name: values[:, index] for index, name in enumerate(names)}
