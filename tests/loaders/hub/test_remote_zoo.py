"""Rows that are fetched when they are first read, each byte once."""

import gc
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weightzoo.loaders import WindowReader, ZooDataset, load_zoo
from weightzoo.loaders.hub import remote_zoo
from weightzoo.loaders.hub.remote_zoo import RemoteRows, RowSpool

Spans = list[tuple[int, int]]


@pytest.fixture
def remote(
    sharded_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[RemoteRows, Spans]:
    """12 rows of two files in blocks of two, and the byte ranges fetched so far."""
    files, spans = load_zoo(sharded_zoo, split="train").source.files, Spans()
    monkeypatch.setattr(remote_zoo, "BLOCK_BYTES", 2 * 4 * files[0].width)

    def fetching(path: Path) -> Callable[[int, int], bytes]:
        def fetch(start: int, stop: int) -> bytes:
            spans.append((start, stop))
            return path.read_bytes()[start:stop]

        return fetch

    fetches = [fetching(file.path) for file in files]
    (folder := tmp_path / "spool").mkdir()
    return RemoteRows(files, RowSpool(files, fetches, folder)), spans


def rows_of(zoo: Path) -> np.ndarray:
    return load_zoo(zoo, split="train").weights().numpy()


def test_rows_are_fetched_once_with_the_rest_of_their_block(
    remote: tuple[RemoteRows, Spans], sharded_zoo: Path
) -> None:
    rows, spans = remote
    wanted, row_bytes = rows_of(sharded_zoo), 4 * rows.width
    numbers = np.array([0, 3, 7])
    assert np.array_equal(rows.take(numbers), wanted[numbers])
    sizes = sorted(stop - start for start, stop in spans)
    assert sizes == [2 * row_bytes, 4 * row_bytes]  # rows 0 to 3 in one request, and 6 and 7
    assert np.array_equal(rows.take(np.array([1, 2, 6])), wanted[[1, 2, 6]]) and len(spans) == 2
    assert np.array_equal(np.stack(list(rows.views(np.arange(12)))), wanted)
    assert sum(stop - start for start, stop in spans) == wanted.nbytes


def test_fetched_rows_are_removed_with_their_dataset(
    remote: tuple[RemoteRows, Spans], tmp_path: Path
) -> None:
    spool = RowSpool(remote[0].files, [], tmp_path / "spool")
    assert list((tmp_path / "spool").iterdir())
    del spool
    gc.collect()
    assert not (tmp_path / "spool").exists()


def test_window_of_fetched_rows_holds_its_values(
    remote: tuple[RemoteRows, Spans], sharded_zoo: Path
) -> None:
    part = remote[0].part(10, 30).part(5, 9)
    assert np.array_equal(part.take(np.arange(12)), rows_of(sharded_zoo)[:, 15:19])


def test_fetched_rows_go_to_no_other_process_and_have_no_files(
    remote: tuple[RemoteRows, Spans], sharded_zoo: Path
) -> None:
    with pytest.raises(TypeError, match="cannot be pickled: load the zoo with streaming=False"):
        pickle.dumps(remote[0])
    dataset: ZooDataset = replace(load_zoo(sharded_zoo, split="train"), source=remote[0])
    with pytest.raises(ValueError, match="WindowReader reads files: load the zoo with"):
        WindowReader(dataset, token_size=8, length=3)
