"""Collections: one tensor of all members, and what keeps them from being merged."""

from pathlib import Path

import pytest
import torch
from make_checkpoints import TOKENS, llama_tensors, make_adapter, make_checkpoint

from weightzoo.loaders import load_zoo
from weightzoo.loaders.collections import (
    ModelCollection,
    ZooMember,
    find_conflicts,
    open_collection,
)
from weightzoo.zoos.errors import MergeError

QUERY = "model.layers.0.self_attn.q_proj.weight"


def kinds(collection: ModelCollection) -> list[str]:
    return [conflict.kind for conflict in find_conflicts(collection)]


def test_pool_of_folders_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    for seed in range(3):
        make_checkpoint(tmp_path / "pool" / f"m{seed}", llama_tensors(seed), shards=1 + seed)
    collection = open_collection([tmp_path / "pool"])
    assert find_conflicts(collection) == [] and len(collection.tensors) == 6
    for seed, value in enumerate(collection.read(QUERY)):
        assert torch.equal(value, llama_tensors(seed)[QUERY])


def test_adapter_is_a_member_with_its_base(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", llama_tensors(0, torch.bfloat16))
    adapter = make_adapter(tmp_path / "adapter", base)
    (member,) = open_collection([adapter]).members
    delta = member.adapter.delta(QUERY)  # type: ignore[attr-defined]
    wanted = (llama_tensors(0, torch.bfloat16)[QUERY].float() + delta).bfloat16()
    assert torch.equal(member.read(QUERY), wanted)
    assert torch.equal(member.block(QUERY, 3, 11), wanted.flatten()[3:11])
    assert torch.equal(
        member.read("lm_head.weight"), llama_tensors(0, torch.bfloat16)["lm_head.weight"]
    )


def test_adapter_without_its_base_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="trained on 'org/model', which is not here"):
        open_collection([make_adapter(tmp_path / "adapter", "org/model")])
    tensors = llama_tensors(0)
    tensors[QUERY] = tensors[QUERY][:, :4].contiguous()
    base = make_checkpoint(tmp_path / "narrow", tensors)
    with pytest.raises(MergeError, match="by \\(8, 8\\)"):
        open_collection([tmp_path / "adapter"], base)


def test_row_of_a_zoo_is_a_member(tiny_zoo: Path) -> None:
    zoo = load_zoo(tiny_zoo, split="train")
    collection = ModelCollection([ZooMember(zoo, 2), ZooMember(zoo, 5)])
    assert find_conflicts(collection) == []
    for index, member in zip((2, 5), collection.members, strict=True):
        for name, value in zoo.state_dict(index).items():
            assert torch.equal(member.read(name), value)
            assert torch.equal(member.block(name, 1, 2), value.flatten()[1:2])


def test_vocabularies_and_tokenizers_are_named_before_shapes(tmp_path: Path) -> None:
    one = make_checkpoint(tmp_path / "a", llama_tensors(0), config={"vocab_size": TOKENS})
    more = llama_tensors(1, tokens=TOKENS + 1)
    two = make_checkpoint(tmp_path / "b", more, config={"vocab_size": TOKENS + 1}, vocabulary="x")
    conflicts = find_conflicts(open_collection([one, two]))
    assert [c.kind for c in conflicts] == ["vocabulary", "tokenizer", "shape", "shape"]
    assert f"{TOKENS!r} and {TOKENS + 1!r}" in conflicts[0].text
    assert conflicts[1].text.count("sha256:") == 2


def test_tied_head_against_an_untied_one_is_found(tmp_path: Path) -> None:
    tensors = llama_tensors(0)
    one = make_checkpoint(tmp_path / "a", tensors)
    tensors.pop("lm_head.weight")
    two = make_checkpoint(tmp_path / "b", tensors, config={"tie_word_embeddings": True})
    assert kinds(open_collection([one, two])) == ["tied", "keys"]


def test_integer_tensors_and_repeated_members_are_found(tmp_path: Path) -> None:
    tensors = llama_tensors(0) | {"quantised": torch.ones(4, 4, dtype=torch.int8)}
    one = make_checkpoint(tmp_path / "a", tensors)
    assert kinds(open_collection([one, one])) == ["twice", "type", "type"]


def test_folder_without_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="holds no safetensors checkpoint"):
        open_collection([tmp_path])
