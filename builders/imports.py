"""Imports zoos that others published: one reader per format, one writer for all.

A source is scanned for models and their properties; the models are sorted by name, given splits
and grouped by layer table; then every checkpoint is read once, straight into its row of the zoo
file. What cannot be read is left out, and the report says why.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..zoos.errors import BuildError
from ..zoos.strict_json import json_text
from .archives import ArchiveError, open_source
from .import_groups import Group, folder_names, group_models
from .import_hub import HubReader
from .import_inr import InrReader
from .import_models import FoundModel, Reader, Remark, Scan, tidy_metrics
from .import_modelzoos import PreprocessedReader, RawReader
from .import_report import ImportedZoo, ImportReport
from .import_smallcnn import SmallCnnReader
from .import_splits import assign_splits
from .import_state_dicts import StateDictReader
from .import_wildpark import WildParkReader
from .import_writer import Journal, PartialImport
from .provenance import package_version
from .writer import LOCK_NAME, partial_folder

FORMATS: dict[str, type[Reader]] = {
    "modelzoos-raw": RawReader,
    "modelzoos-pt": PreprocessedReader,
    "smallcnn": SmallCnnReader,
    "inr-pth": InrReader,
    "wildpark": WildParkReader,
    "state-dicts": StateDictReader,
    "hub": HubReader,
}
_SETTINGS, _JOURNAL, _SCRATCH = "import.json", "import.jsonl", "scratch"


def import_zoo(
    format: str,
    source: str | Path,
    out: Path,
    *,
    split_file: Path | None = None,
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    overwrite: bool = False,
    strict: bool = False,
    progress: bool = True,
) -> ImportReport:
    """Import a published zoo as a zoo folder; as a folder of zoos if architectures differ.

    An import that was killed goes on where it stopped when called again with the same arguments.
    Models and splits do not depend on the order of files on a disk.

    Args:
        format: one of `FORMATS`.
        source: a folder, an archive (zip, tar, tar.gz, tar.xz) or a file, as the format has it.
        out: the folder to make. If models differ in architecture, it receives one zoo folder for
            each, and their splits are drawn over all models together.
        split_file: CSV with the columns model_name and split; models not in it are refused.
        seed: fixes the split where neither a file nor the source gives one.
        fractions: shares of models for train, val and test.
        overwrite: replace a zoo at `out` when the new one is whole.
        strict: fail if models differ in architecture.
        progress: show a progress bar on stderr.

    Returns:
        What came in, and what did not and why; `out/import_report.json` holds the same.

    Raises:
        BuildError: if the source is not of this format or truncated, no model in it can be
            imported, `out` is taken, or the disk is full; nothing at `out` is touched then.
    """
    if format not in FORMATS:
        raise BuildError(f"format must be one of {list(FORMATS)}, got {format!r}")
    started = time.perf_counter()
    out, source = Path(out), Path(source)
    settings = {
        "format": format,
        "source": str(source),
        "split_file": None if split_file is None else str(split_file),
        "seed": seed,
        "fractions": list(fractions),
        "strict": strict,
    }
    if not source.exists():
        raise BuildError(f"no file or folder at {source}")
    if out.resolve().is_relative_to(source.resolve()):
        raise BuildError(f"{out} lies in the source {source}: choose a folder outside it")
    try:
        with partial_folder(out, overwrite) as folder:
            try:
                opened = open_source(source, folder / _SCRATCH)
                work = _Import(folder, out, FORMATS[format](opened), settings)
                report = work.run(split_file, overwrite, progress, started)
            except BaseException:
                _discard_if_unstarted(folder)
                raise
            return report
    except (OSError, ArchiveError) as error:
        raise BuildError(f"cannot import {source} to {out}: {error}") from error


@dataclass(frozen=True)
class _Import:
    """An import that is under way."""

    folder: Path
    out: Path
    reader: Reader
    settings: dict[str, Any]

    def run(
        self, split_file: Path | None, overwrite: bool, progress: bool, started: float
    ) -> ImportReport:
        begun = datetime.now(UTC)
        scan = self.reader.scan()
        scan.models.sort(key=lambda model: model.name)
        scan.notes += tidy_metrics(scan.models)
        fractions, seed = self.settings["fractions"], self.settings["seed"]
        split = assign_splits(scan, fractions, seed, split_file)
        groups = group_models(scan, self.reader)
        self._check_groups(scan, groups)
        zoos = self._plan(scan, groups, split)
        journal = self._start(zoos, overwrite)
        with _bar(zoos, journal, progress) as bar:
            for zoo in zoos:
                zoo.write(self.reader, journal, bar)
        provenance = self._provenance(begun)
        made = [zoo.finish(journal, provenance) for zoo in zoos]
        report = self._report(scan, zoos, made, journal, started)
        self._tidy(zoos, made, report)
        return report

    def _check_groups(self, scan: Scan, groups: Sequence[Group]) -> None:
        if not groups:
            reasons = "; ".join(f"{r.model}: {r.reason}" for r in scan.refused[:3])
            raise BuildError(
                f"no model in {self.reader.source.path} can be imported as "
                f"{self.settings['format']}: {reasons or 'no file is of this format'}"
            )
        if self.settings["strict"] and len(groups) > 1:
            found = ", ".join(
                f"{len(group.models)} of {group.table.parameters} parameters "
                f"(such as {group.models[0].name})"
                for group in groups[:5]
            )
            raise BuildError(
                f"{self.reader.source.path} holds {len(groups)} architectures: {found}; import "
                "without strict to get one zoo for each"
            )

    def _plan(
        self, scan: Scan, groups: Sequence[Group], split: dict[str, Any]
    ) -> list[PartialImport]:
        """One zoo per group: in the folder itself if there is one, else in folders of it."""
        header = {"recipe": self._recipe(scan), "split": split}
        single = len(groups) == 1
        names = [""] if single else folder_names(groups)
        return [
            PartialImport.plan(
                self.folder / name,
                self.out / name,
                group.models,
                group.architecture,
                group.table,
                header | {"recipe": header["recipe"] | {"name": name or self.out.name}},
            )
            for name, group in zip(names, groups, strict=True)
        ]

    def _recipe(self, scan: Scan) -> dict[str, Any]:
        """What stands where a built zoo has its recipe."""
        source, format = self.reader.source.path.name, self.settings["format"]
        constants = {
            key: value
            for key, value in scan.constants.items()
            if isinstance(value, str | int | float | bool | None) and len(str(value)) < 500
        }
        return {
            "description": f"imported from {source} ({format})",
            "format": format,
            "source": source,
            "constants": constants,
            "notes": scan.notes,
        }

    def _start(self, zoos: Sequence[PartialImport], overwrite: bool) -> Journal:
        """Make the files, or go on with those of an earlier run of the same import."""
        path = self.folder / _SETTINGS
        plan = hashlib.sha256()
        for zoo in zoos:
            for model in zoo.models:
                plan.update(repr((model.name, model.split, model.epochs.tolist())).encode())
        fingerprint = self.reader.source.fingerprint()
        settings = self.settings | {"files": fingerprint, "plan": plan.hexdigest()}
        if path.exists():
            earlier = json.loads(path.read_text())
            if earlier == settings:
                return Journal(self.folder / _JOURNAL)
            if not overwrite:
                odd = sorted(key for key in settings if earlier.get(key) != settings[key])
                raise BuildError(
                    f"{self.folder} holds an unfinished import that differs in {odd}: finish it "
                    "with its own settings, delete the folder, or overwrite to start anew"
                )
        _empty(self.folder, keep=(LOCK_NAME, _SCRATCH))
        for zoo in zoos:
            zoo.create()
        partial = path.with_suffix(".tmp")
        partial.write_text(json_text(settings))
        partial.replace(path)
        return Journal(self.folder / _JOURNAL)

    def _provenance(self, begun: datetime) -> dict[str, Any]:
        return {
            "imported": self.settings["format"],
            "weightzoo": package_version(),
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            "files": self.reader.source.fingerprint(),
            "started": begun.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _report(
        self,
        scan: Scan,
        zoos: Sequence[PartialImport],
        made: Sequence[ImportedZoo | None],
        journal: Journal,
        started: float,
    ) -> ImportReport:
        unreadable = [remark for zoo in zoos for remark in zoo.unreadable(journal)]
        gaps = [remark for zoo in zoos for remark in _gaps(zoo.models)]
        return ImportReport(
            format=self.settings["format"],
            source=str(self.reader.source.path),
            zoos=tuple(zoo for zoo in made if zoo is not None),
            refused=(*scan.refused, *unreadable),
            gaps=tuple(gaps),
            remarks=tuple(scan.remarks),
            notes=tuple(scan.notes),
            seconds=time.perf_counter() - started,
        )

    def _tidy(
        self,
        zoos: Sequence[PartialImport],
        made: Sequence[ImportedZoo | None],
        report: ImportReport,
    ) -> None:
        """Leave the zoos and their report, nothing else."""
        if not report.zoos:
            (self.folder / _SETTINGS).unlink()  # there is nothing to go on with
            raise BuildError(
                f"no checkpoint in {report.source} could be read: {report.refused[0].reason}"
            )
        for zoo, result in zip(zoos, made, strict=True):
            if result is None:
                shutil.rmtree(zoo.folder)
            elif len(zoos) > 1:
                own = {model.name for model in zoo.models}
                report.of(result, own).write(zoo.folder)
        report.write(self.folder)
        for name in (_JOURNAL, LOCK_NAME):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / _SCRATCH, ignore_errors=True)
        (self.folder / _SETTINGS).unlink()


def _gaps(models: Sequence[FoundModel]) -> list[Remark]:
    """Epochs that other models of a zoo have and a model lacks."""
    every = sorted({epoch for model in models for epoch in model.epochs.tolist()})
    gaps = []
    for model in models:
        if missing := sorted(set(every) - set(model.epochs.tolist())):
            gaps.append(Remark(model.name, f"lacks the epochs {_ranges(missing, every)}"))
    return gaps


def _ranges(numbers: Sequence[int], every: Sequence[int]) -> str:
    """Numbers as text; runs of neighbours in `every` as first-last."""
    place = {number: index for index, number in enumerate(every)}
    runs: list[list[int]] = []
    for number in numbers:
        if runs and place[number] == place[runs[-1][-1]] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def _bar(zoos: Sequence[PartialImport], journal: Journal, progress: bool) -> Any:
    return tqdm(
        total=sum(zoo.rows for zoo in zoos),
        initial=sum(zoo.rows_done(journal) for zoo in zoos),
        unit="row",
        desc="import",
        disable=not progress,
    )


def _discard_if_unstarted(folder: Path) -> None:
    """Remove a partial folder that holds nothing to go on with."""
    if not (folder / _SETTINGS).exists():
        shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: Path, keep: Sequence[str]) -> None:
    for entry in folder.iterdir():
        if entry.name in keep:
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
