"""Block-level and model-level mixtures: decoder layers of several models as experts.

At block level every layer has a linear gate of its own. At model level one gate decides, and its
decision holds for all layers after it. Embeddings, norms and head are shared, and so are the first
layers, if that is wished. A gate sees the mean hidden state of the first tokens of a sequence and
none of those that follow, so that losses after these tokens are honest.

Source: the block-level and model-level mixtures of Model-GLUE, written independently; there the
gates see the mean of all tokens.

Shape letters: B sequences, T tokens, W width, E experts, N prompts.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...zoos.errors import MergeError
from ..merging.mixture import Gate, prototype_gate, random_gate, trained_gate

LEVELS = ("block", "model")
GATES = ("random", "prompts", "trained")
POOLED_TOKENS = 32
FitGate = Callable[[Tensor], Gate]


class SequenceRouter(nn.Module):
    """A gate that sends whole sequences to experts.

    Attributes:
        gate: linear layer from the pooled hidden state to one score per expert.
        pooled_tokens: first tokens of a sequence that the gate sees.
        experts_per_sequence: experts that a sequence is sent to.
        fit: makes the gate from the pooled hidden states of the next forward pass; None keeps it.
        shares_BE: share of every expert in the last forward pass.

    Example:
        >>> import torch
        >>> from weightzoo.tasks.mixtures.block_mixture import SequenceRouter
        >>> SequenceRouter(width=4, experts=3)(torch.randn(2, 9, 4)).sum(1)
        tensor([1., 1.], grad_fn=<SumBackward1>)
    """

    def __init__(
        self,
        width: int,
        experts: int,
        pooled_tokens: int = POOLED_TOKENS,
        experts_per_sequence: int = 1,
    ) -> None:
        """Make a gate that has no preference yet.

        Args:
            width: W.
            experts: E.
            pooled_tokens: first tokens of a sequence that the gate sees.
            experts_per_sequence: experts that a sequence is sent to.
        """
        super().__init__()
        self.gate = nn.Linear(width, experts)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.pooled_tokens, self.experts_per_sequence = pooled_tokens, experts_per_sequence
        self.fit: FitGate | None = None
        self.shares_BE: Tensor | None = None

    def forward(self, hidden_BTW: Tensor) -> Tensor:
        """(B, E): share of every expert, which sum to 1.

        Args:
            hidden_BTW: hidden states.
        """
        pooled_BW = hidden_BTW[:, : self.pooled_tokens].mean(1)
        if self.fit is not None:
            self._take(self.fit(pooled_BW.detach().float()))
        scores_BE = self.gate(pooled_BW).softmax(1)
        best = scores_BE.topk(self.experts_per_sequence, 1)
        shares_BE = torch.zeros_like(scores_BE).scatter(1, best.indices, best.values)
        self.shares_BE = shares_BE / shares_BE.sum(1, keepdim=True)
        return self.shares_BE

    def _take(self, gate: Gate) -> None:
        with torch.no_grad():
            self.gate.weight.copy_(gate.weight_EF)
            self.gate.bias.copy_(gate.bias_E)
        self.fit = None


class MixedLayer(nn.Module):
    """Decoder layers of several models in the place of one.

    Every expert that some sequence of the batch is sent to sees the whole batch.

    Attributes:
        experts: decoder layers.
        router: gate of its own; None follows the decision of another layer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from weightzoo.tasks.mixtures.block_mixture import MixedLayer, SequenceRouter
        >>> layer = MixedLayer([nn.Identity(), nn.Tanh()], SequenceRouter(4, 2))
        >>> layer(torch.zeros(2, 3, 4)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        experts: Sequence[nn.Module],
        router: SequenceRouter | None = None,
        decides: "MixedLayer | None" = None,
    ) -> None:
        """Hold the experts.

        Args:
            experts: decoder layers of one shape.
            router: gate of this layer.
            decides: earlier layer whose decision is followed where there is no router.
        """
        super().__init__()
        self.experts, self.router = nn.ModuleList(experts), router
        self._decides = [decides]  # in a list, so that it does not become a sub-module

    def forward(self, hidden_BTW: Tensor, *args: Any, **more: Any) -> Tensor:
        """(B, T, W): outputs of the experts, weighted by their shares.

        Args:
            hidden_BTW: hidden states.
            args: what else a decoder layer takes.
            more: what else a decoder layer takes by name.

        Raises:
            MergeError: if a cache of keys and values is given: experts would share it.
        """
        if any(more.get(key) is not None for key in ("past_key_values", "past_key_value")):
            raise MergeError("a mixture of layers keeps no keys and values: pass use_cache=False")
        shares_BE = self._shares(hidden_BTW)
        total = torch.zeros_like(hidden_BTW)
        for expert, module in enumerate(self.experts):
            if bool((shares_BE[:, expert] > 0).any()):
                out = module(hidden_BTW, *args, **more)
                out = out[0] if isinstance(out, tuple) else out
                total = total + shares_BE[:, expert, None, None].to(out.dtype) * out
        return total

    def _shares(self, hidden_BTW: Tensor) -> Tensor:
        if self.router is not None:
            return self.router(hidden_BTW)
        leader = self._decides[0]
        assert leader is not None and leader.router is not None
        assert leader.router.shares_BE is not None
        return leader.router.shares_BE

    def __getattr__(self, name: str) -> Any:
        """What a model asks of its layers, such as the type of attention, from the first expert."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "experts":
                raise
            return getattr(self.experts[0], name)


def mix_layers(
    shared: Any,
    experts: Sequence[Any],
    level: str = "block",
    *,
    shared_layers: int = 0,
    pooled_tokens: int = POOLED_TOKENS,
    experts_per_sequence: int = 1,
) -> Any:
    """A copy of a decoder model with layers of E models as experts.

    Args:
        shared: causal language model of `transformers` with embeddings, norms and head.
        experts: models of the same shape.
        level: "block" or "model".
        shared_layers: number of first layers that are taken from `shared` alone.
        pooled_tokens: first tokens of a sequence that a gate sees.
        experts_per_sequence: experts that a sequence is sent to.

    Raises:
        MergeError: if the level is unknown, or numbers do not fit the models.
    """
    mixed, layers = copy.deepcopy(shared), decoder_layers(shared)
    if level not in LEVELS:
        raise MergeError(f"level must be one of {LEVELS}, got {level!r}")
    if not 0 <= shared_layers < len(layers):
        raise MergeError(
            f"shared_layers must lie within 0 and {len(layers) - 1}, got {shared_layers!r}"
        )
    if not 1 <= experts_per_sequence <= len(experts):
        raise MergeError(
            f"experts_per_sequence must lie within 1 and {len(experts)}, got "
            f"{experts_per_sequence!r}"
        )
    first: MixedLayer | None = None
    width, places = shared.config.hidden_size, decoder_layers(mixed)
    for place in range(shared_layers, len(layers)):
        own = [copy.deepcopy(decoder_layers(expert)[place]) for expert in experts]
        router = SequenceRouter(width, len(experts), pooled_tokens, experts_per_sequence)
        decides = first is None or level == "block"
        layer = MixedLayer(own, router if decides else None, first)
        places[place], first = layer, first or layer
    mixed.config.use_cache = False
    return mixed.train(shared.training)


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder layers of a causal language model.

    Args:
        model: model of `transformers`.

    Raises:
        MergeError: if no list of modules has the length that the config names.
    """
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise MergeError(f"{type(model).__name__} has no list of {count} decoder layers")


