"""Gates of feed-forward experts that are trained on prompts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from weightzoo.tasks.mixtures.expert_checkpoint import assemble_experts
from weightzoo.tasks.mixtures.token_gates import fit_token_gates
from weightzoo.zoos.tensors.checkpoint_folder import open_checkpoint_folder

TOKENS, WIDTH, LAYERS = 12, 8, 2


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.mlp(hidden).tanh()


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(num_hidden_layers=LAYERS)
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.embedding(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def test_trained_gates_send_tokens_to_the_experts_of_their_prompts() -> None:
    model, prompts = Decoder(), [[0, 1, 2, 3] * 40, [4, 5, 6, 7] * 5, [8, 9, 10, 11]]
    gates = fit_token_gates(model, prompts)
    assert [gate.shape for gate in gates] == [(3, WIDTH)] * LAYERS
    hidden = model.embedding.weight
    for gate, layer in zip(gates, model.layers, strict=True):
        chosen = (hidden @ gate.T).argmax(1)
        assert chosen.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        hidden = layer(hidden)
    assert not any(layer.mlp._forward_pre_hooks for layer in model.layers)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers
def test_trained_gates_of_checkpoints_send_prompts_to_their_experts(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=TOKENS, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2,
    )  # fmt: skip
    for seed in range(2):
        torch.manual_seed(seed)
        transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / f"m{seed}")
    members = [tmp_path / "m0", tmp_path / "m1"]
    prompts = [[0, 1, 2, 3, 4, 5] * 8, [6, 7, 8, 9, 10, 11] * 8]
    assemble_experts(members, tmp_path / "out", gate="trained", prompts=prompts)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    own = model(input_ids=torch.tensor(prompts), output_router_logits=True).router_logits
    for logits in own:
        chosen = logits.view(2, 48, 2).argmax(2).double().mean(1)
        assert chosen[0] < 0.2 and chosen[1] > 0.8
    stored = open_checkpoint_folder(tmp_path / "out")
    gates = [n for n in stored.tensors if n.endswith("block_sparse_moe.gate.weight")]
    assert len(gates) == 2 and not torch.equal(*(stored.read(name) for name in gates))
