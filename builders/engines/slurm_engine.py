"""Trains cohorts as tasks of a Slurm job array, through submitit.

Each task trains one cohort and writes its rows into the build folder, which all nodes must see
under one path. A task that Slurm preempts or stops at its time limit is queued again by submitit; a
task that is lost otherwise is submitted again here. A cohort that runs twice writes the same bytes
to the same rows, so that no row is lost or doubled. The zoo is finished by the driver when all rows
are written. If the driver is stopped, its tasks are cancelled, and the same command goes on.
"""

import importlib.util
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...zoos.errors import BuildError
from ..writing.partial_zoo import PartialZoo
from .cluster_node import SharedTask, train_on_node
from .job import TrainingJob

RUNS_AGAIN = 5  # repetitions of cohorts whose tasks were lost
POLL_SECONDS = 0.5  # longest wait between two looks at the tasks, grows to SLOW_POLL_SECONDS
SLOW_POLL_SECONDS = 20.0
LOG_FOLDER = "scratch/slurm"  # in the build folder
TIMEOUT_MINUTES = 24 * 60
_CLUSTERS = ("slurm", "local")


class CohortTask:
    """A task of submitit: trains a cohort, and is queued again as it is when it is preempted."""

    def __call__(self, shared: SharedTask, cohort: Sequence[int]) -> str:
        """Train the cohort and write its rows.

        Args:
            shared: data that all tasks share.
            cohort: positions of the cohort's models in the population.

        Returns:
            Name of the device.

        Raises:
            BuildError: if the node does not see the build folder, or differs from the driver.
        """
        if shared.zoo.signature() != shared.signature:
            raise BuildError(
                f"a node does not see {shared.zoo.folder}: choose an --out on a disk that all "
                "nodes share under one path"
            )
        return train_on_node(shared, cohort)[1]

    def checkpoint(self, shared: SharedTask, cohort: Sequence[int]) -> Any:
        """What submitit queues again: the same task, which starts its cohort anew.

        Args:
            shared: data that all tasks share.
            cohort: positions of the cohort's models in the population.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, shared, cohort)


def run_on_slurm(
    job: TrainingJob,
    zoo: PartialZoo,
    cohorts: Sequence[Sequence[int]],
    *,
    fingerprint: str,
    device: str,
    workers: int | None,
    options: Mapping[str, Any],
    bar: Any,
) -> str:
    """Train all cohorts as a job array, and wait for them.

    Args:
        job: training job.
        zoo: unfinished zoo that the rows are written to, on a disk that all nodes see.
        cohorts: positions of the models that are trained in step, by cohort.
        fingerprint: fingerprint of the image set that the nodes must load.
        device: training device, "cpu", or "cuda" for one GPU per task.
        workers: number of tasks that run at once; None leaves it to Slurm.
        options: parameters of submitit's executor, such as `slurm_partition` or `timeout_min`, and
            `cluster`: "slurm", or "local" for processes of this machine.
        bar: progress bar that counts model-epochs.

    Returns:
        Names of the devices that trained.

    Raises:
        BuildError: if submitit is not installed, Slurm is not there, an option is unknown, a task
            failed, or cohorts were lost `RUNS_AGAIN` times.
    """
    if importlib.util.find_spec("submitit") is None:
        raise BuildError("the engine 'slurm' needs submitit: pip install 'weightzoo[slurm]'")
    executor = _executor(zoo, device, workers, options)
    shared = SharedTask.of(job, zoo, device, fingerprint)
    devices: set[str] = set()
    for _ in range(RUNS_AGAIN + 1):
        left = [cohort for cohort in cohorts if not zoo.holds(cohort)]
        if not left:
            return ", ".join(sorted(devices)) or device
        running = executor.map_array(CohortTask(), [shared] * len(left), left)
        try:
            _wait(dict(zip(running, left, strict=True)), job, devices, bar)
        finally:
            for task in running:  # after an error or Ctrl-C they would go on writing
                if not task.done():
                    with suppress(Exception):
                        task.cancel()
    raise BuildError(
        f"tasks of {len(left)} cohorts were lost {RUNS_AGAIN + 1} times, see the logs in "
        f"{zoo.folder / LOG_FOLDER}; finished models are kept, run the same command to go on"
    )


def _executor(zoo: PartialZoo, device: str, workers: int | None, options: Mapping[str, Any]) -> Any:
    import submitit

    given = dict(options)
    cluster = given.pop("cluster", "slurm")
    if cluster not in _CLUSTERS:
        raise BuildError(f"cluster must be one of {_CLUSTERS}, got {cluster!r}")
    own = {"timeout_min": TIMEOUT_MINUTES, "cpus_per_task": 1, "name": "weightzoo"}
    own |= {} if device == "cpu" else {"gpus_per_node": 1}
    if workers is not None and cluster == "slurm":
        own["slurm_array_parallelism"] = workers
    try:
        executor = submitit.AutoExecutor(folder=zoo.folder / LOG_FOLDER, cluster=cluster)
        executor.update_parameters(**(own | given))
    except (RuntimeError, NameError, TypeError, AssertionError, ValueError) as error:
        raise BuildError(f"cannot use Slurm with the options {given}: {error}") from error
    return executor


def _wait(running: dict[Any, Sequence[int]], job: TrainingJob, devices: set[str], bar: Any) -> None:
    """Wait for tasks; those that were lost end without a word, others with their error."""
    import submitit

    pause = POLL_SECONDS
    while running:
        ended = [task for task in running if task.done()]
        for task in ended:
            cohort = running.pop(task)
            try:
                devices.add(task.result())
                bar.update(len(cohort) * job.recipe.epochs)
            except submitit.core.utils.FailedJobError as error:
                raise BuildError(
                    f"a Slurm task failed: {str(error)[-1000:]}; finished models are kept, run the "
                    "same command to go on"
                ) from error
            except submitit.core.utils.UncompletedJobError:
                continue  # killed, or its node was lost: its cohort runs again
        if running and not ended:
            time.sleep(pause)
            pause = min(pause * 1.5, SLOW_POLL_SECONDS)
        elif ended:
            pause = POLL_SECONDS