def fit_routers(model: Any, prompts: Sequence[Tensor], gate: str, seed: int = 0) -> None:
    """Set all gates of a mixture, from the first layer to the last, in one forward pass.

    Args:
        model: result of `mix_layers`.
        prompts: token numbers that are typical of each expert, (N, T) per expert, alike in T.
        gate: "random"; "prompts", the mean state of an expert's prompts less that of the others';
            or "trained", a softmax regression from the state to the expert.
        seed: seed of random gates.

    Raises:
        MergeError: if the kind of gate is unknown, or prompts do not fit the experts.
    """
    if gate not in GATES:
        raise MergeError(f"gate must be one of {GATES}, got {gate!r}")
    routers = [module for module in model.modules() if isinstance(module, SequenceRouter)]
    experts = routers[0].gate.out_features
    if len(prompts) != experts or not all(len(own) for own in prompts):
        raise MergeError(f"prompts are needed for {experts} experts, got {len(prompts)}")
    belongs_N = torch.cat([torch.full((len(own),), i) for i, own in enumerate(prompts)])

    def fitting(place: int) -> FitGate:
        def fit(states_NW: Tensor) -> Gate:
            if gate == "random":
                return random_gate(states_NW.shape[1], experts, seed + place)
            make = prototype_gate if gate == "prompts" else trained_gate
            return make(states_NW, belongs_N, experts)

        return fit

    for place, router in enumerate(routers):
        router.fit = fitting(place)
    with torch.no_grad():
        model(input_ids=torch.cat(list(prompts)))
