"""Readers of a zoo file's rows that do not use this package.

Shape letters: N rows, D length of the flat weight vector.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from weightzoo.zoos.format import WEIGHTS, ZooFile

MOST_MODELS = 5_000  # kept as objects or files of their own: more take minutes to write
MOST_BYTES = 2**31


def model_count(file: ZooFile) -> int:
    """Rows that peers with one object or file per model hold: fewer than N if N is large."""
    return min(file.rows, MOST_MODELS, MOST_BYTES // (4 * file.width))


def stock_dataset(folder: Path, file: ZooFile, every_column: bool) -> Any:
    """The file through `load_dataset`, memory-mapped Arrow in torch format.

    Args:
        folder: folder for the cache.
        file: zoo file.
        every_column: whether to read all columns or the weights alone.
    """
    import datasets

    options: dict[str, Any] = {"cache_dir": str(folder / "cache"), "split": "train"}
    if file.rows * file.width >= 2**31:  # Arrow's limit for one batch
        options["batch_size"] = max(1, 2**28 // file.width)
    stock = datasets.load_dataset("hdf5", data_files=str(file.path), **options)
    return (stock if every_column else stock.select_columns([WEIGHTS])).with_format("torch")


def stock_stream(file: ZooFile, every_column: bool) -> Any:
    """The file through `load_dataset(streaming=True)`, whole batches as numpy, in file order.

    Args:
        file: zoo file.
        every_column: whether to read all columns or the weights alone.
    """
    import datasets

    options: dict[str, Any] = {"split": "train", "streaming": True}
    options["batch_size"] = max(1, 2**26 // (4 * file.width))
    stream = datasets.load_dataset("hdf5", data_files=str(file.path), **options)
    return (stream if every_column else stream.select_columns([WEIGHTS])).with_format("numpy")


class H5pyRows(Dataset[dict[str, Any]]):
    """The simplest reader: an open h5py file, one read per value."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        """Open the file and its datasets.

        Args:
            path: zoo file.
            columns: names of the columns to read.
        """
        file = h5py.File(path, "r")
        text = {name for name in columns if h5py.check_string_dtype(file[name].dtype)}
        self._columns = {n: file[n].asstr() if n in text else file[n] for n in columns}
        self._weights = file[WEIGHTS]

    def __len__(self) -> int:
        """Number of rows N."""
        return len(self._weights)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row."""
        row = {name: column[index] for name, column in self._columns.items()}
        return row | {WEIGHTS: torch.from_numpy(self._weights[index])}


class StateDicts(Dataset[dict[str, Any]]):
    """The list of state dicts that `torch.load` gives, flattened on access."""

    def __init__(self, folder: Path, file: ZooFile, every_column: bool) -> None:
        """Save the first rows as such a list unless it exists, and load it.

        Args:
            folder: folder for the files.
            file: zoo file whose rows are copied.
            every_column: whether to keep all columns or the weights alone.
        """
        path = folder / "models.pt"
        if not path.exists():
            torch.save(list(_models(file)), path)
        self._models = torch.load(path)
        self._every_column = every_column

    def __len__(self) -> int:
        """Number of models."""
        return len(self._models)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One model."""
        model = self._models[index]
        flat = torch.cat([tensor.flatten() for tensor in model["state_dict"].values()])
        return (model["properties"] if self._every_column else {}) | {WEIGHTS: flat}


class SafetensorsFiles(Dataset[dict[str, Any]]):
    """One safetensors file per model, flattened on access; properties in a list."""

    def __init__(self, folder: Path, file: ZooFile, every_column: bool) -> None:
        """Write the files unless they exist.

        Args:
            folder: folder for the files.
            file: zoo file whose rows are copied.
            every_column: whether to keep all columns or the weights alone.
        """
        from safetensors.torch import save_file

        self._folder = folder / "safetensors"
        self._properties: list[dict[str, Any]] = []
        write = not self._folder.exists()
        self._folder.mkdir(exist_ok=True)
        for index, model in enumerate(_models(file)):
            self._properties.append(model["properties"] if every_column else {})
            if write:
                save_file(model["state_dict"], self._folder / f"{index}.safetensors")

    def __len__(self) -> int:
        """Number of models."""
        return len(self._properties)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One model."""
        from safetensors.torch import load_file

        tensors = load_file(self._folder / f"{index}.safetensors")
        flat = torch.cat([tensors[name].flatten() for name in sorted(tensors)])
        return self._properties[index] | {WEIGHTS: flat}


class WebShards:
    """Tar shards of webdataset, one .npy and one .json file per model."""

    installed = find_spec("webdataset") is not None

    def __init__(self, folder: Path, file: ZooFile, every_column: bool) -> None:
        """Write the shards unless they exist.

        Args:
            folder: folder for the files.
            file: zoo file whose rows are copied.
            every_column: whether to keep all columns or the weights alone.
        """
        import webdataset

        self._folder, self._every_column = folder / "webdataset", every_column
        if self._folder.exists():
            return
        self._folder.mkdir()
        pattern = str(self._folder / "train-%05d.tar")
        with webdataset.ShardWriter(pattern, maxsize=2**28, verbose=0) as writer:
            for index, model in enumerate(_models(file)):
                flat = torch.cat([tensor.flatten() for tensor in model["state_dict"].values()])
                row = {"weights.npy": flat.numpy(), "columns.json": model["properties"]}
                writer.write({"__key__": f"{index:06d}"} | row)

    def rows(self, shuffled: int = 0) -> Any:
        """A pass over the models, with shards and `shuffled` models at a time in random order."""
        import webdataset

        urls = sorted(map(str, self._folder.iterdir()))
        order = len(urls) if shuffled else False
        stream = webdataset.WebDataset(urls, shardshuffle=order, seed=0)
        return stream.shuffle(shuffled).decode().map(self._row)

    def batches(self, batch: int) -> Iterator[Any]:
        """Endless batches, shuffled within 1,000 models."""
        stream = self.rows(1000).batched(batch, collation_fn=default_collate, partial=False)
        while True:
            yield from stream

    def _row(self, sample: dict[str, Any]) -> dict[str, Any]:
        columns = sample["columns.json"] if self._every_column else {}
        return columns | {WEIGHTS: torch.from_numpy(sample["weights.npy"])}


def _models(file: ZooFile) -> Any:
    """Properties and state dict of the first rows; names sort in the order of the layer table."""
    count, table = model_count(file), file.header.layer_table
    columns = {name: column[:count].tolist() for name, column in file.read_columns().items()}
    order = {tensor.name: f"{index:03d}.{tensor.name}" for index, tensor in enumerate(table)}
    for index in range(count):
        tensors = table.split(torch.from_numpy(np.array(file.map_weights()[index])))
        state = {order[name]: tensor.clone() for name, tensor in tensors.items()}
        properties = {name: column[index] for name, column in columns.items()}
        yield {"state_dict": state, "properties": properties}
