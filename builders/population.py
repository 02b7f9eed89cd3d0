"""A population: the parameters of many models of one architecture, run as one program.

All models' weights lie in one tensor (M, D), so that a checkpoint is a copy of its rows. The
forward pass follows the architecture's layers; activations and dropout rates differ by model.

Shape letters: M models, D length of the flat vector, C channels, H height, W width, F features,
B images. Images come with the batch last: (M, C, H, W, B), or (1, C, H, W, B) if shared.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..zoos.architectures import Architecture
from ..zoos.layers import Activation, Conv, Dropout, Flatten, Layer, Linear
from ..zoos.layers import MaxPool as MaxPoolLayer
from .convolution import conv2d, max_pool2d

ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
}


class Population:
    """M models of one architecture.

    Attributes:
        flat: (M, D), float32, the weights of all models; change it in place only.
        gradient: (M, D), float32, filled by `backward`.
    """

    def __init__(
        self,
        architecture: Architecture,
        flat: Tensor,
        activations: Sequence[str],
        dropout: Sequence[float] | None = None,
    ) -> None:
        """Stack models.

        Args:
            architecture: what the models share.
            flat: (M, D) initial weights, on the device to train on; taken over, not copied.
            activations: M names; models with equal ones should lie side by side.
            dropout: M rates in [0, 1); None stands for zeros.
        """
        self.flat = flat
        self.gradient = torch.zeros_like(flat)
        self._layers = list(zip(architecture.layer_names(), architecture.layers, strict=True))
        self._runs = list(_runs(activations))
        rates = torch.tensor(dropout or [0.0] * len(flat), dtype=torch.float32)
        self._keep = 1 - rates
        table = architecture.layer_table()
        self._parameters = {
            name: view.requires_grad_() for name, view in table.split(flat.detach()).items()
        }
        self._gradients = table.split(self.gradient)

    def __len__(self) -> int:
        """M."""
        return len(self.flat)

    def logits(self, x: Tensor, dropout: Sequence[torch.Generator] | None = None) -> Tensor:
        """Run all models.

        Args:
            x: (M or 1, C, H, W, B) images.
            dropout: one generator per model to draw its dropout masks from; None switches
                dropout off (evaluation).

        Returns:
            (M, classes, B).
        """
        for name, layer in self._layers:
            x = self._apply(name, layer, x, dropout)
        return x

    def backward(self, loss: Tensor) -> None:
        """Write the gradient of `loss`, a sum over models, into `gradient`."""
        grads = torch.autograd.grad(loss, list(self._parameters.values()))
        for view, grad in zip(self._gradients.values(), grads, strict=True):
            view.copy_(grad)

    def _apply(
        self, name: str, layer: Layer, x: Tensor, dropout: Sequence[torch.Generator] | None
    ) -> Tensor:
        match layer:
            case Conv():
                weight, bias = self._tensors(name)
                return conv2d(x, weight, bias, layer.stride, layer.padding)
            case Linear():
                weight, bias = self._tensors(name)
                return torch.baddbmm(bias[:, :, None], weight, x.expand(len(self), -1, -1))
            case MaxPoolLayer():
                return max_pool2d(x, layer.size)
            case Flatten():
                return x.flatten(1, -2)
            case Activation():
                return self._activate(x)
            case Dropout():
                return x if dropout is None else x * self._masks(x, dropout)
        raise NotImplementedError(f"population training knows no layer {layer!r}")

    def _tensors(self, name: str) -> tuple[Tensor, Tensor]:
        return self._parameters[f"{name}.weight"], self._parameters[f"{name}.bias"]

    def _activate(self, x: Tensor) -> Tensor:
        """Each run of models with the same activation at once."""
        if len(self._runs) == 1:
            return ACTIVATION_FUNCTIONS[self._runs[0][0]](x)
        parts = [ACTIVATION_FUNCTIONS[name](x[models]) for name, models in self._runs]
        return torch.cat(parts)

    def _masks(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Dropout masks, kept values scaled up; drawn model by model on the CPU."""
        masks = torch.empty(x.shape)
        for mask, keep, generator in zip(masks, self._keep, generators, strict=True):
            torch.rand(mask.shape, generator=generator, out=mask).add_(keep).floor_().div_(keep)
        return masks.to(x.device)


def _runs(names: Sequence[str]) -> Iterator[tuple[str, slice]]:
    """(name, slice) of every run of equal names."""
    start = 0
    for name, group in itertools.groupby(names):
        stop = start + len(list(group))
        yield name, slice(start, stop)
        start = stop
