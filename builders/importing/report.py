"""The report of an import: imported zoos, and refused models and files with reasons."""

import json
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...zoos.partial_folder import REPORT_NAME
from ...zoos.strict_json import json_text
from .models import Remark

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ImportedZoo:
    """One imported zoo folder.

    Attributes:
        path: path of the folder.
        architecture: name of the architecture, or "unknown" if only the layer table is known.
        parameters: number of trained values per model.
        models: number of models.
        rows: number of checkpoints.
        splits: number of models by split.
        diverged_rows: number of rows with a non-finite weight or loss; they are kept.
        size_bytes: size of its files.
    """

    path: str
    architecture: str
    parameters: int
    models: int
    rows: int
    splits: dict[str, int]
    diverged_rows: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Result of `import_zoo`, also stored in `import_report.json`.

    Attributes:
        format: name of the published format.
        source: path of the source.
        zoos: imported zoos, one per architecture.
        refused: refused models, checkpoints and files, each with the reason.
        gaps: missing epochs of models, compared with the other models of the zoo.
        remarks: other incomplete properties of imported models.
        notes: notes on the whole source, such as a conversion of units.
        seconds: duration of this run; a resumed import counts its last run only.
    """

    format: str
    source: str
    zoos: tuple[ImportedZoo, ...]
    refused: tuple[Remark, ...]
    gaps: tuple[Remark, ...]
    remarks: tuple[Remark, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def models(self) -> int:
        """Number of imported models."""
        return sum(zoo.models for zoo in self.zoos)

    @property
    def rows(self) -> int:
        """Number of imported checkpoints."""
        return sum(zoo.rows for zoo in self.zoos)

    def of(self, zoo: ImportedZoo, models: Container[str]) -> "ImportReport":
        """Part of the report on one of several zoos.

        Args:
            zoo: imported zoo.
            models: names of its models.
        """
        refused, gaps, remarks = (
            tuple(remark for remark in part if remark.model in models)
            for part in (self.refused, self.gaps, self.remarks)
        )
        return replace(self, zoos=(zoo,), refused=refused, gaps=gaps, remarks=remarks)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write `import_report.json` into `folder`."""
        (folder / REPORT_NAME).write_text(json_text(self.to_json(), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "ImportReport":
        """Read the report of an import that ended before it could return it."""
        data = json.loads((folder / REPORT_NAME).read_text())
        data["zoos"] = tuple(ImportedZoo(**zoo) for zoo in data["zoos"])
        for name in ("refused", "gaps", "remarks"):
            data[name] = tuple(Remark(**remark) for remark in data[name])
        return cls(**data | {"notes": tuple(data["notes"])})

    def summary(self) -> str:
        """Summary in a few lines, for a terminal."""
        lines = [
            f"{self.models} models, {self.rows} rows from {self.source} in {self.seconds:.1f} s"
        ]
        for zoo in self.zoos[:_SHOWN]:
            splits = ", ".join(f"{count} {split}" for split, count in zoo.splits.items())
            lines.append(
                f"{zoo.path}: {zoo.architecture}, {zoo.parameters:,} parameters, "
                f"{zoo.models} models ({splits}), {zoo.rows} rows, {zoo.diverged_rows} diverged"
            )
        if len(self.zoos) > _SHOWN:
            lines.append(f"... and {len(self.zoos) - _SHOWN} more zoos")
        for name in ("refused", "gaps", "remarks"):
            lines += _shown(name, getattr(self, name))
        return "\n".join([*lines, *self.notes])


def _shown(name: str, remarks: Sequence[Remark]) -> list[str]:
    """The most frequent reasons, each with one example."""
    counts = Counter(remark.reason for remark in remarks)
    examples = {remark.reason: remark.model for remark in reversed(remarks)}
    lines = [f"{name}: {len(remarks)}"] if remarks else []
    for reason, count in counts.most_common(_SHOWN):
        lines.append(f"  {count} x {reason} (such as {examples[reason]})")
    return lines
