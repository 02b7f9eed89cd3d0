"""The forward pass of many networks of one architecture at once, from their flat weights.

Pure functions of weights and inputs, differentiable once in both. The networks are run by the
kernels that populations are trained with: `torch.func.vmap` over modules needs about five times
the processor time, because it turns the networks' convolutions into grouped ones
(`benchmarks/speed/probing.py`).

Shape letters: M networks, D length of the flat vector, P inputs (images or points), O outputs, C
channels, H height, W width, F features, T tokens, E width of a token, U hidden units. Inside a
pass images are rows of channels with the inputs last, (M, H, C, W, P); features are (M, F, P);
tokens are (M, P, T, E), since only matrix products over their width are computed. A leading 1
instead of M means that all networks share the values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from . import layers
from .activations import Runs, activate, runs_of
from .architectures import Architecture
from .batched_layers import (
    attend,
    batch_norm,
    embed_positions,
    layer_norm,
    linear,
    look_up,
    pool_tokens,
)
from .convolution import conv2d, max_pool2d
from .layer_table import LayerTable
from .layers import Layer, layer_names

IMAGE_DIMENSIONS, TOKEN_DIMENSIONS = 5, 4


@dataclass(frozen=True, eq=False)
class NetworkBatch:
    """Networks of one architecture that run together.

    Attributes:
        architecture: architecture of all networks.
        activations: activation function of each network, M names in any order.
        weights: flat weights, (M, D).

    Example:
        >>> import torch
        >>> from weightzoo.zoos.networks.batched import NetworkBatch
        >>> from weightzoo.zoos.networks.presets import preset
        >>> cnn = preset("cnn-s")
        >>> weights = torch.randn(3, cnn.layer_table().width)
        >>> networks = NetworkBatch(cnn, ("relu", "tanh", "relu"), weights)
        >>> networks.outputs(torch.randn(5, 1, 28, 28)).shape
        torch.Size([3, 5, 10])
    """

    architecture: Architecture
    activations: tuple[str, ...]
    weights: Tensor

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if the weights do not fit the architecture, or an activation is unknown.
        """
        models, width = len(self.activations), layer_table_of(self.architecture).width
        if self.weights.shape != (models, width):
            raise ValueError(
                f"weights of {models} networks must have shape ({models}, D) with D={width} of the "
                f"layer table, got {tuple(self.weights.shape)}"
            )
        if odd := sorted(set(self.activations) - set(layers.ACTIVATIONS)):
            raise ValueError(f"activations must be of {list(layers.ACTIVATIONS)}, got {odd}")

    def __len__(self) -> int:
        """M."""
        return len(self.activations)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Run every network on the same inputs; dropout is off, batch norms use their statistics.

        Args:
            inputs: images (P, C, H, W), points (P, F) or token numbers (P, T).

        Returns:
            Logits, or values at the points, (M, P, O); those of a language model of every token,
            (M, P, T, O).

        Raises:
            ValueError: if the inputs are not of the architecture's shape.
        """
        return self._run(inputs, None)

    def responses(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run every network on the same inputs and keep what its hidden units answer.

        The values of a hidden unit of an image are averaged over its positions, those of tokens
        over all tokens.

        Args:
            inputs: images (P, C, H, W) or points (P, F).

        Returns:
            The result of `outputs`, and for every activation function of the architecture, input
            to output, its values (M, P, U).

        Raises:
            ValueError: if the inputs are not of the architecture's shape.
        """
        hidden: list[Tensor] = []
        return self._run(inputs, hidden), hidden

    def _run(self, inputs: Tensor, hidden: list[Tensor] | None) -> Tensor:
        shape = self.architecture.input_shape
        if inputs.shape[1:] != shape:
            raise ValueError(
                f"inputs of {self.architecture.name!r} must have shape (P, "
                f"{', '.join(map(str, shape))}), got {tuple(inputs.shape)}"
            )
        order = sorted(range(len(self)), key=lambda model: self.activations[model])
        runs = runs_of([self.activations[model] for model in order])  # long runs: fewer calls
        places = torch.tensor(order, device=self.weights.device)
        tensors = _tensors(self.architecture, self.weights[places])
        forward = BatchedPass(tensors.__getitem__, runs, hidden)
        outputs = forward.run(self.architecture.layers, "", _laid_out(inputs))
        if outputs.dim() < TOKEN_DIMENSIONS:
            outputs = outputs.mT
        back = places.argsort()
        if hidden is not None:
            hidden[:] = [values[back] for values in hidden]
        return outputs.expand(len(self), *outputs.shape[1:])[back]


