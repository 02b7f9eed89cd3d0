"""Model-level mixtures of a zoo's networks: whole networks as experts, and a gate that picks one.

Beside gates from data prototypes, random and trained ones stand what any gate has to be compared
with: the most confident expert, the mean of probabilities, and an oracle that always picks right.

Shape letters: E experts, N images, C classes, F features, D length of the flat weight vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...zoos.errors import MergeError
from ...zoos.images.catalog import Images
from ...zoos.networks.architectures import Architecture
from ..autoencoding.behaviour import logits

GATE_STEPS, GATE_DECAY = 300, 1e-3


@dataclass(frozen=True)
class Experts:
    """Networks of one architecture.

    Attributes:
        architecture: architecture of all networks.
        weights_ED: flat weights.
        activations: E names.
    """

    architecture: Architecture
    weights_ED: Tensor
    activations: tuple[str, ...]

    def log_probabilities(self, images: Images) -> Tensor:
        """(E, N, C)."""
        values = logits(self.architecture, self.weights_ED, list(self.activations), images)
        return values.transpose(1, 2).log_softmax(2)

    def features(self, images: Images) -> Tensor:
        """(N, F): what enters the last linear layer, averaged over the experts."""
        table = self.architecture.layer_table()
        total = torch.zeros(())
        for weights, activation in zip(self.weights_ED, self.activations, strict=True):
            module = self.architecture.module(activation).eval()
            module.load_state_dict(table.state_dict(weights))
            total = total + penultimate_features(module, images.pixels)
        return total / len(self.weights_ED)


@dataclass(frozen=True)
class Gate:
    """A linear gate: the expert with the highest score is used.

    Attributes:
        weight_EF: one direction per expert.
        bias_E: bias of the scores.
    """

    weight_EF: Tensor
    bias_E: Tensor

    def choose(self, features_NF: Tensor) -> Tensor:
        """(N,): the expert for every image."""
        return (features_NF @ self.weight_EF.T + self.bias_E).argmax(1)


def penultimate_features(module: nn.Module, pixels: Tensor) -> Tensor:
    """(N, F): the input of a network's last linear layer.

    Args:
        module: network of the zoo.
        pixels: images, (N, C, H, W).

    Raises:
        MergeError: if it has none.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise MergeError("a gate takes the input of the last linear layer, and there is none")
    seen = list[Tensor]()
    hook = layers[-1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        module(pixels)
    hook.remove()
    return seen[0].flatten(1)


def best_experts(log_probabilities_ENC: Tensor, labels: Tensor) -> Tensor:
    """(N,): the expert with the lowest loss on every image.

    Args:
        log_probabilities_ENC: log-probabilities by expert, image and class.
        labels: true classes, (N,).
    """
    own = log_probabilities_ENC.gather(2, labels.expand(len(log_probabilities_ENC), -1)[..., None])
    return own[..., 0].argmax(0)


def prototype_gate(features_NF: Tensor, experts_N: Tensor, experts: int) -> Gate:
    """Directions from the mean feature of other experts' images to that of its own.

    Source: Model-GLUE's gates from positive and negative prompts, with images in their place.

    Args:
        features_NF: features of val images.
        experts_N: the expert that each belongs to.
        experts: E.
    """
    centred = features_NF - features_NF.mean(0)
    weight = torch.zeros(experts, features_NF.shape[1])
    for expert in range(experts):
        own = experts_N == expert
        if own.any() and not own.all():
            weight[expert] = centred[own].mean(0) - centred[~own].mean(0)
    weight = F.normalize(weight, dim=1)
    return Gate(weight, -(weight @ features_NF.mean(0)))


def random_gate(features: int, experts: int, seed: int) -> Gate:
    """Directions without any data, for control.

    Args:
        features: number of gate features.
        experts: number of experts.
        seed: random seed.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(experts, features, generator=generator)
    return Gate(F.normalize(weight, dim=1), torch.zeros(experts))


def trained_gate(
    features_NF: Tensor,
    experts_N: Tensor,
    experts: int,
    *,
    bias: bool = True,
    balanced: bool = False,
) -> Gate:
    """Softmax regression from features to the expert, trained on val images.

    Args:
        features_NF: features of val images.
        experts_N: the expert that each should go to.
        experts: E.
        bias: whether the gate has a bias; without one its bias is zero.
        balanced: whether experts with few features count as much as those with many.
    """
    mean, scale = features_NF.mean(0) * bias, features_NF.std(0).clamp_min(1e-6)
    inputs = (features_NF - mean) / scale
    weight = torch.zeros(experts, inputs.shape[1], requires_grad=True)
    offset = torch.zeros(experts, requires_grad=bias)
    learned = [weight, offset] if bias else [weight]
    shares = 1 / experts_N.bincount(minlength=experts).clamp_min(1) if balanced else None
    optimizer = torch.optim.Adam(learned, lr=0.05, weight_decay=GATE_DECAY)
    with torch.enable_grad():
        for _ in range(GATE_STEPS):
            optimizer.zero_grad()
            F.cross_entropy(inputs @ weight.T + offset, experts_N, shares).backward()
            optimizer.step()
    own = weight.detach() / scale
    return Gate(own, offset.detach() - own @ mean)


def fitted_gates(experts: Experts, val: Images, seed: int = 0) -> dict[str, Gate]:
    """The three gates by name, from val images alone.

    Args:
        experts: expert networks and their outputs.
        val: val images.
        seed: random seed.
    """
    features = experts.features(val)
    belongs = best_experts(experts.log_probabilities(val), val.labels)
    count = len(experts.weights_ED)
    return {
        "prototype gate": prototype_gate(features, belongs, count),
        "random gate": random_gate(features.shape[1], count, seed),
        "trained gate": trained_gate(features, belongs, count),
    }


def mixture_accuracies(
    experts: Experts, gates: Mapping[str, Gate], images: Images
) -> dict[str, float]:
    """Accuracy of every expert, every gate, and the rows to compare gates with.

    Args:
        experts: E networks.
        gates: gates by name.
        images: N images that neither experts nor gates have seen.
    """
    scores_ENC = experts.log_probabilities(images)
    right_EN = scores_ENC.argmax(2) == images.labels
    features = experts.features(images)
    rows = {f"expert {place}": right for place, right in enumerate(right_EN)}
    rows |= {name: _picked(right_EN, gate.choose(features)) for name, gate in gates.items()}
    rows["most confident expert"] = _picked(right_EN, scores_ENC.amax(2).argmax(0))
    mean_NC = scores_ENC.exp().mean(0)
    rows["mean of probabilities"] = mean_NC.argmax(1) == images.labels
    rows["oracle"] = right_EN.any(0)
    return {name: float(right.double().mean()) for name, right in rows.items()}


def _picked(right_EN: Tensor, experts_N: Tensor) -> Tensor:
    return right_EN.gather(0, experts_N[None])[0]
