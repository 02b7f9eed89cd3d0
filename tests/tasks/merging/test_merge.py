"""Merging checkpoint folders: results, refusals, kills."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from make_checkpoints import llama_tensors, make_adapter, make_checkpoint

from weightzoo.tasks.merging import merge, output
from weightzoo.tasks.merging.merge import merge_checkpoints
from weightzoo.tasks.merging.recipe import MergeRecipe, read_merge_recipe
from weightzoo.zoos.errors import MergeError, ZooFormatError
from weightzoo.zoos.tensors.checkpoint_folder import open_checkpoint_folder

QUERY = "model.layers.0.self_attn.q_proj.weight"
KILLED = """
import os, signal, sys
from pathlib import Path
from weightzoo.tasks.merging import merge
from weightzoo.tasks.merging.recipe_file import load_merge_recipe
merge.SYNC_BYTES = 1
calls = []
def progress(done, total):
    calls.append(done)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
merge.merge_checkpoints(load_merge_recipe(sys.argv[1]), Path(sys.argv[2]), progress=progress)
"""


def pool(folder: Path, members: int = 3, **config: Any) -> list[str]:
    return [
        str(make_checkpoint(folder / f"m{seed}", llama_tensors(seed), **config))
        for seed in range(members)
    ]


def recipe(members: list[str], method: str = "mean", **more: Any) -> MergeRecipe:
    return read_merge_recipe({"method": method, "members": members} | more)


def test_merged_folder_holds_the_mean_and_the_side_files(tmp_path: Path) -> None:
    members = pool(tmp_path)
    report = merge_checkpoints(recipe(members), tmp_path / "out")
    folder = open_checkpoint_folder(tmp_path / "out")
    wanted = torch.stack([llama_tensors(seed)[QUERY] for seed in range(3)]).mean(0)
    assert torch.allclose(folder.read(QUERY), wanted)
    assert folder.tokenizer == open_checkpoint_folder(members[0]).tokenizer
    assert report.weights == {name: (1 / 3, 1 / 3) for name in members}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "README.md", "config.json", "merge.json", "model.safetensors", "tokenizer.json"
    }  # fmt: skip


def test_shards_dtype_and_index_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "SHARD_BYTES", 200)
    merge_checkpoints(recipe(pool(tmp_path), dtype="bfloat16"), tmp_path / "out")
    folder = open_checkpoint_folder(tmp_path / "out")
    assert len({file.source.name for file in folder.homes.values()}) == 5
    assert {kind.dtype for kind in folder.tensors.values()} == {"bfloat16"}
    assert folder.config["dtype"] == "bfloat16"


def test_weights_as_applied_are_recorded_for_every_tensor(tmp_path: Path) -> None:
    base, *members = pool(tmp_path)
    settings = {"scale": 0.5, "weights": [1.0, 0.2]}
    with pytest.warns(UserWarning, match="may be no ancestor"):  # all four are random
        merge_checkpoints(
            recipe(members, "task_arithmetic", base=base, settings=settings), tmp_path / "out"
        )
    record = json.loads((tmp_path / "out" / "merge.json").read_text())
    assert record["weights_as_applied"][QUERY] == pytest.approx([0.5, 0.1, 0.4])


def test_adapters_are_merged_with_their_base(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", llama_tensors(0))
    adapters = [str(make_adapter(tmp_path / f"a{seed}", base, seed=seed)) for seed in (1, 2)]
    merge_checkpoints(recipe(adapters, base=str(base)), tmp_path / "out")
    merged = open_checkpoint_folder(tmp_path / "out")
    deltas = [merge.open_members(recipe([one])).members[0].adapter.delta(QUERY) for one in adapters]  # type: ignore[attr-defined]
    assert torch.allclose(merged.read(QUERY), llama_tensors(0)[QUERY] + sum(deltas) / 2, atol=1e-5)
    assert torch.equal(merged.read("lm_head.weight"), llama_tensors(0)["lm_head.weight"])


def test_killed_merge_leaves_nothing_and_goes_on(tmp_path: Path) -> None:
    members = pool(tmp_path)
    merge_checkpoints(recipe(members), tmp_path / "whole")
    file, out = tmp_path / "recipe.toml", tmp_path / "out"
    file.write_text(f'method = "mean"\nmembers = {members}\n')
    done = subprocess.run([sys.executable, "-c", KILLED, str(file), str(out)], timeout=120)
    assert done.returncode == -signal.SIGKILL and not out.exists()
    report = merge_checkpoints(recipe(members), out)
    assert report.resumed == 3  # synced before the kill, and not merged again
    assert (out / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    assert not out.with_name("out.partial").exists()


def test_unfinished_merge_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    members, out = pool(tmp_path), tmp_path / "out"
    state = {"recipe": recipe(members[:2]).to_json(), "inputs": []}
    with pytest.raises(ZeroDivisionError), output.merge_folder(out, state, False):
        raise ZeroDivisionError
    with pytest.raises(MergeError, match="unfinished merge of other members"):
        merge_checkpoints(recipe(members), out)
    assert merge_checkpoints(recipe(members), out, overwrite=True).resumed == 0


def test_taken_folder_is_not_overwritten(tmp_path: Path) -> None:
    members, out = pool(tmp_path), tmp_path / "out"
    merge_checkpoints(recipe(members), out)
    with pytest.raises(MergeError, match="exists: choose another --out"):
        merge_checkpoints(recipe(members), out)
    merge_checkpoints(recipe(members[:2]), out, overwrite=True)
    with pytest.raises(MergeError, match="is no merge"):
        merge_checkpoints(recipe(members), Path(members[0]), overwrite=True)


def test_second_merge_at_work_is_refused(tmp_path: Path) -> None:
    members, out = pool(tmp_path), tmp_path / "out"
    with pytest.raises(MergeError, match="another merge is writing"):
        with output.merge_folder(out, {}, False):
            merge_checkpoints(recipe(members), out)


def test_members_that_do_not_go_together_are_refused_before_writing(tmp_path: Path) -> None:
    members = pool(tmp_path)
    other = make_checkpoint(tmp_path / "other", llama_tensors(5), vocabulary="x")
    with pytest.raises(MergeError, match="differ in their tokenizer.*sha256:.*sha256:"):
        merge_checkpoints(recipe([*members, str(other)]), tmp_path / "out")
    with pytest.raises(MergeError, match="is a member 2 times"):
        merge_checkpoints(recipe([members[0], members[0]]), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_nan_in_a_member_is_named_and_nothing_is_left_under_the_final_name(tmp_path: Path) -> None:
    broken = llama_tensors(4)
    broken[QUERY][1, 1] = float("nan")
    members = [*pool(tmp_path), str(make_checkpoint(tmp_path / "broken", broken))]
    with pytest.raises(MergeError, match=f"'{QUERY}' of .*broken holds NaN"):
        merge_checkpoints(recipe(members), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_shard_is_refused(tmp_path: Path) -> None:
    members = pool(tmp_path)
    path = Path(members[1]) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ZooFormatError, match="truncated or damaged"):
        merge_checkpoints(recipe(members), tmp_path / "out")


def test_disk_without_room_is_found_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MergeError, match="takes 1,600 bytes and .* has room for 1,000"):
        merge_checkpoints(recipe(pool(tmp_path)), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
