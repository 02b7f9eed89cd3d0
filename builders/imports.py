"""Imports published zoos: one reader per format, one writer for all.

A source is scanned for models and their properties. The models are sorted by name, assigned to
splits and grouped by layer table. Then every checkpoint is read once, directly into its row of the
zoo file. Unreadable files are left out, and the report gives the reasons.
"""

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..zoos.cards.card import write_collection_card
from ..zoos.errors import BuildError
from ..zoos.folder_identity import Identity
from ..zoos.partial_folder import SCRATCH_NAME, PartialFolder, partial_folder
from ..zoos.provenance import package_version
from .checkpoints.archives import ArchiveError, open_source
from .checkpoints.unreadable import UnreadableFileError, reading
from .importing.children import ParentRows, read_parents, set_lineage
from .importing.groups import Group, folder_names, group_models
from .importing.mixed_import import MixedImport
from .importing.models import FoundModel, Reader, Remark, Scan, tidy_metrics
from .importing.partial_import import Journal, PartialImport
from .importing.protocols import apply_protocol
from .importing.report import ImportedZoo, ImportReport
from .importing.splits import assign_splits
from .published.hub import HubReader
from .published.inr import InrReader
from .published.lora import LoraReader
from .published.model_j import ModelJReader
from .published.modelzoos import PreprocessedReader, RawReader
from .published.mother import MotherReader
from .published.nino import NinoReader
from .published.small_transformers import SmallTransformerReader
from .published.smallcnn import SmallCnnReader
from .published.state_dicts import StateDictReader
from .published.wildpark import WildParkReader

FORMATS: dict[str, type[Reader]] = {
    "modelzoos-raw": RawReader,
    "modelzoos-pt": PreprocessedReader,
    "smallcnn": SmallCnnReader,
    "inr-pth": InrReader,
    "wildpark": WildParkReader,
    "small-transformers": SmallTransformerReader,
    "nino": NinoReader,
    "lora": LoraReader,
    "model-j": ModelJReader,
    "mother": MotherReader,
    "state-dicts": StateDictReader,
    "hub": HubReader,
}
_JOURNAL = "import.jsonl"


def import_zoo(
    format: str,
    source: str | Path,
    out: Path,
    *,
    split_file: Path | None = None,
    protocol: str | None = None,
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    overwrite: bool = False,
    strict: bool = False,
    parents: Path | None = None,
    layer: str | None = None,
    progress: bool = True,
) -> ImportReport:
    """Import a published zoo as a zoo folder; as a folder of zoos if architectures differ.

    The CNN Wild Park, in which nearly every model has its own, becomes one mixed zoo instead.

    A killed import resumes when it is called again with the same arguments. Models and splits do
    not depend on the order of files on a disk.

    Args:
        format: format name, one of `FORMATS`.
        source: path of a folder, an archive (zip, tar, tar.gz, tar.xz) or a file.
        out: path of the new folder. If models differ in architecture, it contains one zoo folder
            per architecture, and the splits are drawn over all models together.
        split_file: CSV file with the columns model_name and split, or a published file (JSON of
            paths by split, or a CSV of image numbers); other models are refused.
        protocol: name of a published protocol, see `weightzoo protocols`: it chooses the
            checkpoints and their splits, in place of the stored ones, and tells which split file
            it takes.
        seed: seed of the split, if neither a file nor the source gives one.
        fractions: shares of models for train, val and test.
        overwrite: replace a zoo at `out` when the new one is complete.
        strict: fail if models differ in architecture.
        parents: folder of an imported zoo, which fine-tuned or pruned models of the source descend
            from. Children get its splits, and the columns of their lineage name its rows.
        layer: name of the one layer to fetch of each network; only with the format "model-j".
        progress: show a progress bar on stderr.

    Returns:
        Imported zoos, and refused models with reasons, as in `out/import_report.json`.

    Raises:
        BuildError: if the source is truncated or of another format, no model in it can be
            imported, `out` exists, or the disk is full; nothing at `out` changes then.
    """
    if format not in FORMATS:
        raise BuildError(f"format must be one of {list(FORMATS)}, got {format!r}")
    if (layer is not None) != FORMATS[format].takes_layer:
        takes = [name for name, reader in FORMATS.items() if reader.takes_layer]
        raise BuildError(
            f"the format {format!r} takes {'no' if layer else 'a'} layer, got layer={layer!r}: the "
            f"formats {takes} need one, such as vit.encoder.layer.10.output.dense, others none"
        )
    started = time.perf_counter()
    out, source = Path(out), Path(source)
    settings = {
        "format": format,
        "source": str(source),
        "split_file": None if split_file is None else str(split_file),
        "protocol": protocol,
        "seed": seed,
        "fractions": list(fractions),
        "strict": strict,
        "archive": _archive(source),
        "parents": None if parents is None else str(parents),
    }
    settings |= {} if layer is None else {"layer": layer}
    if not source.exists():
        raise BuildError(f"no file or folder at {source}")
    if out.resolve().is_relative_to(source.resolve()):
        raise BuildError(f"{out} lies in the source {source}: choose a folder outside it")
    try:
        identity = Identity("import", str(source), settings)
        with partial_folder(out, identity, overwrite) as held:
            if held.is_done:
                return ImportReport.read(held.out)
            opened = open_source(source, held.path / SCRATCH_NAME)
            with reading():
                reader = FORMATS[format](opened)
                reader.layer = layer or ""
                work = _Import(held, out, reader, settings)
            return work.run(split_file, overwrite, progress, started)
    except (OSError, ArchiveError, UnreadableFileError) as error:
        raise BuildError(f"cannot import {source} to {out}: {error}") from error


