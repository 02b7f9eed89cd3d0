"""The checkpoint of a training, from which a run that was killed goes on."""

import hashlib
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...loaders import ZooDataset
from ...zoos.strict_json import json_text

CHECKPOINT_NAME = "checkpoint.pt"
FORMAT = "weightzoo-training-1"


class TrainingCheckpoint:
    """One file, replaced when a new state is whole.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the checkpoint in a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / CHECKPOINT_NAME

    def write(self, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Replace the state.

        Args:
            identity: plain data that says whose state it is.
            state: tensors and plain data.
        """
        partial = self.path.with_suffix(".tmp")
        torch.save({"format": FORMAT, "identity": identity, "state": state}, partial)
        os.replace(partial, self.path)

    def read(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The state, or None if there is none yet.

        Raises:
            ValueError: if the file is no checkpoint of a training, or is of another training;
                what differs is named.
        """
        if not self.path.exists():
            return None
        if not zipfile.is_zipfile(self.path):
            raise ValueError(self._message("is no file of torch"))
        try:  # nothing but tensors and plain data is unpickled
            held = torch.load(self.path, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise ValueError(self._message(f"cannot be read ({error})")) from error
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            raise ValueError(self._message(f"is not of format {FORMAT!r}"))
        if differing := sorted(
            key for key in identity if held["identity"].get(key) != identity[key]
        ):
            raise ValueError(self._message(f"is of a training with other {differing}"))
        return dict(held["state"])

    def discard(self) -> None:
        """Remove it, to start anew."""
        self.path.unlink(missing_ok=True)

    def _message(self, what: str) -> str:
        return f"checkpoint {self.path} {what}: choose another folder, or train without resuming"


def zoo_identity(zoo: ZooDataset, *columns: str) -> dict[str, Any]:
    """Which rows are used, as plain data; of the weights, those of the first and the last row.

    Args:
        zoo: the rows.
        columns: that the training reads besides the weights.
    """
    digest = hashlib.sha256(json_text(zoo.layer_table.to_json()).encode())
    digest.update(np.asarray(zoo.columns["model_id"]).tobytes())
    for column in columns:
        digest.update(str(zoo.columns[column].tolist()).encode())
    digest.update(zoo.weights([0, len(zoo) - 1]).numpy().tobytes())
    return {"name": zoo.name, "rows": len(zoo), "sha256": digest.hexdigest()}
