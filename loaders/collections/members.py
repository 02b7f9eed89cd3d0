"""Members of a collection: a checkpoint folder, an adapter with its base, a row of a zoo.

All have the same interface: type and shape of every tensor by name, and values of one tensor.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...zoos.errors import MergeError
from ...zoos.tensors.adapters import LoraAdapter
from ...zoos.tensors.checkpoint_folder import CheckpointFolder
from ...zoos.tensors.lazy import TensorType
from ..dataset.zoo_dataset import ZooDataset


class Member(ABC):
    """One model of a collection.

    Attributes:
        name: name for messages, reports and lineage.
        tensors: type and shape of every tensor, by name.
        architecture: name of the architecture; None if it is unknown.
        tokenizer: digest of the tokenizer; None without one.
        vocabulary: number of tokens that the config names; None if there is none.
        tied: whether the output head shares the token embedding; None if unsaid.

    Example:
        >>> import torch
        >>> from weightzoo.loaders.collections import Member, ModelCollection
        >>> from weightzoo.zoos.tensors.lazy import TensorType
        >>> class Ones(Member):
        ...     name, tensors = "ones", {"up.weight": TensorType("float32", (2, 3))}
        ...     def read(self, name):
        ...         return torch.ones(self.tensors[name].shape)
        >>> ModelCollection([Ones()]).read("up.weight")[0].shape
        torch.Size([2, 3])
    """

    name: str
    tensors: Mapping[str, TensorType]
    architecture: str | None = None
    tokenizer: str | None = None
    vocabulary: int | None = None
    tied: bool | None = None

    @abstractmethod
    def read(self, name: str) -> Tensor:
        """A whole tensor, in its own type and shape."""

    def block(self, name: str, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Some values of a flattened tensor, in its own type.

        Args:
            name: tensor name.
            start: first value of the block.
            stop: end of the block, exclusive.
            out: buffer to write to, at least as long; None allocates one.

        Returns:
            (stop - start,).
        """
        values = self.read(name).flatten()[start:stop]
        return values if out is None else out[: stop - start].copy_(values)

    def columns(self, name: str, chosen: Tensor) -> Tensor:
        """Some columns (O, c) of a tensor as a matrix of its outputs O and all else.

        Args:
            name: tensor name.
            chosen: column numbers, (c,).
        """
        return self.read(name).flatten(1)[:, chosen]