@dataclass(frozen=True)
class _Import:
    """An import in progress."""

    held: PartialFolder
    out: Path
    reader: Reader
    settings: dict[str, Any]

    def run(
        self, split_file: Path | None, overwrite: bool, progress: bool, started: float
    ) -> ImportReport:
        begun = datetime.now(UTC)
        with reading():
            scan = self.reader.scan()
        scan.models.sort(key=lambda model: model.name)
        scan.notes += tidy_metrics(scan.models)
        parents = self.settings["parents"]
        known = read_parents(None if parents is None else Path(parents))
        split = self._splits(scan, split_file, known)
        groups = group_models(scan, self.reader)
        self._check_groups(scan, groups)
        names = [""] if len(groups) == 1 else folder_names(groups)
        set_lineage(scan, groups, [name or self.out.name for name in names], known)
        mixed = self.reader.mixes and len(groups) > 1
        plan = self._plan_mixed if mixed else self._plan
        zoos = plan(scan, groups, names, split)
        journal = self._start(zoos, overwrite)
        with _bar(zoos, journal, progress) as bar:
            for zoo in zoos:
                zoo.write(self.reader, journal, bar)
        provenance = self.held.start_finishing(self._provenance(scan, begun))
        made = [zoo.finish(journal, provenance) for zoo in zoos]
        report = self._report(scan, zoos, made, journal, started)
        self._write_report(zoos, made, report)
        return report

    def _splits(self, scan: Scan, split_file: Path | None, known: ParentRows) -> dict[str, Any]:
        """Assign the splits of a protocol, or those of the file, the source or a draw."""
        fractions, seed = self.settings["fractions"], self.settings["seed"]
        name = self.settings["protocol"]
        if name is None:
            return assign_splits(scan, fractions, seed, split_file, known)
        assign_splits(scan, fractions, seed, None, known)
        return apply_protocol(scan, name, self.settings["format"], split_file)

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
        self, scan: Scan, groups: Sequence[Group], names: Sequence[str], split: dict[str, Any]
    ) -> list[PartialImport]:
        """Plan one zoo per group: a single one in the folder itself, several in subfolders."""
        header = {"recipe": self._recipe(scan), "split": split}
        return [
            PartialImport.plan(
                self.held.path / name,
                self.held.finished / name,
                self.out / name,
                group.models,
                group.architecture,
                group.table,
                header | {"recipe": header["recipe"] | {"name": name or self.out.name}},
            )
            for name, group in zip(names, groups, strict=True)
        ]

    def _plan_mixed(
        self, scan: Scan, groups: Sequence[Group], names: Sequence[str], split: dict[str, Any]
    ) -> list[MixedImport]:
        """Plan one zoo of all groups, in the folder itself."""
        header = {"recipe": self._recipe(scan) | {"name": self.out.name}, "split": split}
        folders = self.held.path / "mixed", self.held.finished, self.out
        return [MixedImport.plan(*folders, groups, names, header)]

    def _recipe(self, scan: Scan) -> dict[str, Any]:
        """Description of the import, stored in place of a recipe."""
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

    def _start(self, zoos: Sequence[PartialImport | MixedImport], overwrite: bool) -> Journal:
        """Make the files, or resume those of an earlier run of the same import."""
        digest = hashlib.sha256()
        for zoo in zoos:
            for model in zoo.models:
                digest.update(repr((model.name, model.split, model.epochs.tolist())).encode())
        plan = {"files": self.reader.source.fingerprint(), "plan": digest.hexdigest()}
        is_planned = self.held.is_planned(plan, overwrite, keep=(SCRATCH_NAME,))
        journal = Journal(self.held.path / _JOURNAL)
        for zoo in zoos:
            zoo.mend(journal) if is_planned else zoo.create()
        if not is_planned:
            self.held.set_planned(plan)
        return journal

    def _provenance(self, scan: Scan, begun: datetime) -> dict[str, Any]:
        licence = {} if scan.licence is None else {"licence": scan.licence}
        return licence | {
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
        zoos: Sequence[PartialImport | MixedImport],
        made: Sequence[ImportedZoo | None],
        journal: Journal,
        started: float,
    ) -> ImportReport:
        unreadable = [remark for zoo in zoos for remark in zoo.unreadable(journal)]
        rounded = [remark for zoo in zoos for remark in zoo.rounded(journal)]
        gaps = [remark for zoo in zoos for remark in _gaps(zoo.models)]
        return ImportReport(
            format=self.settings["format"],
            source=str(self.reader.source.path),
            zoos=tuple(zoo for zoo in made if zoo is not None),
            refused=(*scan.refused, *unreadable),
            gaps=tuple(gaps),
            remarks=(*scan.remarks, *rounded),
            notes=tuple(scan.notes),
            seconds=time.perf_counter() - started,
        )

    def _write_report(
        self,
        zoos: Sequence[PartialImport | MixedImport],
        made: Sequence[ImportedZoo | None],
        report: ImportReport,
    ) -> None:
        """Write the report beside the zoos, and its parts into each of several zoos."""
        if not report.zoos:
            self.held.forget_plan()
            raise BuildError(
                f"no checkpoint in {report.source} could be read: {report.refused[0].reason}"
            )
        for zoo, result in zip(zoos, made, strict=True):
            if result is not None and len(zoos) > 1:
                own = {model.name for model in zoo.models}
                report.of(result, own).write(zoo.finished)
        if len(zoos) > 1:
            names = [zoo.finished.name for zoo, one in zip(zoos, made, strict=True) if one]
            write_collection_card(self.held.finished, names, self.out.resolve().name)
        report.write(self.held.finished)


