"""Reads zoos as the input that an encoder declares, by one loader for training and prediction.

An encoder names its input in the attribute `reads`, and takes it with the layer table:

- "flat", also without the attribute: weights (B, D).
- "layer_sets": the tensors of its tokenizer by name, `values` (B, N, S) and the tensors that are
  equal for all models. A method `tokenizer(layer_table)` makes the tokenizer; without it the
  tokenizer is `LayerSets`.
- "windows": the same for the windows that cover a model, `values` (B, K, W, S). A method
  `windows(layer_table)` makes the `Windows`.
- "networks": a `NetworkBatch` of `zoos/networks/batched.py`, the networks themselves with their
  activation functions, to be run on inputs. Their weights are as stored, never scaled.
- "trajectories": `weights` (B, K, D), `epoch` (B, K) and `mask` (B, K) of the K checkpoints of
  every model; the mask is false behind the last checkpoint of a model.

A declaration belongs to the `forward` it stands beside: a subclass that overrides `forward` and
declares nothing reads flat weights.

Rows are scaled and cut on the device of the batch, after the copy of its flat rows.

Shape letters: B models in the batch, D length of the flat weight vector, N tokens, S values per
token, K windows or checkpoints, W tokens of a window.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ...loaders import DeviceLoader, LayerSets, ZooDataset
from ...zoos.errors import UnsuitableError
from ...zoos.format import WEIGHTS
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.batched import NetworkBatch
from ...zoos.networks.layer_table import LayerTable
from .weight_scaling import WeightScaler

READS = ("flat", "layer_sets", "windows", "networks", "trajectories")
ACTIVATION, ARCHITECTURE = "activation", "architecture"
RESIDENT_BYTES = 2**28  # on the CPU, rows up to this size are copied into memory once
Column = TypeVar("Column", np.ndarray, Tensor)
Cutter = Callable[[Tensor], Any]
Change = Callable[[Tensor, LayerTable], Tensor]
Check = Callable[[Tensor], None]


class EncoderReader:
    """Makes loaders whose batches hold the input of one encoder, under "weights".

    Attributes:
        reads: declared input, one of `READS`.
        scaler: scaling of the weights before the encoder.
    """

    def __init__(self, module: nn.Module, scaler: WeightScaler) -> None:
        """Read the declaration of an encoder.

        Args:
            module: the encoder.
            scaler: scaling of the weights before the encoder.

        Raises:
            ValueError: if the declaration is unknown, or "windows" without a method `windows`.
        """
        self.reads, self._module = declared_input(module), module
        self.scaler = WeightScaler("none", {}) if self.reads == "networks" else scaler
        self._cutters: dict[LayerTable, Cutter] = {}

    def loader(
        self,
        zoo: ZooDataset,
        batch_size: int,
        device: str | torch.device,
        *,
        columns: Sequence[str] = (),
        shuffle: bool = True,
        seed: int = 0,
        mode: str = "auto",
        rank: int = 0,
        world_size: int = 1,
        change: Change | None = None,
        check: Check | None = None,
    ) -> DeviceLoader:
        """Make a loader of a zoo.

        Args:
            zoo: rows to read; for an encoder of trajectories all checkpoints of its models.
            batch_size: rows or models per batch.
            device: device where batches are placed.
            columns: columns of a batch besides the input.
            shuffle: whether rows come in random order.
            seed: random seed of the order.
            mode: mode of the `DeviceLoader`.
            rank: number of this process, from 0.
            world_size: number of processes.
            change: function of the scaled weights and the layer table, before they are cut.
            check: function of the flat weights as stored, which raises if it rejects them.
        """
        rows, table = zoo.with_format("torch"), zoo.layer_table
        run = {ARCHITECTURE: runnable_architecture(zoo)} if self.reads == "networks" else {}
        if run:
            columns = [*dict.fromkeys([*columns, *activation_column(zoo)])]

        def prepared(weights: Tensor) -> Mapping[str, Any]:
            if check is not None:
                check(weights)
            scaled = self.scaler(weights, table)
            changed = scaled if change is None else change(scaled, table)
            return {WEIGHTS: self.cut(changed, table)} | run

        by_model = self.reads == "trajectories"
        return DeviceLoader(
            rows.trajectories() if by_model else rows,
            batch_size,
            device,
            columns=[*dict.fromkeys([*columns, "epoch"])] if by_model else columns,
            shuffle=shuffle,
            seed=seed,
            mode=mode,
            rank=rank,
            world_size=world_size,
            transform=prepared,
        )

    def given(self, batch: Mapping[str, Any]) -> Any:
        """The input of the encoder in a batch of `loader`."""
        if self.reads == "networks":
            names = batch.get(ACTIVATION)
            return network_batch(batch[ARCHITECTURE], batch[WEIGHTS], names)
        if self.reads != "trajectories":
            return batch[WEIGHTS]
        return {name: batch[name] for name in (WEIGHTS, "epoch", "mask")}

    def networks(self, weights: Tensor, zoo: ZooDataset) -> NetworkBatch:
        """The networks of all rows of a zoo with other weights, such as permuted ones.

        Args:
            weights: flat weights, (N, D).
            zoo: N rows with the architecture and the activation functions.
        """
        names = [zoo.columns[name].tolist() for name in activation_column(zoo)]
        return network_batch(runnable_architecture(zoo), weights, names[0] if names else None)

    def last(self, column: Column) -> Column:
        """The values of a batch's column that outputs belong to, (B,) of (B,) or (B, K)."""
        return column[:, -1] if self.reads == "trajectories" else column

    def cut(self, scaled: Tensor, layer_table: LayerTable) -> Any:
        """Cut scaled weights as the encoder declares.

        Args:
            scaled: scaled weights, (B, D) or (B, K, D).
            layer_table: layer table of the architecture.
        """
        if self.reads in ("flat", "networks", "trajectories"):
            return scaled
        if layer_table not in self._cutters:
            self._cutters[layer_table] = self._cutter(layer_table)
        return self._cutters[layer_table](scaled)

    def _cutter(self, layer_table: LayerTable) -> Cutter:
        module: Any = self._module
        if self.reads == "windows":
            split: Cutter = module.windows(layer_table).split
            return split
        if callable(getattr(module, "tokenizer", None)):
            tokenizer: Cutter = module.tokenizer(layer_table)
            return tokenizer
        return LayerSets(layer_table)

    def rows_of(self, zoo: ZooDataset) -> ZooDataset:
        """The rows that outputs belong to: all, or the last checkpoint of every model."""
        if self.reads != "trajectories":
            return zoo
        return zoo.select(zoo.trajectories().last_rows)


