"""Networks of the CNN Wild Park (Kofinas et al. 2024, arXiv 2403.12143), rebuilt from their config.

A network is a chain of convolutions with a mean over all positions and a linear layer. Each layer
has its own activation. A layer may add the output of an earlier one, on the channels that both
have, before its activation. Such sums are not layers of an `Architecture`.

Shape letters: B images, C channels, H height, W width.
"""

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import ZooFormatError
from .layer_kind import ACTIVATIONS


class WildParkCNN(nn.Module):
    """A network of the park, with the tensor names of the published class."""

    def __init__(
        self,
        state: Mapping[str, Tensor],
        activations: list[str],
        residuals: list[int],
        strides: list[int],
    ) -> None:
        """Make the layers and load their weights.

        Args:
            state: tensors `layers.<i>.weight`, `layers.<i>.bias`, `fc.weight`, `fc.bias`.
            activations: name of the activation of each convolution.
            residuals: number of the convolution whose output is added to each; -1 for none.
            strides: stride of each convolution.

        Raises:
            ZooFormatError: if the lists do not fit the tensors.
        """
        super().__init__()
        shapes = [tuple(v.shape) for n, v in state.items() if n.endswith(".weight") and v.ndim == 4]
        lengths = {len(shapes), len(activations), len(residuals), len(strides)}
        known = all(name in (*ACTIVATIONS, "none") for name in activations)
        before = all(-1 <= source < number for number, source in enumerate(residuals))
        if len(lengths) > 1 or not known or not before:
            raise ZooFormatError(
                f"{len(shapes)} convolutions do not fit the activations {activations}, residuals "
                f"{residuals} and strides {strides} of a Wild Park network"
            )
        self.layers = nn.ModuleList(
            nn.Conv2d(given, out, side, stride=stride, padding=side // 2)
            for (out, given, side, _), stride in zip(shapes, strides, strict=True)
        )
        self.fc = nn.Linear(state["fc.weight"].shape[1], state["fc.weight"].shape[0])
        self._activations = [
            nn.Identity() if name == "none" else ACTIVATIONS[name]() for name in activations
        ]
        self._residuals = residuals
        self.load_state_dict(dict(state))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to scores (B, classes)."""
        outputs: list[Tensor] = []
        for layer, activation, source in zip(
            self.layers, self._activations, self._residuals, strict=True
        ):
            x = layer(x)
            if source >= 0:
                count = min(x.shape[1], outputs[source].shape[1])
                x = x.clone()
                x[:, :count] += outputs[source][:, :count]
            x = activation(x)
            outputs.append(x)
        return self.fc(x.mean((2, 3)))


def wild_park_cnn(state: Mapping[str, Tensor], row: Mapping[str, Any]) -> WildParkCNN:
    """Rebuild a network from its tensors and the columns of its row, in eval mode.

    Args:
        state: tensors by published name.
        row: columns of the row: `activation` and `residual`, and `stride` unless all are 1.

    Raises:
        ZooFormatError: if a column is missing or does not fit the tensors.
    """
    count = sum(value.ndim == 4 for value in state.values())
    try:
        residuals = _numbers(row["residual"])
        names = str(row["activation"]).split(",")
        strides = _numbers(row["stride"]) if "stride" in row else [1] * count
    except (KeyError, ValueError, TypeError) as error:
        raise ZooFormatError(
            f"a Wild Park network is rebuilt from the columns activation and residual: {error}"
        ) from error
    names = names * count if len(names) == 1 else names
    return WildParkCNN(state, names, residuals, strides).eval()


def _numbers(text: Any) -> list[int]:
    found = json.loads(str(text))
    if not isinstance(found, list) or not all(type(number) is int for number in found):
        raise ValueError(f"{text!r} is no list of whole numbers")
    return found
