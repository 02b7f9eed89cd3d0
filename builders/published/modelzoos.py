"""Model Zoos (arXiv 2209.14764), raw and preprocessed, and zoos of the same layout.

Raw (`modelzoos-raw`): one Ray Tune folder per model with `params.json`, `result.json` (one JSON
line per epoch) and `checkpoint_<epoch>/checkpoints`, the epoch padded to six digits or not.
`training_iteration` assigns results to checkpoints. Line 0 is the initial state in some zoos only,
with training metrics of -999. Ray since 2.7 numbers the folders by a running index instead of the
iteration; see `checkpoint_epochs`. The ViT zoo (arXiv 2504.10231) has `config.json` in place of
`params.json`. Configs of sparse twins and of fine-tuned models name the parent's checkpoint.
`wsl-modelzoo` downloads these folders with the checkpoints one asks for.

WeightCLIP (arXiv 2607.03551) has `<images>/cnn3/tune_zoo_<images>_cnn3/` above its folders, one
tar.gz for each image set: the column `images` names it. Its results have `epoch` in place of
`training_iteration`, counted from 0 after the first epoch, and NaN for metrics that were not
measured. Its networks have as many outputs as their image set has classes. No licence is stated.

Preprocessed (`modelzoos-pt`): one file with {"trainset", "valset", "testset"}, pickled objects of
the authors' dataset class. They are read as stubs; the class is never imported.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...zoos.networks.presets import cnn_l, cnn_s
from ...zoos.tensors.lazy import LazyTensor, TensorType
from ..checkpoints.archives import Source
from ..checkpoints.opening import find_state_dict
from ..checkpoints.tensors import Checkpoint, Leaf
from ..checkpoints.unpickling import Stub
from ..checkpoints.unreadable import UnreadableFileError, reading
from ..importing.layers import check_tensors, count_layers, is_indexed
from ..importing.models import (
    UNKNOWN_EPOCH,
    UNKNOWN_SEED,
    FoundModel,
    OpenState,
    Parent,
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
from ..importing.resnet import rename_resnet18
from ..importing.variances import clipped, take_variances

_CHECKPOINT = re.compile(r"(?:(?P<model>.+)/)?checkpoint_(?P<epoch>\d+)/checkpoints")
_SEED = re.compile(r"seed=(\d+)")
_IMAGES = re.compile(r"([^/]+)/cnn3/tune_zoo_[^/]+")  # of WeightCLIP
_TYPES = {"CNN": cnn_s, "CNN3": cnn_l}
_TWIN = "_ARD"  # ending of the model type of a sparse twin
_FOLDER_EPOCH = re.compile(r"checkpoint_([0-9]+)")
_SPLITS = {"trainset": "train", "valset": "val", "testset": "test"}


def rename_published(state: dict[str, Leaf], kind: str | None) -> dict[str, Leaf]:
    """Name the tensors of a published network by kind and count, with any dropout layers.

    Args:
        state: published state dict.
        kind: model type, `model::type` of its config, or None.

    Raises:
        UnreadableFileError: if a tensor is missing; the message names it.
    """
    if not is_indexed(state):
        if kind in _TYPES:
            raise UnreadableFileError(f"a {kind} has tensors {sorted(state)[:3]} of other names")
        return rename_resnet18(state) or state
    named = count_layers(state)
    if kind in _TYPES:
        first, last = named.get("conv1.weight"), named.get("linear2.bias")
        channels = 1 if first is None else first.shape[1]
        classes = last.shape[0] if last is not None and last.shape else 10
        check_tensors(named, _TYPES[kind](channels, classes))
    return named


def checkpoint_epochs(
    own: Mapping[int, int | None], results: Mapping[int, Mapping[str, Any]]
) -> dict[int, int]:
    """The epoch of each checkpoint folder, by the folder's number.

    Ray up to 2.6 numbers folders by iteration, later versions by a running index from 0. The
    iteration stored with the checkpoint comes first, then the result that names the folder.
    Folders 0 to n - 1 with results 1 to n are a running index over all results.

    Args:
        own: iteration stored with the checkpoint, or None, by folder number.
        results: line of result.json by iteration.

    Returns:
        Epoch by folder number; if results name folders, folders without a result are left out.

    Raises:
        UnreadableFileError: if the numbers are a running index that does not match the results.
    """
    named = {
        str(row["checkpoint_dir_name"]): iteration
        for iteration, row in results.items()
        if row.get("checkpoint_dir_name")
    }
    if all(iteration is not None for iteration in own.values()):
        return {number: iteration for number, iteration in own.items() if iteration is not None}
    if named:
        found = {number: named.get(f"checkpoint_{number:06d}") for number in own}
        return {number: epoch for number, epoch in found.items() if epoch is not None}
    numbers, iterations = sorted(own), sorted(results)
    running = numbers == list(range(len(numbers))) and iterations and 0 not in results
    if not running or numbers[-1] >= iterations[-1]:
        return {number: number for number in numbers}
    if iterations != [number + 1 for number in numbers]:
        raise UnreadableFileError(
            f"folders are numbered 0 to {numbers[-1]} by a running index, results have the "
            f"iterations {iterations[0]} to {iterations[-1]}: they cannot be matched"
        )
    return dict(zip(numbers, iterations, strict=True))


class RawReader(Reader):
    """Reads Ray Tune folders."""

    def __init__(self, source: Source) -> None:
        """Read from `source`."""
        super().__init__(source)
        self._types: dict[str, str] = {}

    def scan(self) -> Scan:
        """Find all models, their configs and results."""
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        found = self._checkpoints(scan)
        folders = {
            name.rpartition("/")[0]
            for name in self.source.names
            if name.rpartition("/")[2] in ("params.json", "result.json")
        }
        names = unique_names(sorted({*found, *folders}))
        for folder, name in sorted(names.items(), key=lambda item: item[1]):
            if folder not in found:
                scan.refused.append(Remark(name, "has properties, but no checkpoint"))
                continue
            with scan.refusing(name):
                scan.models.append(self._model(folder, name, found[folder], scan))
        scan.constants = take_constants(scan.models)
        if images := scan.constants.pop("images", None):  # tells the zoos of several archives apart
            for model in scan.models:
                model.properties["images"] = images
        return scan

    def rename(self, state: dict[str, Leaf], model: FoundModel) -> dict[str, Leaf]:
        """Rename the tensors of a published CNN to `conv1.weight` and so on.

        Args:
            state: tensors by published name.
            model: model of the source.
        """
        return rename_published(state, self._types.get(model.name))

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open one checkpoint; of a sparse twin, with zeros for the weights that it drops.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        checkpoint = self.open_file(model.locations[row])
        state, variances = take_variances(find_state_dict(checkpoint.root))
        read = clipped(checkpoint.read, variances) if variances else checkpoint.read
        return OpenState(self.rename(state, model), read)

    def _checkpoints(self, scan: Scan) -> dict[str, dict[int, str]]:
        """File by epoch, by model folder."""
        found: dict[str, dict[int, str]] = {}
        for name in self.source.names:
            if match := _CHECKPOINT.fullmatch(name):
                folder, epoch = match["model"] or "", int(match["epoch"])
                epochs = found.setdefault(folder, {})
                if epoch in epochs:
                    reason = f"epoch {epoch} is there twice; {epochs[epoch]} is read"
                    scan.remarks.append(Remark(folder, reason, epoch))
                else:
                    epochs[epoch] = name
        return found

    def _model(self, folder: str, name: str, files: Mapping[int, str], scan: Scan) -> FoundModel:
        results = self._results(folder, name, scan)
        config = self._config(folder, results)
        if config is None and not results:
            raise UnreadableFileError("has checkpoints, but neither params.json nor result.json")
        parent = _parent(config or {}, folder)
        files = self._by_epoch(files, results, name, scan)
        config = dict(config or {})
        kind = str(config.get("model::type"))
        self._types[name] = kind.removesuffix(_TWIN)
        seed = whole(config.pop("seed", None), UNKNOWN_SEED)
        epochs = sorted(files)
        for epoch in epochs:
            if epoch not in results:
                scan.remarks.append(Remark(name, "no result for this epoch", epoch))
        metrics, diverged = read_metrics([results.get(epoch, {}) for epoch in epochs])
        hyper_parameters, rest = sort_config(config)
        sparsity = [results.get(epoch, {}).get("sparsity_ratio") for epoch in epochs]
        if any(value is not None for value in sparsity):
            rest["sparsity_ratio" if kind.endswith(_TWIN) else "sparsity"] = sparsity
        if kind.endswith(_TWIN):
            rest["sparsity"] = [float("nan")] * len(epochs)  # counted when the rows are written
        if images := _IMAGES.search(folder):
            rest["images"] = images[1]
        if parent is not None:
            rest["parent_model_name"] = parent.model
        return FoundModel(
            name=name,
            locations=[files[epoch] for epoch in epochs],
            epochs=np.array(epochs),
            metrics=metrics,
            hyper_parameters=hyper_parameters,
            properties=rest,
            seed=seed,
            diverged=diverged,
            parent=parent,
            measures_sparsity=kind.endswith(_TWIN),
        )

    def _by_epoch(
        self,
        files: Mapping[int, str],
        results: Mapping[int, Mapping[str, Any]],
        name: str,
        scan: Scan,
    ) -> dict[int, str]:
        """File by epoch, from files by the number of their folder."""
        own = {n: self._own_iteration(file) for n, file in files.items()}
        epochs = checkpoint_epochs(own, results)
        for number in sorted(set(files) - set(epochs)):
            scan.refused.append(Remark(name, f"no result belongs to checkpoint folder {number}"))
        if not epochs:
            raise UnreadableFileError("no result belongs to any of its checkpoints")
        if any(number != epoch for number, epoch in epochs.items()):
            reason = "folders are numbered by a running index: epochs are those of their results"
            scan.remarks.append(Remark(name, reason))
        return {epoch: files[number] for number, epoch in epochs.items()}

    def _own_iteration(self, file: str) -> int | None:
        """Iteration that Ray before 2.7 stores beside a checkpoint, or None."""
        for name in (file.rpartition("/")[0] + "/.tune_metadata", file + ".tune_metadata"):
            if name in self.source:
                try:
                    root = self.open_file(name).root
                except UnreadableFileError:  # it may name any class; the folder's number remains
                    return None
                value = root.get("iteration") if isinstance(root, Mapping) else None
                return value if isinstance(value, int) else None
        return None

    def _results(self, folder: str, name: str, scan: Scan) -> dict[int, dict[str, Any]]:
        """Result line by epoch; the last line counts if a run was resumed."""
        file = f"{folder}/result.json".lstrip("/")
        if file not in self.source:
            scan.remarks.append(Remark(name, "no result.json: its metrics are unknown"))
            return {}
        results: dict[int, dict[str, Any]] = {}
        for line in self.source.read(file).decode("utf-8", "replace").splitlines():
            try:
                with reading():
                    row = json.loads(line)
                    number = row["training_iteration" if "training_iteration" in row else "epoch"]
                    results[int(number)] = _measured(row)
            except UnreadableFileError:
                scan.remarks.append(Remark(name, "a line of result.json is damaged"))
        return results

    def _config(
        self, folder: str, results: Mapping[int, Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        """Config of params.json or config.json, or of any result line, which repeats it."""
        config: Any = next((row.get("config") for row in results.values()), None)
        names = [f"{folder}/{name}".lstrip("/") for name in ("params.json", "config.json")]
        file = next((name for name in names if name in self.source), None)
        if file is not None:
            try:
                config = json.loads(self.source.read(file))
            except (ValueError, RecursionError) as error:
                name = file.rpartition("/")[2]
                raise UnreadableFileError(f"{name} is damaged: {error}") from error
        return config if isinstance(config, dict) else None


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    """A result without the metrics that were not measured at its epoch.

    WeightCLIP writes NaN for them; a loss of NaN alone means a diverged network.
    """
    if not math.isfinite(_float(row.get("train_loss"))):
        return row
    left_out = [
        name
        for part in ("val", "test")
        for name in (f"{part}_loss", f"{part}_acc")
        if math.isnan(_float(row.get(f"{part}_loss")))
        and math.isnan(_float(row.get(f"{part}_acc")))
    ]
    return {name: value for name, value in row.items() if name not in left_out}


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _parent(config: Mapping[str, Any], folder: str) -> Parent | None:
    """Parent of a sparse twin or a fine-tuned model, by its config or its folder."""
    source = config.get("training::init_checkpoint_path")
    if source and str(config.get("model::type")).endswith(_TWIN):
        *before, name = str(source).rstrip("/").split("/")
        epoch = whole(config.get("training::sample_epoch"), UNKNOWN_EPOCH)
        return Parent("pruned", name, epoch, before[-1] if before else "")
    file = str(
        config.get("pretraining::model::path") or config.get("pretrained::model::path") or ""
    )
    path = folder.split("/")
    nested = path[-2] if path[-3:-2] == ["finetuning"] else ""
    parts = file.split("/")
    name = str(config.get("pretraining::model") or "") or (parts[-3] if len(parts) > 2 else nested)
    if not name:
        return None
    found = _FOLDER_EPOCH.fullmatch(parts[-2]) if len(parts) > 1 else None
    return Parent("fine-tuned", name, int(found[1]) if found else UNKNOWN_EPOCH)


class PreprocessedReader(Reader):
    """Reads files of pickled dataset objects and keeps their splits."""

    stubs = ("checkpoints_to_datasets",)

    def __init__(self, source: Source) -> None:
        """Read from `source`."""
        super().__init__(source)
        self._checkpoints: dict[str, Checkpoint] = {}

    def scan(self) -> Scan:
        """Read the pickles without the weights."""
        scan = Scan(refused=[Remark(name, reason) for name, reason in self.source.left_out])
        rows: dict[str, list[dict[str, Any]]] = {}
        for file in (name for name in self.source.names if name.endswith(".pt")):
            with scan.refusing(file):
                checkpoint = self._checkpoints[file] = self.open_file(file)
                found = [
                    row | {"split": split, "file": file}
                    for part, split in _SPLITS.items()
                    for row in _dataset_rows(checkpoint.root, part)
                ]
                checkpoint.root = None  # half of it is data_out, a copy of data_in
                for row in found:
                    rows.setdefault(row["path"], []).append(row)
        names = unique_names(sorted(rows))
        for path, name in sorted(names.items(), key=lambda item: item[1]):
            with scan.refusing(name):
                scan.models.append(_preprocessed_model(name, rows[path]))
        scan.constants = take_constants(scan.models)
        scan.notes.append(
            "the published file lists no model that its authors' filter dropped, nor why"
        )
        return scan

    def size_bytes(self, model: FoundModel, row: int) -> int:
        """Size of the file that holds an entry and many others, in bytes.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        return self.source.size(model.locations[row][0])

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open the tensors of one entry of `data_in`.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.
        """
        file, entry = model.locations[row]
        checkpoint = self._checkpoints[file]
        if isinstance(entry, Mapping):
            return OpenState(rename_published(dict(entry), None), checkpoint.read)
        return _split_vector(checkpoint.read(entry))


def _dataset_rows(root: Any, part: str) -> list[dict[str, Any]]:
    """One mapping per stored checkpoint of a dataset object.

    Raises:
        UnreadableFileError: if it is no dataset object, or its lists differ in length.
    """
    dataset = root.get(part) if isinstance(root, Mapping) else None
    if dataset is None and isinstance(root, Mapping) and any(key in root for key in _SPLITS):
        return []  # a file with two splits only
    state = dataset.state if isinstance(dataset, Stub) else None
    if not isinstance(state, Mapping) or not {"data_in", "paths", "epochs"} <= set(state):
        raise UnreadableFileError(f"holds no dataset object of Model Zoos under {part!r}")
    data, properties = _entries(state["data_in"]), state.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise UnreadableFileError(f"properties of {part} are a {type(properties).__name__}")
    columns = {"path": state["paths"], "epoch": state["epochs"], **properties}
    odd = {
        name: _length(values) for name, values in columns.items() if _length(values) != len(data)
    }
    if odd:
        raise UnreadableFileError(f"{part} holds {len(data)} checkpoints, but {odd} entries")
    if not all(isinstance(epoch, int) for epoch in columns["epoch"]):
        raise UnreadableFileError(f"epochs of {part} are no whole numbers")
    rows = []
    for index, entry in enumerate(data):
        row = {name: values[index] for name, values in columns.items()}
        rows.append(row | {"path": str(row["path"]), "entry": entry})
    return rows


def _length(values: Any) -> int | None:
    return len(values) if isinstance(values, list | tuple) else None


def _entries(data: Any) -> Sequence[Any]:
    """`data_in` as one entry per checkpoint; in mode "vector" it is one (N, D) tensor."""
    if isinstance(data, LazyTensor) and len(data.shape) == 2:
        kind = TensorType(data.type.dtype, data.shape[1:])
        step, *stride = data.stride or (data.shape[1], 1)
        starts = [data.start + row * step * kind.item_bytes for row in range(data.shape[0])]
        return [LazyTensor(kind, start, data.storage, tuple(stride)) for start in starts]
    if not isinstance(data, list) or not all(isinstance(e, Mapping | LazyTensor) for e in data):
        raise UnreadableFileError("data_in is neither a list of checkpoints nor one tensor")
    return data


def _preprocessed_model(name: str, rows: list[dict[str, Any]]) -> FoundModel:
    if len({row["split"] for row in rows}) > 1:
        raise UnreadableFileError("has checkpoints in two splits")
    rows = sorted(rows, key=lambda row: row["epoch"])
    known = {"path", "epoch", "split", "file", "entry", "training_iteration"}
    metrics, diverged = read_metrics(rows)
    hyper_parameters, rest = sort_config(
        {k: v for k, v in rows[0].items() if k not in known and metric_name(k) is None}
    )
    seed = _SEED.search(name)
    return FoundModel(
        name=name,
        locations=[(row["file"], row["entry"]) for row in rows],
        epochs=np.array([row["epoch"] for row in rows]),
        metrics=metrics,
        hyper_parameters=hyper_parameters,
        properties=rest,
        seed=int(seed[1]) if seed else UNKNOWN_SEED,
        split=rows[0]["split"],
        diverged=diverged,
    )


def _split_vector(vector: np.ndarray) -> OpenState:
    """Split a flat vector of the published class into tensors: by layer, weight before bias.

    Raises:
        UnreadableFileError: if no published network has this length. The class finds tensors by
            fixed module indices, so it keeps only 948 of 2,464 values of a model with dropout.
    """
    for architecture in (cnn_s(1), cnn_s(3), cnn_l(1), cnn_l(3)):
        table = architecture.layer_table()
        if table.width == len(vector):
            spans = {t.name: vector[t.offset : t.offset + t.size].reshape(t.shape) for t in table}
            return OpenState(spans, lambda leaf: leaf)  # type: ignore[arg-type, return-value]
    raise UnreadableFileError(
        f"a vector of {len(vector)} values is no whole published network: "
        "import the raw zoo, or the file with checkpoints"
    )
