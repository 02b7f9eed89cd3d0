"""Builds on a local Ray cluster, in a process of their own: run by test_ray_engine.py.

    python ray_builds.py FOLDER NAME...

writes one zoo several times: by the process engine (`process`), on Ray undisturbed (`plain`), with
a worker killed (`killed`), without a shared disk (`apart`), and stopped in between (`resumed`).
`trained-NAME` logs one line per trained cohort.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray

from weightzoo.builders.build import Engine, run_job
from weightzoo.builders.engines.job import TrainingJob
from weightzoo.builders.engines.ray_engine import run_on_ray
from weightzoo.builders.training.cohort import CohortResult
from weightzoo.builders.writing.partial_zoo import PartialZoo
from weightzoo.zoos.recipe import Recipe, load_recipe


@dataclass(frozen=True, kw_only=True)
class LoggedJob(TrainingJob):
    """Logs what it trains; dies once in each cohort of `deadly`, after training it."""

    log: Path
    deadly: tuple[int, ...] = ()  # smallest positions of cohorts

    def train(self, positions: Sequence[int], *rest: Any) -> CohortResult:
        with self.log.open("a") as log:
            log.write(f"{sorted(positions)}\n")
        result = super().train(positions, *rest)
        fatal = self.log.with_name(f"died-{min(positions)}")
        if min(positions) in self.deadly and not fatal.exists():
            fatal.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def small_recipe() -> Recipe:
    recipe = load_recipe("digits-mlp")
    factors = recipe.factors | {"train_fraction": 0.05}
    return replace(recipe, factors=factors, seeds=12, epochs=2, checkpoints=(0, 1, 2))


def main(folder: Path, names: Sequence[str]) -> None:
    recipe = small_recipe()
    engine = Engine(name="ray", workers=2, cohort_size=3, progress=False)
    for name in names:
        log, deadly = folder / f"trained-{name}", (0,) if name == "killed" else ()
        models = tuple(recipe.models())
        job = LoggedJob(recipe=recipe, models=models, log=log, deadly=deadly)
        if name == "process":
            run_job(job, folder / name, replace(engine, name="process", workers=1))
            continue
        if name != "plain" and not ray.is_initialized():  # "plain" starts and ends its own
            ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR)
        if name == "resumed":  # begun on Ray, ended by worker processes
            _stop_after_the_first(job, folder / name, engine)
            run_job(job, folder / name, replace(engine, name="process"))
            continue
        sign = (lambda zoo: "another machine") if name == "apart" else PartialZoo.sign
        with patch.object(PartialZoo, "sign", sign):
            run_job(job, folder / name, engine)


def _stop_after_the_first(job: LoggedJob, out: Path, engine: Engine) -> None:
    def one_cohort(zoo_job: Any, zoo: Any, cohorts: Any, **options: Any) -> str:
        run_on_ray(zoo_job, zoo, cohorts[:1], **options)
        raise KeyboardInterrupt

    with patch("weightzoo.builders.build.run_on_ray", one_cohort):
        try:
            run_job(job, out, engine)
        except KeyboardInterrupt:
            assert not out.exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