def _gaps(models: Sequence[FoundModel]) -> list[Remark]:
    """Missing epochs of each model, compared with the other models of its zoo."""
    every = sorted({epoch for model in models for epoch in model.epochs.tolist()})
    gaps = []
    for model in models:
        if missing := sorted(set(every) - set(model.epochs.tolist())):
            gaps.append(Remark(model.name, f"lacks the epochs {_ranges(missing, every)}"))
    return gaps


def _ranges(numbers: Sequence[int], every: Sequence[int]) -> str:
    """Text of numbers, with runs of neighbours in `every` as first-last."""
    index = {number: position for position, number in enumerate(every)}
    runs: list[list[int]] = []
    for number in numbers:
        if runs and index[number] == index[runs[-1][-1]] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def _bar(zoos: Sequence[PartialImport | MixedImport], journal: Journal, progress: bool) -> Any:
    return tqdm(
        total=sum(zoo.rows for zoo in zoos),
        initial=sum(zoo.rows_done(journal) for zoo in zoos),
        unit="row",
        desc="import",
        disable=not progress,
    )


def _archive(source: Path) -> list[int] | None:
    """Size and modification time of an archive, which identify its unpacked files."""
    return [source.stat().st_size, source.stat().st_mtime_ns] if source.is_file() else None