def runnable_architecture(zoo: ZooDataset) -> Architecture:
    """The architecture that the networks of a zoo run with.

    Raises:
        UnsuitableError: if the zoo holds none, or shows a part of its tensors only.
    """
    architecture = zoo.header.architecture
    if architecture is None or architecture.layer_table() != zoo.layer_table:
        raise UnsuitableError(
            f"zoo {zoo.name!r} does not hold its complete architecture, so its networks cannot be "
            "run on probes: take an encoder that reads weights, such as 'sne'"
        )
    return architecture


def activation_column(zoo: ZooDataset) -> list[str]:
    """The column with the activation functions; none where the architecture has no such layer.

    Raises:
        UnsuitableError: if the networks need it and the zoo does not show it.
    """
    if ACTIVATION not in runnable_architecture(zoo).kinds():
        return []
    if ACTIVATION not in zoo.columns:
        raise UnsuitableError(
            f"zoo {zoo.name!r} has no column {ACTIVATION!r}, and its networks cannot be run on "
            "probes without it: load the zoo with that column"
        )
    return [ACTIVATION]


def network_batch(
    architecture: Architecture, weights: Tensor, activations: Sequence[str] | None
) -> NetworkBatch:
    """Networks to run; without activations the architecture must have no such layer.

    Args:
        architecture: architecture of all networks.
        weights: flat weights, (B, D), or (2 B, D) with a permuted copy of every network behind.
        activations: activation function of each network, B names.
    """
    names = list(activations or ["relu"] * len(weights))
    return NetworkBatch(architecture, tuple(names * (len(weights) // len(names))), weights)


def declared_input(module: nn.Module) -> str:
    """The input that an encoder declares.

    Raises:
        ValueError: if it is not one of `READS`, or is "windows" without a method `windows`.
    """
    reads = _declared(module)
    name = type(module).__name__
    if reads not in READS:
        raise ValueError(f"{name}.reads must be one of {READS}, got {reads!r}")
    if reads == "windows" and not callable(getattr(module, "windows", None)):
        raise ValueError(
            f"{name} reads windows and has no method windows(layer_table): let it return "
            "weightzoo.loaders.Windows(tokenizer, length)"
        )
    return str(reads)


def training_mode(zoos: Sequence[ZooDataset], device: str | torch.device) -> str:
    """Mode of the loaders of train rows: small zoos stay in memory, others are read as needed.

    Args:
        zoos: train rows.
        device: device where batches are placed.
    """
    small = sum(zoo.source.width * 4 * len(zoo) for zoo in zoos) < RESIDENT_BYTES
    return "resident" if small and torch.device(device).type == "cpu" else "auto"


def _declared(module: nn.Module) -> Any:
    """`reads` of the module itself, or of its class if that is no older than its `forward`."""
    classes = [vars(one) for one in type(module).__mro__]
    first = next(names for names in classes if "reads" in names or "forward" in names)
    declares = "reads" in first or "reads" in vars(module)
    return module.reads if declares else READS[0]
