"""Layer stacks and FFN-level mixtures of checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from make_checkpoints import TOKENS, WIDTH, llama_tensors, make_checkpoint

from weightzoo.tasks.merging.layer_stack import layer_plan, stack_layers
from weightzoo.tasks.mixtures.expert_checkpoint import assemble_experts
from weightzoo.zoos.errors import MergeError
from weightzoo.zoos.tensors.checkpoint_folder import open_checkpoint_folder

QUERY, NORM = "self_attn.q_proj.weight", "model.norm.weight"


def pool(folder: Path, members: int = 2) -> list[Path]:
    config = {"num_hidden_layers": 1, "hidden_size": WIDTH, "model_type": "llama"}
    return [
        make_checkpoint(folder / f"m{seed}", llama_tensors(seed), config=config)
        for seed in range(members)
    ]


def test_plan_concatenates_or_interleaves() -> None:
    assert layer_plan(2, 2, "concatenate") == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert layer_plan(2, 2, "interleave") == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_stack_holds_all_layers_and_the_mean_of_the_rest(tmp_path: Path) -> None:
    stack_layers(pool(tmp_path, 3), tmp_path / "out")
    folder = open_checkpoint_folder(tmp_path / "out")
    assert folder.config["num_hidden_layers"] == 3
    for layer in range(3):
        wanted = llama_tensors(layer)[f"model.layers.0.{QUERY}"]
        assert torch.equal(folder.read(f"model.layers.{layer}.{QUERY}"), wanted)
    mean = torch.stack([llama_tensors(seed)[NORM] for seed in range(3)]).mean(0)
    assert torch.allclose(folder.read(NORM), mean)
    with pytest.raises(MergeError, match="order must be one of"):
        stack_layers(pool(tmp_path / "more"), tmp_path / "other", "shuffle")


def test_experts_keep_their_blocks_and_share_the_rest(tmp_path: Path) -> None:
    assemble_experts(pool(tmp_path), tmp_path / "out", seed=3)
    folder = open_checkpoint_folder(tmp_path / "out")
    for expert in range(2):
        name = f"model.layers.0.block_sparse_moe.experts.{expert}.w3.weight"
        assert torch.equal(
            folder.read(name), llama_tensors(expert)["model.layers.0.mlp.up_proj.weight"]
        )
    assert folder.read("model.layers.0.block_sparse_moe.gate.weight").shape == (2, WIDTH)
    mean = (llama_tensors(0)[NORM] + llama_tensors(1)[NORM]) / 2
    assert torch.allclose(folder.read(NORM), mean)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["num_local_experts"]) == ("mixtral", 2)
    assert (config["rms_norm_eps"], config["rope_theta"]) == (1e-6, 10000.0)  # Llama's, unsaid


def test_gate_from_prompts_prefers_the_experts_own_tokens(tmp_path: Path) -> None:
    prompts = [[1, 2, 3], [7, 8, 9]]
    assemble_experts(pool(tmp_path), tmp_path / "out", gate="prompts", prompts=prompts)
    gate = open_checkpoint_folder(tmp_path / "out").read(
        "model.layers.0.block_sparse_moe.gate.weight"
    )
    scores = llama_tensors(0)["model.embed_tokens.weight"] @ gate.T
    assert scores[prompts[0]].mean(0).argmax() == 0 and scores[prompts[1]].mean(0).argmax() == 1
    assert torch.allclose(gate.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("prompts", [[], [[1]], [[1], []], [[1], [TOKENS]]])
@pytest.mark.parametrize("gate", ["prompts", "trained"])
def test_prompts_that_do_not_fit_are_refused(
    tmp_path: Path, prompts: list[list[int]], gate: str
) -> None:
    with pytest.raises(MergeError, match=f"'{gate}' needs 2 lists of token numbers below 12"):
        assemble_experts(pool(tmp_path), tmp_path / "out", gate=gate, prompts=prompts)
    assert not (tmp_path / "out").exists()