class FolderMember(Member):
    """A checkpoint folder or file.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> from weightzoo.loaders.collections import FolderMember
        >>> from weightzoo.zoos.tensors.checkpoint_folder import open_checkpoint_folder
        >>> folder = tempfile.mkdtemp()
        >>> save_file({"up.weight": torch.arange(6.0).view(2, 3)}, folder + "/model.safetensors")
        >>> member = FolderMember(open_checkpoint_folder(folder))
        >>> member.tensors["up.weight"].shape, member.block("up.weight", 2, 4).tolist()
        ((2, 3), [2.0, 3.0])
    """

    def __init__(self, folder: CheckpointFolder) -> None:
        """Take over an open folder."""
        self.folder = folder
        self.name = folder.name
        self.tensors = folder.tensors
        self.tokenizer, self.tied = folder.tokenizer, folder.tied
        self.vocabulary = folder.vocabulary
        names = folder.config.get("architectures")
        if isinstance(names, list) and names:
            self.architecture = "+".join(map(str, names))

    def read(self, name: str) -> Tensor:
        """A whole tensor, in its own type and shape."""
        return self.folder.read(name)

    def block(self, name: str, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Some values of a flattened tensor; only their bytes are read.

        Args:
            name: tensor name.
            start: first value of the block.
            stop: end of the block, exclusive.
            out: buffer to write to, at least as long; None allocates one.
        """
        return self.folder.block(name, start, stop, out)

    def columns(self, name: str, chosen: Tensor) -> Tensor:
        """Some columns of a matrix; of a local file only their pages are read, else all bytes.

        Args:
            name: tensor name.
            chosen: column numbers, (c,).
        """
        values = self.read(name) if self.folder.address else self.folder.mapped(name)
        return values.flatten(1)[:, chosen]


class AdapterMember(Member):
    """A LoRA adapter applied to its base: what `merge_and_unload` of PEFT computes.

    Example:
        >>> import json, tempfile, torch
        >>> from pathlib import Path
        >>> from safetensors.torch import save_file
        >>> from weightzoo.loaders.collections import open_collection
        >>> base, adapter = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
        >>> save_file({"up.weight": torch.ones(2, 3)}, base / "model.safetensors")
        >>> prefix, factors = "base_model.model.up.lora", (torch.ones(1, 3), torch.ones(2, 1))
        >>> tensors = {f"{prefix}_A.weight": factors[0], f"{prefix}_B.weight": factors[1]}
        >>> save_file(tensors, adapter / "adapter_model.safetensors")
        >>> config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2}
        >>> _ = (adapter / "adapter_config.json").write_text(json.dumps(config))
        >>> member = open_collection([adapter], base).members[0]
        >>> type(member).__name__, member.read("up.weight").tolist()
        ('AdapterMember', [[3.0, 3.0, 3.0], [3.0, 3.0, 3.0]])
    """

    def __init__(self, adapter: LoraAdapter, base: FolderMember) -> None:
        """Join both.

        Args:
            adapter: LoRA adapter.
            base: folder of the model that the adapter changes.

        Raises:
            MergeError: if the adapter changes a tensor that the base does not have.
        """
        self.adapter, self.base = adapter, base
        self.name, self.architecture = str(adapter.path), base.architecture
        self.tokenizer, self.vocabulary = base.tokenizer, base.vocabulary
        self.tied, self.tensors = base.tied, base.tensors
        self._last = ("", torch.empty(0))  # the tensor whose blocks are being read
        for name in (*adapter.factors, *adapter.replaced):
            if name not in base.tensors:
                raise MergeError(
                    f"adapter {self.name} changes {name!r}, which its base {base.name} does not "
                    "have: give the base it was trained on"
                )
            self._check_shape(name)

    def read(self, name: str) -> Tensor:
        """A whole tensor, in the base's type and shape."""
        kind = self.tensors[name].torch_dtype
        if name in self.adapter.replaced:
            return self.adapter.file.read(self.adapter.replaced[name]).to(kind)
        values = self.base.read(name)
        if name not in self.adapter.factors:
            return values
        return (values.float() + self.adapter.delta(name)).to(kind)

    def block(self, name: str, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Some values of a flattened tensor; one that the adapter changes is computed once.

        Args:
            name: tensor name.
            start: first value of the block.
            stop: end of the block, exclusive.
            out: buffer to write to, at least as long; None allocates one.
        """
        if name not in self.adapter.factors and name not in self.adapter.replaced:
            return self.base.block(name, start, stop, out)
        if self._last[0] != name:  # blocks of one tensor follow one another
            self._last = (name, self.read(name).flatten())
        part = self._last[1][start:stop]
        return part if out is None else out[: stop - start].copy_(part)

    def _check_shape(self, name: str) -> None:
        wanted, file = self.base.tensors[name].shape, self.adapter.file
        if name in self.adapter.replaced:
            given = file.tensors[self.adapter.replaced[name]].type.shape
        else:
            a, b = (file.tensors[factor].type.shape for factor in self.adapter.factors[name])
            given = (a[1], b[0]) if self.adapter.transposed else (b[0], a[1])
        if given != wanted:
            raise MergeError(
                f"adapter {self.name} changes {name!r} of shape {wanted} by {given}: give the "
                "base it was trained on"
            )


class ZooMember(Member):
    """One row of a zoo.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders.collections import ZooMember
        >>> member = ZooMember(load_zoo(ZOO, split="train"), 2)
        >>> member.name, member.architecture, len(member.tensors)
        ('tiny:0@2', 'tiny-cnn', 6)
    """

    def __init__(self, zoo: ZooDataset, index: int) -> None:
        """Take a row.

        Args:
            zoo: the dataset.
            index: index of the row in the dataset.
        """
        self.zoo, self.index = zoo, index
        self.row = zoo.rows[index : index + 1]
        column = {name: zoo.hidden_column(name, "a collection")[index] for name in _IDENTITY}
        self.model_id, self.epoch = int(column["model_id"]), int(column["epoch"])
        self.name = f"{zoo.name}:{self.model_id}@{self.epoch}"
        self._specs = {spec.name: spec for spec in zoo.layer_table}
        self.tensors = {
            spec.name: TensorType(spec.dtype, spec.shape) for spec in self._specs.values()
        }
        if zoo.header.architecture is not None:
            self.architecture = zoo.header.architecture.name

    def read(self, name: str) -> Tensor:
        """A whole tensor, in its own type and shape."""
        kind = self.tensors[name]
        return self.block(name, 0, kind.size).view(kind.shape)

    def block(self, name: str, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Some values of a flattened tensor; only their bytes are read.

        Args:
            name: tensor name.
            start: first value of the block.
            stop: end of the block, exclusive.
            out: buffer to write to, at least as long; None allocates one.
        """
        spec = self._specs[name]
        if start == stop:
            return torch.empty(0, dtype=self.tensors[name].torch_dtype)
        part = self.zoo.source.part(spec.offset + start, spec.offset + stop)
        values = torch.from_numpy(np.array(part.take(self.row)[0])).to(
            self.tensors[name].torch_dtype
        )
        return values if out is None else out[: stop - start].copy_(values)


_IDENTITY = ("model_id", "epoch")
