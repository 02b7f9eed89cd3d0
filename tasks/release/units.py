"""Units of a release: each member is made, verified and plotted, then recorded as done.

The record of a member is `.release/NAME.json` beside the members. It is written before the work
("building") and after it ("done"), so that a killed release continues with the unit that it was in,
and a folder of somebody else is never taken for a member.
"""

import hashlib
import json
import os
import platform
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...loaders.load import load_zoo
from ...zoos.cards.section import PLOT_NAME
from ...zoos.disk import write_whole
from ...zoos.errors import BuildError
from ...zoos.format import checksum
from ...zoos.index import ZooIndex, file_sha256
from ...zoos.strict_json import json_text
from ..inspection.checks import Check
from ..inspection.plots import plot_zoo
from ..inspection.verification import verify_zoo
from ..ranking.matrix import Matrix, read_matrix
from .matrix_table import plot_matrix
from .members import MATRIX_NAME, WORK_NAME, Member, Population, RankingMatrix

BUILDING, DONE = "building", "done"
VERIFIED_ROWS = 8  # rows of a zoo whose models are rebuilt and measured again


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is known of a member that is made or in work.

    Attributes:
        member: plan of the member, plain data.
        state: "building" or "done".
        seconds: duration of making it; None if it was continued after a stop.
        machine: processor, number of workers, and versions.
        models: number of models.
        rows: number of rows: checkpoints, or cells of the matrix.
        columns_sha256: digest of its values, see `columns_sha256`.
        checks: results of the verification, plain data.
        files: size in bytes and SHA-256 of every file, by path in the folder of the collection.
    """

    member: dict[str, Any]
    state: str
    seconds: float | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    models: int = 0
    rows: int = 0
    columns_sha256: str = ""
    checks: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Size of all files, in bytes."""
        return sum(size for size, _ in self.files.values())


def provide_unit(
    member: Member,
    folder: Path,
    population: Population,
    workers: int | None = None,
    progress: bool = True,
) -> Unit:
    """Make a member that is not done, and return its record.

    Args:
        member: member to make; its parents are made.
        folder: folder of the collection.
        population: models of the member.
        workers: number of worker processes; None takes one per core.
        progress: whether to show progress bars on stderr.

    Raises:
        BuildError: if the folder holds something else under its name, a file of a finished member
            is missing or has another size, or a check fails.
        ZooError: if the member cannot be made.
    """
    unit = read_unit(folder, member)
    if unit is not None and unit.state == DONE and (folder / member.name).exists():
        _check_files(unit, folder)
        return unit
    if unit is None and (folder / member.name).exists():
        raise BuildError(
            f"{folder / member.name} was not made by this release: move it away, or release to "
            "another folder"
        )
    continued = unit is not None and unit.state == BUILDING
    _write(folder, member, Unit(member=described(member), state=BUILDING))
    started = time.perf_counter()
    _make(member, folder, workers, progress)
    seconds = None if continued else round(time.perf_counter() - started, 1)
    unit = _finished(member, folder, population, seconds, workers)
    _write(folder, member, unit)
    shutil.rmtree(folder / WORK_NAME / member.name, ignore_errors=True)
    return unit


def read_unit(folder: Path, member: Member) -> Unit | None:
    """The record of a member; None if there is none.

    Args:
        folder: folder of the collection.
        member: member of the plan.

    Raises:
        BuildError: if the record is of another plan, or damaged.
    """
    path = _record_path(folder, member)
    if not path.exists():
        return None
    try:
        unit = Unit(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise BuildError(
            f"{path} is damaged ({error}): delete it and {folder / member.name} to make the member "
            "again"
        ) from error
    if unit.member != described(member):
        raise BuildError(
            f"{folder} holds {member.name!r} of another plan ({command_text(unit.member)}), now it "
            f"is {command_text(described(member))}: release to another folder, or delete {path} "
            f"and {folder / member.name}"
        )
    return unit


def described(member: Member) -> dict[str, Any]:
    """A member as plain data, with its command line as words; the description does not count."""
    data = {key: value for key, value in asdict(member).items() if key != "about"}
    plain: dict[str, Any] = json.loads(json_text(data | {"arguments": member.arguments()}))
    return plain


def command_text(data: Mapping[str, Any]) -> str:
    """The command line of a member that `described` returned."""
    return shlex.join(["weightzoo", *data["arguments"]])


def columns_sha256(path: Path | str) -> str:
    """Digest of the values of a zoo folder or a ranking matrix, without times and versions.

    It is equal for two builds of one recipe and seed on CPUs of one kind: SHA-256 of the
    checksums of all columns of a zoo, by file, or of the accuracies of a matrix.

    Args:
        path: zoo folder, matrix file, or folder with a matrix.

    Raises:
        ZooNotFoundError: if there is neither.
        ZooFormatError: if a file is damaged.
    """
    path = Path(path)
    path = path / MATRIX_NAME if (path / MATRIX_NAME).is_file() else path
    if path.is_file():
        return _digest(_matrix_values(read_matrix(path)))
    index = ZooIndex.read(path)
    files = zip(index.shards, index.open(path), strict=True)
    return _digest({shard.path: dict(file.header.checksums) for shard, file in files})


def _matrix_values(matrix: Matrix) -> dict[str, Any]:
    """Names and accuracies of a matrix; durations differ between two runs."""
    values = {"models": matrix.models, "targets": matrix.targets}
    return values | {"test": checksum(matrix.test), "val": checksum(matrix.val)}


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_text(data, sort_keys=True).encode()).hexdigest()


