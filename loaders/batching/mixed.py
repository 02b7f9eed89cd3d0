"""`MixedLoader`: batches of several zoos in random turn, each batch of one architecture."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from .device import DeviceBatch, DeviceLoader
from .order import Progress, epoch_order


class MixedLoader(Progress):
    """Batches of several loaders in random turn; every batch is of one architecture.

    In an epoch every loader delivers all of its batches. The order of turns depends on seed and
    epoch alone. Every rank makes the same number of batches of each loader, so all ranks take a
    step on the same architecture at the same time. Each iteration takes the next epoch of all
    loaders.

    Attributes:
        loaders: loaders by name, for example the name of their zoo.
        seed: random seed of the turns.

    Example:
        >>> from weightzoo import DeviceLoader, load_zoo
        >>> from weightzoo.loaders import MixedLoader
        >>> zoo = load_zoo(ZOO)
        >>> loaders = {name: DeviceLoader(zoo[name], batch_size=3) for name in ("train", "val")}
        >>> sorted((name, len(batch["weights"])) for name, batch in MixedLoader(loaders))
        [('train', 3), ('train', 3), ('val', 3)]
    """

    def __init__(self, loaders: Mapping[str, DeviceLoader], seed: int = 0) -> None:
        """Combine loaders, which must not be iterated over by themselves from now on.

        Args:
            loaders: loaders by name, for example the name of their zoo.
            seed: random seed of the turns.

        Raises:
            TypeError: if `loaders` is no mapping of `DeviceLoader`s.
            ValueError: if there is no loader.
        """
        super().__init__()
        if not isinstance(loaders, Mapping):
            raise TypeError(
                "MixedLoader takes a dict of loaders, such as {'mlps': DeviceLoader(...)}, got "
                f"{type(loaders).__name__}"
            )
        for name, loader in loaders.items():
            if not isinstance(loader, DeviceLoader):
                raise TypeError(
                    f"MixedLoader takes DeviceLoaders by name, got {type(loader).__name__} under "
                    f"{name!r}: write DeviceLoader(zoo['train'], batch_size)"
                )
        if not loaders:
            raise ValueError("MixedLoader needs at least one loader, got none")
        self.loaders, self.seed = dict(loaders), seed

    def __len__(self) -> int:
        """Number of batches of all loaders in an epoch."""
        return sum(len(loader) for loader in self.loaders.values())

    def turns(self, epoch: int) -> list[str]:
        """Name of the loader of every batch of an epoch."""
        names = np.repeat(list(self.loaders), [len(loader) for loader in self.loaders.values()])
        return names[epoch_order(len(names), self.seed, epoch)].tolist()

    def __iter__(self) -> Iterator[tuple[str, DeviceBatch]]:
        """Iterate over the remaining batches of the next epoch, as (loader name, batch)."""
        epoch, first = self.start()
        if first == 0:
            for loader in self.loaders.values():
                loader.set_epoch(epoch)
        with ExitStack() as stack:
            passes: dict[str, Generator[DeviceBatch, None, None]] = {}
            for done, name in enumerate(self.turns(epoch)[first:], first + 1):
                if name not in passes:
                    passes[name] = self.loaders[name].__iter__()
                    stack.enter_context(closing(passes[name]))
                batch = next(passes[name])
                self.advance(epoch, done)
                yield name, batch
                del batch

    def state_dict(self) -> dict[str, Any]:
        """Current epoch, number of delivered batches and the states of all loaders."""
        states = {name: loader.state_dict() for name, loader in self.loaders.items()}
        progress = {"epoch": self.epoch, "batches_done": self.batches_done, "seed": self.seed}
        return progress | {"loaders": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the next iteration behind the last delivered batch.

        Raises:
            ValueError: if the state was saved with other loaders or another seed.
        """
        if set(state["loaders"]) != set(self.loaders) or state["seed"] != self.seed:
            raise ValueError(
                f"the state was saved with loaders {sorted(state['loaders'])} and seed "
                f"{state['seed']}, this MixedLoader has {sorted(self.loaders)} and seed {self.seed}"
            )
        for name, loader in self.loaders.items():
            loader.load_state_dict(state["loaders"][name])
        self.resume(state["epoch"], state["batches_done"], len(self))
