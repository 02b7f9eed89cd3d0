import io
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from weightzoo.builders.checkpoints import pickle_trial
from weightzoo.builders.checkpoints.archives import FileRange, open_range
from weightzoo.builders.checkpoints.opening import find_state_dict, open_checkpoint
from weightzoo.builders.checkpoints.pickle_trial import TRIAL
from weightzoo.builders.checkpoints.unreadable import UnreadableFileError

START = b"\x80\x04"


def doubled(levels: int) -> bytes:
    """A tuple that holds the one before it twice, level by level."""
    return (
        b")\x940" + b"".join(b"h%ch%c\x86\x940" % (n, n) for n in range(levels)) + b"h%c" % levels
    )


def lists(levels: int) -> bytes:
    """The same with lists, which nothing hashes."""
    return b"]\x94" + b"".join(b"0]\x94(h%ch%ce" % (n, n) for n in range(levels))


ATTACKS = {
    "key of shared tuples": START + b"}" + doubled(60) + b"K\x01s.",
    "shared tuples": START + doubled(60) + b".",
    "shared lists": START + lists(60) + b".",
    "deep tuples": START + b")" + b"\x85" * 1_000_000 + b".",
    "key of deep tuples": START + b"})" + b"\x85" * 1_000_000 + b"K\x01s.",
    "endless path": START
    + b"cpathlib\nPath\n\x94\x8c\x08aaaaaaaa\x94"
    + b"".join(b"h\x00h%ch%c\x86R\x94" % (n, n) for n in range(1, 60))
    + b".",
    "memo index": START + b"Nr\xff\xff\xff\x7f.",
    "declared size": START + b"\x96" + (2**40).to_bytes(8, "little") + b".",
    "many sets": START + b"(" + b"\x8f" * 8_000_000 + b"l.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_pickle_costs_little_and_is_refused(attack: str) -> None:
    started = time.process_time()
    with pytest.raises(UnreadableFileError) as caught:
        open_checkpoint(io.BytesIO(ATTACKS[attack]), "model.pt")
    assert time.process_time() - started < 2 and len(str(caught.value)) < 600


def test_importer_goes_on_after_a_child_has_died() -> None:
    with pytest.raises(UnreadableFileError, match="crashes|too much memory|nested"):
        open_checkpoint(io.BytesIO(ATTACKS["key of deep tuples"]), "model.pt")
    file = io.BytesIO()
    torch.save({"w": torch.ones(3)}, file)
    checkpoint = open_checkpoint(io.BytesIO(file.getvalue()), "model.pt")
    assert checkpoint.read(find_state_dict(checkpoint.root)["w"]).tolist() == [1, 1, 1]


def test_refused_pickle_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real: Callable[..., Any] = pickle_trial.Trial._ask
    monkeypatch.setattr(
        pickle_trial.Trial, "_ask", lambda *given: (asked.append(1), real(*given))[1]
    )
    for _ in range(3):
        with pytest.raises(UnreadableFileError, match="without end"):
            open_checkpoint(io.BytesIO(START + lists(61) + b"."), "model.pt")
    assert len(asked) == 1


def test_large_file_is_tried_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before" + pickle.dumps({"a": 1}, 2) + b"after")
    file = open_range(FileRange(tmp_path / "file", 6, 30))
    TRIAL.read("pickle", (), file)
    assert file.tell() == 0
    with pytest.raises(UnreadableFileError):
        TRIAL.read("pickle", (), open_range(FileRange(tmp_path / "file", 5, 30)))


def test_forked_process_does_not_talk_to_the_child_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    TRIAL.read("pickle", (), io.BytesIO(pickle.dumps(1)))
    first = TRIAL._child
    monkeypatch.setattr(os, "getpid", lambda: -1)
    TRIAL.read("pickle", (), io.BytesIO(pickle.dumps(2)))
    assert first is not None and TRIAL._child is not first and first.poll() is None
    TRIAL.close()
    first.kill()
    first.communicate()
