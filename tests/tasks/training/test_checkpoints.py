"""Checkpoints of trainings on a full disk."""

import errno
import os
from pathlib import Path

import pytest
import torch

from weightzoo.tasks.training.checkpoints import TrainingCheckpoint

IDENTITY = {"seed": 1}


def test_full_disk_is_named_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = TrainingCheckpoint(tmp_path)
    checkpoint.write(IDENTITY, {"epoch": 1, "weights": torch.ones(3)})

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device"):
            checkpoint.write(IDENTITY, {"epoch": 2, "weights": torch.ones(3)})
    held = checkpoint.read(IDENTITY)
    assert held is not None and held["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.path.name]
