"""Trains cohorts as tasks on a Ray cluster, one CPU or GPU each.

A task writes its cohort's rows itself into the planned files if it sees the build folder (a disk
shared by all nodes under one path). Otherwise it sends them to the driver, which writes them.
The position of every row is fixed before training starts, and its values are a function of recipe
and seed. A cohort that runs again after its worker was lost overwrites its own rows with the same
bytes: no row is lost or doubled, and the files equal those of the process engine.
"""

import importlib.util
import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from ...zoos.errors import BuildError
from ..training.cohort import CohortResult
from ..writing.partial_zoo import PartialZoo
from .cluster_node import SharedTask, train_on_node
from .job import TrainingJob, write_result
from .worker_processes import ALLOCATOR

RUNS_AGAIN = 5  # repetitions of a cohort whose worker or node was lost
WAITING = 2  # cohorts submitted to Ray per core, so that results do not fill its memory


def run_on_ray(
    job: TrainingJob,
    zoo: PartialZoo,
    cohorts: Sequence[Sequence[int]],
    *,
    fingerprint: str,
    device: str,
    workers: int | None,
    address: str | None,
    bar: Any,
) -> str:
    """Train all cohorts on a cluster.

    Every node needs the same versions of weightzoo and torch, a C compiler if the driver has one,
    and access to the images (and to a parent zoo, under the same path). Relative paths are meant
    from the working folder of the driver, also in tasks. The build folder need not be shared, see
    above. Processors of different kinds may round differently.

    Args:
        job: training job.
        zoo: unfinished zoo that the rows are written to.
        cohorts: positions of the models that are trained in step, by cohort.
        fingerprint: fingerprint of the image set that the nodes must load.
        device: training device, "cpu", or "cuda" for one GPU per task.
        workers: CPUs of a cluster that is started here; None takes all cores.
        address: address of a running cluster; None takes RAY_ADDRESS, or starts a cluster.
        bar: progress bar that counts model-epochs.

    Returns:
        Names of the devices that trained.

    Raises:
        BuildError: if Ray is not installed or there is no cluster, a task failed, or a node
            differs in versions or images.
    """
    if importlib.util.find_spec("ray") is None:
        raise BuildError("the engine 'ray' needs Ray: pip install 'weightzoo[ray]'")
    devices: set[str] = set()
    with _cluster(address, workers) as ray:
        options = {
            "max_retries": RUNS_AGAIN,
            "num_cpus": 1,
            "num_gpus": 0 if device == "cpu" else 1,
            "runtime_env": {"env_vars": ALLOCATOR},
        }
        task = ray.remote(**options)(train_on_node)
        shared = ray.put(SharedTask.of(job, zoo, device, fingerprint))
        with closing(_results(ray, task, shared, cohorts)) as results:
            for cohort, (result, name) in results:
                if result is not None:
                    write_result(zoo, cohort, result)
                devices.add(name)
                bar.update(len(cohort) * job.recipe.epochs)
    return ", ".join(sorted(devices)) or device


def _results(
    ray: Any, task: Any, shared: Any, cohorts: Sequence[Sequence[int]]
) -> Generator[tuple[Sequence[int], tuple[CohortResult | None, str]], None, None]:
    """(cohort, outcome of its task), as tasks end; a limited number runs at a time."""
    waiting, running = list(reversed(cohorts)), dict[Any, Sequence[int]]()
    try:
        while waiting or running:
            room = max(2, WAITING * int(ray.cluster_resources().get("CPU", 1))) - len(running)
            for _ in range(min(room, len(waiting))):
                cohort = waiting.pop()
                running[task.remote(shared, cohort)] = cohort
            ended, _ = ray.wait(
                list(running), timeout=5.0
            )  # new nodes get cohorts after at most 5 s
            for reference in ended:
                yield running.pop(reference), _outcome(ray, reference)
    finally:
        for reference in running:  # after an error or Ctrl-C they would go on writing
            ray.cancel(reference, force=True)


def _outcome(ray: Any, reference: Any) -> tuple[CohortResult | None, str]:
    try:
        outcome: tuple[CohortResult | None, str] = ray.get(reference)
        return outcome
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        raise BuildError(
            f"a Ray task failed: {cause!r}; finished models are kept, run the same command to go on"
        ) from error


@contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[Any]:
    """A connected Ray; a cluster that was started here ends with the build."""
    import ray

    if ray.is_initialized():  # by the caller, who also ends it
        yield ray
        return
    options: dict[str, Any] = {"address": address} if address else {"num_cpus": workers}
    try:
        ray.init(
            include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False, **options
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address!r}" if address else "Ray on this machine"
        raise BuildError(f"cannot reach {where}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
