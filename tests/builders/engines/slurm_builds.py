"""Builds by submitit's local executor, in a process of their own: run by test_slurm_engine.py.

    python slurm_builds.py FOLDER NAME...

writes one zoo several times: by the process engine (`process`), as a job array undisturbed
(`plain`), with a task killed (`killed`), and stopped in between (`resumed`). `trained-NAME` logs
one line per trained cohort.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from weightzoo.builders.build import Engine, run_job
from weightzoo.builders.engines.job import TrainingJob
from weightzoo.builders.engines.slurm_engine import run_on_slurm
from weightzoo.builders.training.cohort import CohortResult
from weightzoo.zoos.recipe import load_recipe


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


def main(folder: Path, names: Sequence[str]) -> None:
    recipe = load_recipe("digits-mlp")
    factors = recipe.factors | {"train_fraction": 0.05}
    recipe = replace(recipe, factors=factors, seeds=6, epochs=2, checkpoints=(0, 1, 2))
    options = {"cluster": "local", "timeout_min": 10}
    engine = Engine(name="slurm", cohort_size=3, slurm=options, progress=False)
    here = Engine(name="process", workers=1, cohort_size=3, progress=False)
    for name in names:
        log, deadly = folder / f"trained-{name}", (0,) if name == "killed" else ()
        job = LoggedJob(recipe=recipe, models=tuple(recipe.models()), log=log, deadly=deadly)
        if name == "resumed":  # begun as a job array, ended in this process
            _stop_after_the_first(job, folder / name, engine)
        run_job(job, folder / name, engine if name in ("plain", "killed") else here)


def _stop_after_the_first(job: LoggedJob, out: Path, engine: Engine) -> None:
    def one_cohort(job: Any, zoo: Any, cohorts: Any, **options: Any) -> str:
        run_on_slurm(job, zoo, cohorts[:1], **options)
        raise KeyboardInterrupt

    with patch("weightzoo.builders.build.run_on_slurm", one_cohort):
        try:
            run_job(job, out, engine)
        except KeyboardInterrupt:
            return
    raise AssertionError("the build was not stopped")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
