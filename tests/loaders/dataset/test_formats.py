"""Formats: layer sets are read where the rows lie, with and without a compiler."""

from pathlib import Path

import pytest
import torch

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.zoos.errors import ZooFormatError


@pytest.mark.parametrize("options", [{}, {"in_memory": True}, {"verify_on_read": True}])
def test_layer_sets_are_equal_with_and_without_a_compiler(
    tiny_zoo: Path,
    sharded_zoo: Path,
    options: dict[str, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zoos = [load_zoo(path, split="train", **options) for path in (tiny_zoo, sharded_zoo)]
    wanted = ([5, 0, 5, -2], slice(1, -1), [])
    for rows in (*zoos, *(zoo.window(7, 40) for zoo in zoos)):
        sets = rows.with_format("layer_sets", chunk_size=4)
        found = [sets[index]["values"].clone() for index in wanted]
        with monkeypatch.context() as patch:
            patch.setattr("weightzoo.loaders.dataset.formats.can_cut_rows", lambda: False)
            patch.setattr("weightzoo.zoos.tokens.copy_plan.library", lambda: None)
            plain = [sets[index]["values"] for index in wanted]
        assert [len(values) for values in found] == [4, len(rows) - 2, 0]
        assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))


def test_layer_sets_of_a_changed_file_raise_an_error(train: ZooDataset) -> None:
    sets = train.with_format("layer_sets")
    assert sets[[0]]["values"].abs().sum() > 0
    path = train.source.files[0].path
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ZooFormatError, match="changed since it was opened"):
        sets[[0]]
