"""Finished parts of an analysis on disk, so that a stopped analysis continues.

```
OUT/work/plan.json            zoo and settings that the parts belong to
OUT/work/FAMILY-NUMBER.npz    columns of one family for one block of models
```
"""

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.disk import write_whole
from ...zoos.errors import BuildError
from ...zoos.folder_identity import read_json
from ...zoos.strict_json import json_text

WORK_NAME, PLAN_NAME = "work", "plan.json"


@dataclass(frozen=True)
class Part:
    """One family for one block of models.

    Attributes:
        family: name of the family.
        number: number of the block.
    """

    family: str
    number: int


@dataclass(frozen=True)
class WorkFolder:
    """The folder of the finished parts; it can be pickled, so that workers write to it.

    Attributes:
        path: path of the folder.
    """

    path: Path

    @classmethod
    def claim(cls, out: Path, plan: Mapping[str, Any], overwrite: bool) -> "WorkFolder":
        """The work folder of an analysis, with the parts of an earlier start of the same one.

        Args:
            out: output folder of the analysis.
            plan: plain data that determines every part.
            overwrite: whether parts of another analysis are discarded.

        Raises:
            BuildError: if the folder holds parts of another analysis that are not discarded.
        """
        folder = cls(out / WORK_NAME)
        now = json.loads(json_text(dict(plan)))
        earlier = read_json(folder.path / PLAN_NAME)
        if earlier != now and folder.path.exists():
            odd = sorted(
                k for k in now if not isinstance(earlier, dict) or earlier.get(k) != now[k]
            )
            if not overwrite:
                raise BuildError(
                    f"{folder.path} holds an analysis that differs in {odd}: choose another --out, "
                    "or discard it with --overwrite"
                )
            shutil.rmtree(folder.path)
        folder.path.mkdir(parents=True, exist_ok=True)
        write_whole(folder.path / PLAN_NAME, json_text(now, indent=1).encode())
        return folder

    def has(self, part: Part) -> bool:
        """Whether a part is finished."""
        return self._file(part).exists()

    def write(self, part: Part, columns: Mapping[str, np.ndarray]) -> None:
        """Write a part; the file appears when it is complete.

        Args:
            part: family and block.
            columns: values of the rows of the block, by name.
        """
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]
        write_whole(self._file(part), buffer.getvalue())

    def read(self, part: Part) -> dict[str, np.ndarray]:
        """Values of the rows of a block, by name."""
        with np.load(self._file(part)) as stored:
            return {name: stored[name] for name in stored.files}

    def _file(self, part: Part) -> Path:
        return self.path / f"{part.family}-{part.number:05}.npz"