def _make(member: Member, folder: Path, workers: int | None, progress: bool) -> None:
    """Make the folder of a member, unless a killed run has finished it."""
    partial = folder / f"{member.name}.partial"
    if not (folder / member.name).exists() or partial.exists():
        member.make(folder, workers, progress)


def _finished(
    member: Member, folder: Path, population: Population, seconds: float | None, workers: int | None
) -> Unit:
    """Verify and plot a member, and describe it."""
    own = folder / member.name
    checks = _verified(member, own, population)
    if isinstance(member, RankingMatrix):
        matrix = read_matrix(own / MATRIX_NAME)
        plot_matrix(matrix, own / PLOT_NAME)
        models, rows = len(matrix.models), matrix.test.size
    else:
        plot_zoo(load_zoo(own), own / PLOT_NAME)
        shards = ZooIndex.read(own).shards
        models, rows = sum(one.models for one in shards), sum(one.rows for one in shards)
    return Unit(
        member=described(member),
        state=DONE,
        seconds=seconds,
        machine=_machine(workers),
        models=models,
        rows=rows,
        columns_sha256=columns_sha256(own),
        checks=[asdict(check) for check in checks],
        files=_files(folder, own),
    )


def _verified(member: Member, own: Path, population: Population) -> list[Check]:
    """The checks of a member, all passed or skipped."""
    if isinstance(member, RankingMatrix):
        checks = [_check_matrix(read_matrix(own / MATRIX_NAME), member, population)]
    else:
        models = sum(shard.models for shard in ZooIndex.read(own).shards)
        checks = [*verify_zoo(own, VERIFIED_ROWS), _check_models(models, population)]
    if failed := [check for check in checks if check.passed is False]:
        reasons = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        raise BuildError(f"{own} does not pass its checks ({reasons}): delete it to build it again")
    return checks


def _check_models(models: int, population: Population) -> Check:
    planned = len(population.models)
    right = models == planned if population.exact else 1 <= models <= planned
    return Check("the zoo holds the planned models", right, f"{models} of {planned}")


def _check_matrix(matrix: Matrix, member: RankingMatrix, population: Population) -> Check:
    planned = (len(population.models), len(member.targets), member.seeds)
    detail = f"{matrix.test.shape} of {planned}"
    return Check("the matrix holds the planned cells", matrix.test.shape == planned, detail)


def _check_files(unit: Unit, folder: Path) -> None:
    """Reject a finished member whose files were removed or cut."""
    odd = [path for path, (size, _) in unit.files.items() if _size(folder / path) != size]
    if odd:
        name = unit.member["name"]
        raise BuildError(
            f"{folder / name} is damaged, {odd} are missing or have another size: delete "
            f"{folder / name} and give the same command again to make it anew"
        )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _files(folder: Path, own: Path) -> dict[str, tuple[int, str]]:
    paths: Sequence[Path] = sorted(path for path in own.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, file_sha256(path))
        for path in paths
    }


def _machine(workers: int | None) -> dict[str, Any]:
    import numpy as np
    import torch

    return {
        "processor": platform.machine(),
        "system": platform.system(),
        "workers": workers or os.cpu_count(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _record_path(folder: Path, member: Member) -> Path:
    return folder / WORK_NAME / f"{member.name}.json"


def _write(folder: Path, member: Member, unit: Unit) -> None:
    path = _record_path(folder, member)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json_text(asdict(unit), indent=1).encode())
