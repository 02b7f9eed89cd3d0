"""A population: the parameters of many models of one architecture, run as one program.

All models' weights lie in one tensor (M, D), so that a checkpoint is a copy of its rows. The
forward pass follows the architecture's layers; activations and dropout rates may differ by model.

Shape letters: M models, D length of the flat vector, C channels, H height, W width, F features,
T tokens, E width of a token, B images or points. Images are rows of channels with the batch
last, (M, H, C, W, B); features are (M, F, B); tokens are (M, B, T, E), since only matrix products
over their width are computed. A leading 1 instead of M means that all models share the values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...zoos.networks import layers
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layers import Layer, layer_names
from .activations import activate, runs_of
from .convolution import conv2d, max_pool2d
from .layers import attend, batch_norm, embed_positions, layer_norm, linear, pool_tokens

IMAGE_DIMENSIONS, TOKEN_DIMENSIONS = 5, 4

Generators = Sequence[torch.Generator]


class Population:
    """M models of one architecture.

    Attributes:
        flat: weights of all models, (M, D), float32; change it in place only.
        gradient: gradient of the weights, (M, D), float32, filled by `backward`; zero at buffers.
        evaluation_batch: images per forward pass without gradient; None until it is chosen.
    """

    def __init__(
        self,
        architecture: Architecture,
        flat: Tensor,
        activations: Sequence[str],
        dropout: Sequence[float] | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """Stack models.

        Args:
            architecture: architecture of all models.
            flat: initial weights, (M, D), on the training device; used in place, not copied.
            activations: M names; models with equal names should be neighbours.
            dropout: M rates in [0, 1); None stands for zeros.
            precision: float type of both passes in training; weights and gradients stay float32.
        """
        self.precision = precision
        self.flat = flat
        self.gradient = torch.zeros_like(flat)
        self.evaluation_batch: int | None = None
        self._layers = architecture.layers
        self._input_shape = architecture.input_shape
        self._runs = runs_of(activations)
        rates = torch.tensor(dropout or [0.0] * len(flat), dtype=torch.float32)
        self._keep = 1 - rates
        table = architecture.layer_table()
        buffers = {tensor.name for tensor in table if tensor.role == "buffer"}
        # Split twice, so that updating buffers in a forward pass counts as no change of weights.
        own, self._tensors = table.split(flat.data), table.split(flat.data)
        self._tensors |= {name: own[name] for name in buffers}
        self._parameters = [
            view.requires_grad_() for name, view in self._tensors.items() if name not in buffers
        ]
        gradients = table.split(self.gradient)
        self._gradients = [view for name, view in gradients.items() if name not in buffers]

    def __len__(self) -> int:
        """M."""
        return len(self.flat)

    def output_values(self) -> int:
        """Number of output values of all layers of one model, for one input."""
        return layers.output_values(self._layers, self._input_shape)

    def outputs(
        self, x: Tensor, *, training: bool = False, dropout: Generators | None = None
    ) -> Tensor:
        """Run all models.

        Args:
            x: images (M or 1, H, C, W, B), or points (M or 1, F, B).
            training: whether batch norm uses the batch's statistics and updates the running ones.
            dropout: one generator per model for its dropout masks; None switches dropout off.

        Returns:
            (M, outputs, B): logits, or values at points.
        """
        forward = ForwardPass(self, training, dropout)
        return forward.run(self._layers, "", x.to(forward.precision)).float()

    def backward(self, loss: Tensor) -> None:
        """Write the gradient of `loss`, a sum over models, into `gradient`."""
        grads = torch.autograd.grad(loss, self._parameters)
        for view, grad in zip(self._gradients, grads, strict=True):
            view.copy_(grad)

    def tensor(self, name: str) -> Tensor:
        """(M, *shape): a tensor of all models by its name in the layer table."""
        return self._tensors[name]

    def activate(self, x: Tensor) -> Tensor:
        """Each model's own activation."""
        return activate(x, self._runs)

    def masks(self, x: Tensor, generators: Generators) -> Tensor:
        """Draw dropout masks model by model on the CPU; kept values are scaled up.

        Args:
            x: values to be masked, (M, ...).
            generators: one generator per model.
        """
        masks = torch.empty(x.shape)
        for mask, keep, generator in zip(masks, self._keep, generators, strict=True):
            torch.rand(mask.shape, generator=generator, out=mask).add_(keep).floor_().div_(keep)
        return masks.to(x.device, x.dtype)


class ForwardPass:
    """One forward pass; layers inside a residual run like all others."""

    def __init__(self, population: Population, training: bool, dropout: Generators | None) -> None:
        """Set up a forward pass.

        Args:
            population: M models.
            training: whether batch norm uses the batch's statistics and updates the running ones.
            dropout: one generator per model for its dropout masks; None switches dropout off.
        """
        self.models, self.training, self.dropout = population, training, dropout
        self.precision = population.precision if training else torch.float32

    def run(self, sequence: Sequence[Layer], prefix: str, x: Tensor) -> Tensor:
        """Run a sequence of layers.

        Args:
            sequence: layers, input to output.
            prefix: first part of the names of their tensors.
            x: input of the models.
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
            x: input of the models.
        """
        match layer:
            case layers.Conv():
                bias = self._tensor(f"{name}.bias") if layer.bias else None
                weight = self._tensor(f"{name}.weight")
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
        return self.same_shape(layer, name, x.expand(len(self.models), *x.shape[1:]))

    def same_shape(self, layer: Layer, name: str, x: Tensor) -> Tensor:
        """Run a layer that keeps the shape and needs the values of every model.

        Args:
            layer: layer to run.
            name: name of the layer, with its prefix.
            x: input of the models, (M, ...).

        Raises:
            NotImplementedError: if population training does not support the layer.
        """
        match layer:
            case layers.Activation():
                return self.models.activate(x)
            case layers.Sine():
                return torch.sin(layer.omega * x)
            case layers.Offset():
                return x + layer.value
            case layers.Dropout():
                return x if self.dropout is None else x * self.models.masks(x, self.dropout)
            case layers.BatchNorm():
                buffers = ("running_mean", "running_var", "num_batches_tracked")
                state = [self.models.tensor(f"{name}.{buffer}") for buffer in buffers]
                weight, bias = (self.models.tensor(f"{name}.{role}") for role in ("weight", "bias"))
                return batch_norm(x, weight, bias, state, self.training)  # in float32 inside
            case layers.LayerNorm():
                return layer_norm(x, *self._weights(name))
            case layers.PositionEmbedding():
                token = self._tensor(f"{name}.class_token") if layer.class_token else None
                return embed_positions(x, self._tensor(f"{name}.position"), token)
            case layers.Attention():
                projections = [
                    self._weights(f"{name}.{part}") for part in ("query", "key", "value", "out")
                ]
                return attend(x, projections, layer.heads)
            case layers.Residual():
                shortcut = self.run(layer.shortcut, f"{name}.shortcut.", x)
                return self.run(layer.body, f"{name}.body.", x) + shortcut
        raise NotImplementedError(f"population training does not support the layer {layer!r}")

    def _weights(self, name: str) -> tuple[Tensor, Tensor]:
        return self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")

    def _tensor(self, name: str) -> Tensor:
        """Weights in the precision of the pass; their gradients are float32."""
        return self.models.tensor(name).to(self.precision)


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