class BatchedPass:
    """One forward pass; layers inside a residual run like all others."""

    def __init__(
        self,
        tensors: Callable[[str], Tensor],
        runs: Runs,
        hidden: list[Tensor] | None = None,
    ) -> None:
        """Set up a forward pass.

        Args:
            tensors: function from the name of a tensor to its values of all networks, (M, *shape).
            runs: name and networks of every run of equal activation functions, see `runs_of`.
            hidden: list that gets the values of every activation function, (M, P, U); None keeps
                none.
        """
        self._tensors, self._runs, self._hidden = tensors, runs, hidden
        self._models = max(models.stop for _, models in runs)

    def run(self, sequence: Sequence[Layer], prefix: str, x: Tensor) -> Tensor:
        """Run a sequence of layers.

        Args:
            sequence: layers, input to output.
            prefix: first part of the names of their tensors.
            x: input of the networks.
        """
        for name, layer, pool in _with_pools(sequence):
            x = self.layer(layer, f"{prefix}{name}", pool, x)
        return x

    def layer(self, layer: Layer, name: str, pool: int, x: Tensor) -> Tensor:
        """Run one layer; those that keep the shape are run by `same_shape`.

        Args:
            layer: layer to run.
            name: name of the layer, with its prefix.
            pool: side of the pooled squares after a convolution; 1 pools nothing.
            x: input of the networks.
        """
        match layer:
            case layers.Conv():
                bias = self.tensor(f"{name}.bias") if layer.bias else None
                weight = self.tensor(f"{name}.weight")
                return conv2d(x, weight, bias, layer.stride, layer.padding, pool)
            case layers.Linear():
                return linear(x, *self._weights(name))
            case layers.MaxPool():
                return max_pool2d(x, layer.size)
            case layers.GlobalAvgPool():
                return x.mean((1, 3))
            case layers.Flatten():
                return _flatten(x)
            case layers.Tokens():
                return x.permute(0, 4, 1, 3, 2).flatten(2, 3)
            case layers.TokenPool():
                return pool_tokens(x, layer.mode)
            case layers.Embedding():
                return look_up(x, self.tensor(f"{name}.weight"))
        return self.same_shape(layer, name, x.expand(self._models, *x.shape[1:]))

    def same_shape(self, layer: Layer, name: str, x: Tensor) -> Tensor:
        """Run a layer that keeps the shape and needs the values of every network.

        Args:
            layer: layer to run.
            name: name of the layer, with its prefix.
            x: input of the networks, (M, ...).

        Raises:
            NotImplementedError: if the batched pass does not know the layer.
        """
        match layer:
            case layers.Activation():
                return self._kept(activate(x, self._runs))
            case layers.Sine():
                return self._kept(torch.sin(layer.omega * x))
            case layers.Offset():
                return x + layer.value
            case layers.Dropout():
                return self.drop(x)
            case layers.BatchNorm():
                return self.batch_norm(name, x)
            case layers.LayerNorm():
                return layer_norm(x, *self._weights(name))
            case layers.PositionEmbedding():
                token = self.tensor(f"{name}.class_token") if layer.class_token else None
                return embed_positions(x, self.tensor(f"{name}.position"), token)
            case layers.Attention():
                projections = [
                    self._weights(f"{name}.{part}") for part in ("query", "key", "value", "out")
                ]
                causal = isinstance(layer, layers.CausalAttention)
                return attend(x, projections, layer.heads, causal)
            case layers.Residual():
                shortcut = self.run(layer.shortcut, f"{name}.shortcut.", x)
                return self.run(layer.body, f"{name}.body.", x) + shortcut
        raise NotImplementedError(f"the batched pass does not know the layer {layer!r}")

    def drop(self, x: Tensor) -> Tensor:
        """Values (M, ...) after a dropout layer, which is off here."""
        return x

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """Normalise images (M, H, C, W, P) by the running statistics of a batch norm.

        Args:
            name: name of the layer, with its prefix.
            x: images, (M, H, C, W, P).
        """
        state = [self.tensor(f"{name}.{buffer}") for buffer in ("running_mean", "running_var")]
        return batch_norm(x, *self._weights(name), [*state, state[0]], training=False)

    def tensor(self, name: str) -> Tensor:
        """A tensor of all networks by its name in the layer table, (M, *shape)."""
        return self._tensors(name)

    def _weights(self, name: str) -> tuple[Tensor, Tensor]:
        return self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")

    def _kept(self, x: Tensor) -> Tensor:
        """The values, after they were kept as hidden responses if asked for."""
        if self._hidden is not None:
            self._hidden.append(_per_unit(x))
        return x


@lru_cache(maxsize=64)
def layer_table_of(architecture: Architecture) -> LayerTable:
    """The layer table of an architecture, made once: a ViT's takes as long as a forward pass."""
    return architecture.layer_table()


def _tensors(architecture: Architecture, weights: Tensor) -> dict[str, Tensor]:
    """(M, *shape) by name. One split of all rows has one gradient, and slices have one each."""
    table = layer_table_of(architecture)
    parts = weights.split([spec.size for spec in table], dim=1)
    return {
        spec.name: part.reshape(-1, *spec.shape) for spec, part in zip(table, parts, strict=True)
    }


def _laid_out(inputs: Tensor) -> Tensor:
    """Inputs in the layout of a pass, shared by all networks: (1, H, C, W, P) or (1, F, P)."""
    if inputs.dim() == 4:
        return inputs.permute(2, 1, 3, 0).contiguous()[None]
    return inputs.T.contiguous()[None]


def _per_unit(x: Tensor) -> Tensor:
    """Hidden values (M, P, U); those of an image or of tokens are averaged over its places."""
    if x.dim() == IMAGE_DIMENSIONS:
        return x.mean((1, 3)).mT
    return x.mean(2) if x.dim() == TOKEN_DIMENSIONS else x.mT


def _flatten(x: Tensor) -> Tensor:
    """Features in torch's order: images by channel, tokens one after another."""
    if x.dim() == IMAGE_DIMENSIONS:
        return x.transpose(1, 2).flatten(1, 3)
    return x.flatten(2).transpose(1, 2) if x.dim() == TOKEN_DIMENSIONS else x


def _with_pools(sequence: Sequence[Layer]) -> list[tuple[str, Layer, int]]:
    """(name, layer, pool size) of every layer; a convolution absorbs the pool after it."""
    found: list[tuple[str, Layer, int]] = []
    for name, layer in zip(layer_names(sequence), sequence, strict=True):
        last = found[-1] if found else None
        if isinstance(layer, layers.MaxPool) and last and isinstance(last[1], layers.Conv):
            if last[2] == 1:  # a second pool drops remaining rows of the first one's result
                found[-1] = (last[0], last[1], layer.size)
                continue
        found.append((name, layer, 1))
    return found
