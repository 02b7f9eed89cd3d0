"""`Protocol`: rows of a published zoo and their splits, as papers compare them.

Shape letters: N rows.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..format import SPLITS
from .split_files import SplitFile, read_split_file
from .ties import largest_tau

LEFT_OUT = ""  # split of a row that is no part of a protocol
SPLIT_FILES = ("required", "optional", "none")

ProtocolColumns = Mapping[str, np.ndarray]
Rule = Callable[[ProtocolColumns, SplitFile | None], np.ndarray]
"""Function of the columns (N,) and the split file that returns the split of each row, (N,)."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A published figure.

    Attributes:
        method: name of the method.
        data: name of the zoo, such as "CIFAR10-GS".
        value: the figure.
        metric: "tau" (Kendall's rank correlation) or "accuracy".
        source: paper that states it.
        quoted: whether it was taken from a table of another paper.
    """

    method: str
    data: str
    value: float
    metric: str
    source: str
    quoted: bool = True

    @property
    def text(self) -> str:
        """The figure and its source in one line."""
        quoted = ", quoted" if self.quoted else ""
        return (
            f"{self.method} on {self.data}: {self.metric} {self.value:.3f} ({self.source}{quoted})"
        )


@dataclass(frozen=True, kw_only=True)
class ProtocolSplits:
    """What a protocol makes of the rows of a zoo.

    Attributes:
        split: split of each row, `LEFT_OUT` for rows that are no part of the protocol, (N,).
        description: the protocol, its file and its leak, for the header of a zoo.
        cut_models: number of models with rows in two splits.
    """

    split: np.ndarray
    description: dict[str, Any]
    cut_models: int

    @property
    def notes(self) -> list[str]:
        """Lines for a report."""
        return protocol_notes(self.description)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One published protocol.

    Attributes:
        name: name for `--protocol`.
        zoo: zoo that it belongs to, in words.
        formats: import formats of that zoo.
        rule: the rule in words.
        needs: columns that the rule reads.
        split_of_rows: the rule.
        split_file: whether the user gives a file, one of `SPLIT_FILES`.
        file_source: published address of that file.
        known_files: name of the published file by its checksum.
        tie_ceiling: what is known of the largest tau_b of a prediction without ties.
        comparable: whether figures on these splits compare with the published ones, and why.
        published: published figures.

    Example:
        >>> from weightzoo.zoos.protocols.definitions import find_protocol
        >>> find_protocol("nfn").needs
        ('published_row', 'epoch')
    """

    name: str
    zoo: str
    formats: tuple[str, ...]
    rule: str
    needs: tuple[str, ...]
    split_of_rows: Rule
    split_file: str
    file_source: str = ""
    known_files: Mapping[str, str]
    tie_ceiling: str
    comparable: str
    published: tuple[Figure, ...] = ()

    def apply(self, columns: ProtocolColumns, split_file: Path | None) -> ProtocolSplits:
        """Find the split of every row.

        Args:
            columns: scalar columns of all rows, (N,) each.
            split_file: file of splits, or None.

        Raises:
            ValueError: if a column is missing, a file is missing or not needed, or the rows and
                the file contradict each other.
        """
        if missing := [name for name in (*self.needs, "model_name") if name not in columns]:
            raise ValueError(
                f"protocol {self.name!r} needs the columns {missing}: import {self.zoo} with "
                f"`weightzoo import {self.formats[0]}` of this version"
            )
        file = self._file(split_file)
        split = self.split_of_rows(columns, file)
        if not (split != LEFT_OUT).any():
            raise ValueError(
                f"protocol {self.name!r} leaves no row: is this {self.zoo}, and the right file?"
            )
        cut = _cut_models(columns["model_name"], split)
        about: dict[str, Any] = {"by": "protocol", "protocol": self.name, "cut_models": cut}
        if file is not None:
            about |= {"file": file.name, "sha256": file.sha256}
            about |= {"published_file": self.known_files.get(file.sha256, "")}
            about |= {"unmatched_paths": _unmatched(file, split)} if file.paths is not None else {}
        about["rows"] = {name: int((split == name).sum()) for name in SPLITS}
        about["left_out_rows"] = int((split == LEFT_OUT).sum())
        about |= _ceiling(columns, split)
        return ProtocolSplits(split=split, description=about, cut_models=cut)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `weightzoo protocols --json`."""
        return {
            "name": self.name,
            "zoo": self.zoo,
            "formats": list(self.formats),
            "rule": self.rule,
            "split_file": self.split_file,
            "file_source": self.file_source,
            "tie_ceiling": self.tie_ceiling,
            "comparable": self.comparable,
            "published": [asdict(figure) for figure in self.published],
        }

    def _file(self, path: Path | None) -> SplitFile | None:
        if path is None and self.split_file == "required":
            raise ValueError(
                f"protocol {self.name!r} needs its published split file: download "
                f"{self.file_source} and pass it as split file"
            )
        if path is not None and self.split_file == "none":
            raise ValueError(f"protocol {self.name!r} takes no split file, got {str(path)!r}")
        return None if path is None else read_split_file(path)


def protocol_notes(description: Mapping[str, Any]) -> list[str]:
    """Lines for a report on the splits of a zoo; none if they are of no protocol.

    Args:
        description: description of the splits, from the header of a zoo.
    """
    if description.get("by") != "protocol":
        return []
    rows = ", ".join(f"{name} {count}" for name, count in description["rows"].items())
    lines = [
        f"protocol {description['protocol']}: {rows} rows, {description['left_out_rows']} left out"
    ]
    if "file" in description:
        known = description["published_file"]
        said = f"the published file of {known}" if known else "no file whose checksum is known"
        lines.append(f"split file {description['file']}: {said}")
    if (ceiling := description.get("tie_ceiling")) is not None:
        lines.append(
            f"largest tau_b of a prediction without ties, for test_accuracy of the test rows: "
            f"{ceiling:.3f}"
        )
    if lacking := description.get("unmatched_paths"):
        lines.append(f"{lacking} paths of the file match no checkpoint: scores are not comparable")
    if cut := description["cut_models"]:
        lines.append(
            f"the published split leaks: {cut} models have checkpoints in more than one split"
        )
    return lines


def _ceiling(columns: ProtocolColumns, split: np.ndarray) -> dict[str, float]:
    """The tie ceiling of the test rows, where their test accuracy is known."""
    accuracy = columns.get("test_accuracy")
    if accuracy is None:
        return {}
    test = accuracy[(split == "test") & np.isfinite(accuracy)]
    return {"tie_ceiling": largest_tau(test)} if len(test) > 1 else {}


def _unmatched(file: SplitFile, split: np.ndarray) -> int:
    """Number of paths of a file without a row."""
    listed = sum(map(len, (file.paths or {}).values()))
    return max(0, listed - int((split != LEFT_OUT).sum()))


def _cut_models(names: np.ndarray, split: np.ndarray) -> int:
    """Number of models with rows in two splits."""
    kept = split != LEFT_OUT
    pairs = {*zip(names[kept].tolist(), split[kept].tolist(), strict=True)}
    return sum(count > 1 for count in Counter(name for name, _ in pairs).values())
