"""Batches of several zoos in turn, each of one architecture."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from .device import DeviceBatch, DeviceLoader
from .order import Progress, epoch_order


class MixedLoader(Progress):
    """Batches of several loaders in random turn; every batch is of one architecture.

    In an epoch every loader gives all of its batches. Whose turn it is depends on seed and epoch
    alone; ranks make the same number of batches of each, so that all take a step on the same
    architecture at the same time. Every pass takes the next epoch of all loaders.

    Attributes:
        loaders: by name, such as that of their zoo.
        seed: of the turns.
    """

    def __init__(self, loaders: Mapping[str, DeviceLoader], seed: int = 0) -> None:
        """Mix loaders; from now on they are iterated over through this one only.

        Raises:
            ValueError: if there is no loader.
        """
        super().__init__()
        if not loaders:
            raise ValueError("MixedLoader needs at least one loader, got none")
        self.loaders, self.seed = dict(loaders), seed

    def __len__(self) -> int:
        """Batches of all loaders in an epoch."""
        return sum(len(loader) for loader in self.loaders.values())

    def turns(self, epoch: int) -> list[str]:
        """The name of the loader of every batch of an epoch."""
        names = np.repeat(list(self.loaders), [len(loader) for loader in self.loaders.values()])
        return names[epoch_order(len(names), self.seed, epoch)].tolist()

    def __iter__(self) -> Iterator[tuple[str, DeviceBatch]]:
        """Name and batch, the remaining ones of the epoch that comes next."""
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
        """Where the pass is, of all loaders."""
        states = {name: loader.state_dict() for name, loader in self.loaders.items()}
        progress = {"epoch": self.epoch, "batches_done": self.batches_done, "seed": self.seed}
        return progress | {"loaders": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass go on with the batch after the last one handed out.

        Raises:
            ValueError: if the state is of other loaders or another seed.
        """
        if set(state["loaders"]) != set(self.loaders) or state["seed"] != self.seed:
            raise ValueError(
                f"the state is of loaders {sorted(state['loaders'])} and seed {state['seed']}, "
                f"these are {sorted(self.loaders)} and seed {self.seed}"
            )
        for name, loader in self.loaders.items():
            loader.load_state_dict(state["loaders"][name])
        self.resume(state["epoch"], state["batches_done"], len(self))
