"""Training of one cohort on a node of a cluster, if the node gives the driver's weights."""

import os
from collections.abc import Sequence
from contextlib import chdir, nullcontext
from dataclasses import dataclass

import torch

from ...zoos.errors import BuildError
from ...zoos.networks import convolution_c
from ...zoos.networks.devices import hardware_name
from ...zoos.provenance import package_version
from ..training.cohort import CohortResult
from ..training.cohort_size import train_within_memory
from ..training.objectives import DataSet, load_data
from ..writing.partial_zoo import PartialZoo
from .job import TrainingJob, write_result


@dataclass(frozen=True)
class SharedTask:
    """Data that all tasks of a build share.

    Attributes:
        job: training job.
        zoo: unfinished zoo that the rows are written to.
        signature: text by which a node recognises the build folder.
        device: training device of every task.
        expected: fingerprint of the images, then `node_versions` of the driver.
        folder: working folder of the driver, from which relative paths are meant.
    """

    job: TrainingJob
    zoo: PartialZoo
    signature: str
    device: str
    expected: tuple[str, ...]
    folder: str

    @classmethod
    def of(cls, job: TrainingJob, zoo: PartialZoo, device: str, fingerprint: str) -> "SharedTask":
        """What the driver shares, with its own versions and working folder.

        Args:
            job: training job.
            zoo: unfinished zoo that the rows are written to; it is signed.
            device: training device of every task.
            fingerprint: fingerprint of the image set that the nodes must load.
        """
        return cls(job, zoo, zoo.sign(), device, (fingerprint, *node_versions()), os.getcwd())


def train_on_node(shared: SharedTask, cohort: Sequence[int]) -> tuple[CohortResult | None, str]:
    """Train one cohort, and write its rows if this node sees the build folder.

    Args:
        shared: data that all tasks share.
        cohort: positions of the cohort's models in the population.

    Returns:
        Its rows, or None if they are written, and the name of the device.
    """
    with chdir(shared.folder) if os.path.isdir(shared.folder) else nullcontext():
        return _train_here(shared, cohort)


def node_versions() -> tuple[str, ...]:
    """What must be equal on all nodes: weightzoo, torch, and whether convolutions are compiled."""
    compiled = "no" if convolution_c.library() is None else "yes"  # it rounds differently
    return package_version(), torch.__version__, compiled


def _train_here(shared: SharedTask, cohort: Sequence[int]) -> tuple[CohortResult | None, str]:
    job, zoo, device = shared.job, shared.zoo, shared.device
    name = hardware_name(device)
    here = zoo.signature() == shared.signature
    if here and zoo.holds(cohort):
        return None, name  # an earlier worker was lost after it had written
    image_set = load_data(job.recipe.images)
    _check_node(image_set, shared.expected)
    torch.set_num_threads(1)
    result = train_within_memory(lambda part: job.train(part, image_set, device), cohort)
    if not here:
        return result, name
    write_result(zoo, cohort, result)
    return None, name


def _check_node(image_set: DataSet, expected: tuple[str, ...]) -> None:
    """Reject a node whose versions or images would give other weights."""
    found = (image_set.fingerprint, *node_versions())
    names = ("images", "weightzoo", "torch", "compiled convolution")
    for what, here, there in zip(names, found, expected, strict=True):
        if here != there:
            raise BuildError(f"a node differs from the driver in {what}: {here!r}, not {there!r}")
