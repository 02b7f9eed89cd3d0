"""The report of an import: what came in, and of everything that did not, why."""

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
    """One zoo folder that an import made.

    Attributes:
        path: the folder.
        architecture: its name, or "unknown" if only the layer table is known.
        parameters: trained values per model.
        models: number of models.
        rows: number of checkpoints.
        splits: models by split.
        diverged_rows: rows with a weight or loss that is not finite; they are kept.
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
    """What `import_zoo` did; `import_report.json` holds the same.

    Attributes:
        format: the published format.
        source: where the files lay.
        zoos: the zoos made, one per architecture.
        refused: models and checkpoints left out, and files that belong to none, each with why.
        gaps: epochs that other models of the zoo have and a model lacks.
        remarks: what else is incomplete in models that were imported.
        notes: about the source as a whole, such as a conversion of units.
        seconds: time taken by this run; a resumed import counts its last run only.
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
        """Models imported."""
        return sum(zoo.models for zoo in self.zoos)

    @property
    def rows(self) -> int:
        """Checkpoints imported."""
        return sum(zoo.rows for zoo in self.zoos)

    def of(self, zoo: ImportedZoo, models: Container[str]) -> "ImportReport":
        """The part of the report that is about one of several zoos."""
        refused, gaps, remarks = (
            tuple(remark for remark in part if remark.model in models)
            for part in (self.refused, self.gaps, self.remarks)
        )
        return replace(self, zoos=(zoo,), refused=refused, gaps=gaps, remarks=remarks)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
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
        """A few lines for a terminal."""
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
