"""One tensor of all members as float32: block by block, or whole.

Shape letters: P members and, last, the base if there is one; n values of a block.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ...loaders.collections import Member, ModelCollection
from ...zoos.errors import MergeError
from ...zoos.tensors.lazy import TensorType

BLOCK_VALUES = 2**18  # 1 MB of float32: members, base and result of a block stay in the cache


Result = TypeVar("Result")


class TensorReader:
    """Reads one tensor of a collection.

    Blocks are always cut at the same places, so what depends on their order, such as random
    masks, does not depend on how a tensor is read.

    Attributes:
        name: name of the tensor.
        type: type and shape in the first member.
    """

    def __init__(self, collection: ModelCollection, name: str, kind: TensorType) -> None:
        """Prepare to read; nothing is read yet.

        Args:
            collection: members to merge, and their base.
            name: tensor name.
            kind: type and shape of the tensor.
        """
        self.collection, self.name, self.type = collection, name, kind
        self._local = threading.local()

    @property
    def dtype(self) -> torch.dtype:
        """What is computed with: float64 if a member is, else float32."""
        kinds = {member.tensors[self.name].dtype for member in self.collection.everyone}
        return torch.float64 if "float64" in kinds else torch.float32

    def map_blocks(self, job: Callable[[int, Tensor], Result]) -> list[Result]:
        """Run a job on every block, in several threads.

        Args:
            job: takes the start and the values (P, n) of a block, whose memory is used again.

        Returns:
            What the jobs returned, in the order of the blocks.
        """

        def read_and_run(start: int) -> Result:
            stop = min(start + BLOCK_VALUES, self.type.size)
            values = self._memory("values")[:, : stop - start]
            for row, member in zip(values, self.collection.everyone, strict=True):
                row.copy_(self._raw(member, start, stop))
                self._check(member, row)
            return job(start, values)

        return self._in_threads(read_and_run, range(0, self.type.size, BLOCK_VALUES))

    def weighted_sums(self, weights: Sequence[float], write: Callable[[int, Tensor], None]) -> None:
        """Write the weighted sum of members and base, block by block.

        Sums are taken straight from the members' own types, which saves a pass over each.

        Args:
            weights: weights of the members, (P,).
            write: receives the start of each block and its values.
        """
        used = [(m, w) for m, w in zip(self.collection.everyone, weights, strict=True) if w] or [
            (self.collection.members[0], 0.0)
        ]

        def add_up(start: int) -> None:
            stop = min(start + BLOCK_VALUES, self.type.size)
            total = self._memory("values")[0, : stop - start]
            for place, (member, weight) in enumerate(used):
                raw = self._raw(member, start, stop)
                total.copy_(raw).mul_(weight) if place == 0 else total.add_(raw, alpha=weight)
            if not total.sum().isfinite():
                for member, _ in used:
                    self._check(member, self._raw(member, start, stop))
            write(start, total)

        self._in_threads(add_up, range(0, self.type.size, BLOCK_VALUES))

    def of_members(self, job: Callable[[int], Result]) -> list[Result]:
        """Run a job for every member, in several threads."""
        return self._in_threads(job, range(len(self.collection.members)))

    def task_vector_blocks(self, member: int) -> Iterator[Tensor]:
        """Blocks of a member minus the base, float32; the memory is used again."""
        base, one = self.collection.base, self.collection.members[member]
        assert base is not None
        for start in range(0, self.type.size, BLOCK_VALUES):
            stop = min(start + BLOCK_VALUES, self.type.size)
            tau = self._memory("values")[0, : stop - start]
            tau.copy_(self._raw(one, start, stop))
            tau.sub_(self._raw(base, start, stop))
            self._check(one, tau)
            yield tau.float()

    def whole(self) -> Tensor:
        """(P, *shape)."""
        parts = [member.read(self.name).to(self.dtype) for member in self.collection.everyone]
        for member, part in zip(self.collection.everyone, parts, strict=True):
            self._check(member, part)
        return torch.stack(parts)

    def gram(self, of_task_vectors: bool) -> Tensor:
        """(M, M): inner products of the members, or of their task vectors, float64."""
        members = len(self.collection.members)

        def products(start: int, values_Pn: Tensor) -> Tensor:
            rows = values_Pn[:members]
            rows = (rows - values_Pn[-1] if of_task_vectors else rows).double()
            return rows @ rows.T

        total = torch.zeros(members, members, dtype=torch.float64)
        for part in self.map_blocks(products):
            total += part
        return total

    def _in_threads(self, job: Callable[[int], Result], items: range) -> list[Result]:
        """Run jobs in threads, as many as torch would take; each has its own memory."""
        workers = min(torch.get_num_threads(), len(items))
        if workers < 2:
            return [job(item) for item in items]
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                return list(pool.map(job, items))
            finally:
                torch.set_num_threads(workers)

    def _raw(self, member: Member, start: int, stop: int) -> Tensor:
        """Values of a member in its own type; the memory is used again."""
        return member.block(self.name, start, stop, self._memory(member.tensors[self.name].dtype))

    def _memory(self, name: str) -> Tensor:
        """Memory of this thread: "values" for all members, or a type for one."""
        own = self._local.__dict__
        if name not in own:
            size = min(BLOCK_VALUES, self.type.size)
            rows = len(self.collection.everyone)
            own[name] = (
                torch.empty(rows, size, dtype=self.dtype)
                if name == "values"
                else torch.empty(size, dtype=getattr(torch, name))
            )
        memory: Tensor = own[name]
        return memory

    def _check(self, member: Member, values: Tensor) -> None:
        """Refuse NaN and infinity: sign votes and thresholds would hide them."""
        if not values.sum().isfinite() and not values.isfinite().all():
            raise MergeError(
                f"{self.name!r} of {member.name} holds NaN or infinity: leave this member out"
            )
