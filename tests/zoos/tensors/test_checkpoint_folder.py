"""Checkpoint folders: shards, index, config and tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from make_checkpoints import llama_tensors, make_adapter, make_checkpoint

from weightzoo.zoos.errors import ZooFormatError, ZooNotFoundError
from weightzoo.zoos.tensors.adapters import open_adapter
from weightzoo.zoos.tensors.checkpoint_folder import open_checkpoint_folder


@pytest.mark.parametrize("shards", [1, 3])
def test_folder_reads_all_tensors_from_any_number_of_shards(tmp_path: Path, shards: int) -> None:
    wanted = llama_tensors(0, torch.bfloat16)
    folder = open_checkpoint_folder(make_checkpoint(tmp_path / "a", wanted, shards=shards))
    assert folder.tensors.keys() == wanted.keys()
    assert all(torch.equal(folder.read(name), value) for name, value in wanted.items())
    assert folder.tied is False and folder.tokenizer is not None


def test_missing_shard_is_named(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "a", llama_tensors(0), shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ZooNotFoundError, match="lacks the shards.*model-00002"):
        open_checkpoint_folder(folder)


def test_index_that_names_other_tensors_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "a", llama_tensors(0), shards=2)
    index = folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"].pop("lm_head.weight")
    index.write_text(json.dumps(listed))
    with pytest.raises(ZooFormatError, match="differ in .'lm_head.weight'"):
        open_checkpoint_folder(folder)
    listed["weight_map"]["lm_head.weight"] = "../other.safetensors"
    index.write_text(json.dumps(listed))
    with pytest.raises(ZooFormatError, match="outside its folder"):
        open_checkpoint_folder(folder)


def test_tokenizer_digest_ignores_the_chat_template(tmp_path: Path) -> None:
    one = make_checkpoint(tmp_path / "a", llama_tensors(0))
    two = make_checkpoint(tmp_path / "b", llama_tensors(0))
    other = make_checkpoint(tmp_path / "c", llama_tensors(0), vocabulary="other words")
    (two / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    digests = [open_checkpoint_folder(folder).tokenizer for folder in (one, two, other)]
    assert digests[0] == digests[1] != digests[2]


def test_adapter_delta_is_the_scaled_product_of_its_factors(tmp_path: Path) -> None:
    adapter = open_adapter(make_adapter(tmp_path / "a", "base", rank=2))
    (name,) = adapter.factors
    assert name == "model.layers.0.self_attn.q_proj.weight"
    a, b = (adapter.file.read(factor) for factor in adapter.factors[name])
    assert torch.allclose(adapter.delta(name), 6 / 2 * b @ a)


def test_adapter_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", "base")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))
    with pytest.raises(ZooFormatError, match="kind .DoRA.: only LORA"):
        open_adapter(folder)
