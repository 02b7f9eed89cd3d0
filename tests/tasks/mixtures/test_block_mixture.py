"""Mixtures of decoder layers, and of all layers by one decision."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from weightzoo.tasks.mixtures.block_mixture import (
    MixedLayer,
    SequenceRouter,
    decoder_layers,
    fit_routers,
    mix_layers,
)
from weightzoo.zoos.errors import MergeError

TOKENS, WIDTH, LAYERS, POOLED = 12, 8, 3, 4


class Layer(nn.Module):
    """Causal: every position sees the running mean of those before it."""

    kind = "full_attention"

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, scale: float = 1.0, past_key_values: Any = None) -> Tensor:
        places = torch.arange(1, hidden.shape[1] + 1)[:, None]
        return hidden + scale * self.linear(hidden.cumsum(1) / places).tanh()


class Decoder(nn.Module):
    """What the mixtures need of a causal language model."""

    def __init__(self, seed: int, embedding: nn.Embedding | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.config = SimpleNamespace(num_hidden_layers=LAYERS, hidden_size=WIDTH)
        self.embedding = embedding or nn.Embedding(TOKENS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.embedding(input_ids)
        for layer in self.layers:
            assert layer.kind == "full_attention"
            hidden = layer(hidden, scale=2.0)
        return hidden @ self.embedding.weight.T


def pool(count: int = 3) -> list[Decoder]:
    first = Decoder(0)
    return [first, *(Decoder(seed, first.embedding) for seed in range(1, count))]


def prompts_of(count: int = 3) -> list[Tensor]:
    torch.manual_seed(5)
    return [torch.randint(4 * i, 4 * i + 4, (6, 7)) for i in range(count)]


def mixed(level: str = "block", gate: str = "trained", shared: int = 0) -> nn.Module:
    members = pool()
    model = mix_layers(members[0], members, level, shared_layers=shared, pooled_tokens=POOLED)
    fit_routers(model, prompts_of(), gate)
    return model


@pytest.mark.parametrize("level", ["block", "model"])
def test_mixture_of_identical_models_is_that_model(level: str) -> None:
    model = Decoder(0)
    mixture = mix_layers(model, [model, model], level, experts_per_sequence=2)
    fit_routers(mixture, prompts_of(2), "random", seed=3)
    tokens = prompts_of()[2]
    assert torch.allclose(mixture(tokens), model(tokens), atol=1e-6)


def test_decision_of_a_model_level_gate_holds_for_all_later_layers() -> None:
    members, tokens = pool(), prompts_of()[0]
    mixture = mix_layers(members[0], members, "model", shared_layers=1)
    (router,) = [one for one in mixture.modules() if isinstance(one, SequenceRouter)]
    with torch.no_grad():
        router.gate.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    wanted = Decoder(0, members[0].embedding)
    wanted.layers = nn.ModuleList([members[0].layers[0], *members[2].layers[1:]])
    assert torch.allclose(mixture(tokens), wanted(tokens), atol=1e-6)


@pytest.mark.parametrize("gate", ["prompts", "trained"])
def test_fitted_gates_send_prompts_to_their_experts(gate: str) -> None:
    mixture = mixed(gate=gate)
    for expert, tokens in enumerate(prompts_of()):
        mixture(tokens)
        layers = [layer for layer in decoder_layers(mixture) if isinstance(layer, MixedLayer)]
        assert len(layers) == LAYERS
        for layer in layers:
            assert layer.router is not None and layer.router.shares_BE is not None
            assert (layer.router.shares_BE.argmax(1) == expert).double().mean() > 0.8


def test_gates_see_no_token_after_the_first_ones() -> None:
    mixture, tokens = mixed(), prompts_of()[1]
    other = tokens.clone()
    other[:, POOLED:] = 0
    before, after = mixture(tokens), mixture(other)
    assert torch.equal(before[:, :POOLED], after[:, :POOLED])
    assert not torch.equal(before[:, POOLED:], after[:, POOLED:])


def test_sequences_of_one_batch_go_their_own_ways() -> None:
    mixture = mixed()
    tokens = torch.cat([own[:2] for own in prompts_of()])
    alone = torch.cat([mixture(row[None]) for row in tokens])
    assert torch.allclose(mixture(tokens), alone, atol=1e-6)


def test_first_layers_are_shared_where_that_is_asked_for() -> None:
    layers = decoder_layers(mixed(shared=2))
    assert [isinstance(layer, MixedLayer) for layer in layers] == [False, False, True]


def test_mixtures_that_cannot_be_made_are_refused() -> None:
    members = pool()
    with pytest.raises(MergeError, match="level must be one of"):
        mix_layers(members[0], members, "token")
    with pytest.raises(MergeError, match="shared_layers must lie within 0 and 2, got 3"):
        mix_layers(members[0], members, shared_layers=3)
    with pytest.raises(MergeError, match="experts_per_sequence must lie within 1 and 3, got 4"):
        mix_layers(members[0], members, experts_per_sequence=4)
    mixture = mix_layers(members[0], members)
    with pytest.raises(MergeError, match="prompts are needed for 3 experts, got 2"):
        fit_routers(mixture, prompts_of(2), "trained")
    with pytest.raises(MergeError, match="gate must be one of"):
        fit_routers(mixture, prompts_of(), "best")
    with pytest.raises(MergeError, match="pass use_cache=False"):
        decoder_layers(mixture)[0](torch.zeros(1, 2, WIDTH), past_key_values=object())
