"""Checkpoints of a training run, from which an interrupted run resumes."""

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...loaders import ZooDataset
from ...zoos.disk import write_whole
from ...zoos.strict_json import json_text

CHECKPOINT_NAME = "checkpoint.pt"
FORMAT = "weightzoo-training-1"


def torch_file(data: Mapping[str, Any]) -> bytes:
    """The bytes of a file of `torch.save`.

    torch reports a full disk as an internal error; what writes these bytes names the disk.
    """
    buffer = io.BytesIO()
    torch.save(dict(data), buffer)
    return buffer.getvalue()


class TrainingCheckpoint:
    """One checkpoint file, replaced only after the new state is completely written.

    Attributes:
        path: path of the file.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the checkpoint in a folder, which is created if it does not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / CHECKPOINT_NAME

    def write(self, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Replace the state.

        Args:
            identity: plain data that identifies the training run.
            state: state of the run, tensors and plain data.
        """
        data = {"format": FORMAT, "identity": identity, "state": state}
        write_whole(self.path, torch_file(data))

    def read(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The saved state, or None if there is no file yet.

        Raises:
            ValueError: if the file is not a training checkpoint, or belongs to another training
                run; the differing keys are named.
        """
        if not self.path.exists():
            return None
        if not zipfile.is_zipfile(self.path):
            raise ValueError(self._message("is not a file of torch.save"))
        try:  # unpickles only tensors and plain data
            held = torch.load(self.path, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise ValueError(self._message(f"cannot be read ({error})")) from error
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            raise ValueError(self._message(f"does not have format {FORMAT!r}"))
        if differing := sorted(
            key for key in identity if held["identity"].get(key) != identity[key]
        ):
            raise ValueError(self._message(f"belongs to a training run with other {differing}"))
        return dict(held["state"])

    def discard(self) -> None:
        """Remove the file, so that training starts anew."""
        self.path.unlink(missing_ok=True)

    def _message(self, what: str) -> str:
        return f"checkpoint {self.path} {what}: choose another folder, or train without resuming"


def zoo_identity(zoo: ZooDataset, *columns: str) -> dict[str, Any]:
    """Identity of the rows used, as plain data.

    The digest covers the model of every row, the columns, and the weights of the first and the
    last row.

    Args:
        zoo: rows of the zoo.
        columns: columns that the training reads besides the weights.
    """
    digest = hashlib.sha256(json_text(zoo.layer_table.to_json()).encode())
    digest.update(np.asarray(zoo.columns["model_id"]).tobytes())
    for column in columns:
        digest.update(str(zoo.columns[column].tolist()).encode())
    digest.update(zoo.weights([0, len(zoo) - 1]).numpy().tobytes())
    return {"name": zoo.name, "rows": len(zoo), "sha256": digest.hexdigest()}
