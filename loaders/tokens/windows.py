"""Windows: contiguous runs of tokens, for encoders that never see a whole model at once.

Source: SANE, Schürholt et al. 2024, arXiv 2406.09997: training takes a random window, the same
for both views of a model; generation takes all windows, each read with a halo of its neighbours
that is cut off again when the windows are put together.

Shape letters: B models in the batch, N tokens of the table, S values per token, K windows that
cover a model, W tokens of a window with its halo.
"""

import math

import torch
from torch import Tensor

from .tokenizers import Tokenizer, check_shape, checked_size


class Windows:
    """Cuts windows out of the tokens that a tokenizer makes.

    A window that reaches beyond the first or last token is filled up with masked tokens, zero in
    `values`, whose columns repeat the nearest token.

    Attributes:
        tokenizer: makes the tokens.
        length: tokens of a window without halo.
        halo: further tokens on each side.
        shape: (W, S).
        count: K.
    """

    def __init__(self, tokenizer: Tokenizer, length: int, halo: int = 0) -> None:
        """Set the size of windows.

        Raises:
            ValueError: if length is no whole number from 1, or halo none from 0.
        """
        self.tokenizer = tokenizer
        self.length = checked_size("length", length)
        self.halo = checked_size("halo", halo, 0)
        self.shape = (length + 2 * halo, tokenizer.shape[1])
        self.count = math.ceil(tokenizer.shape[0] / length)

    def random_starts(self, models: int, generator: torch.Generator) -> Tensor:
        """Draw a window for each model, to be cut from every view of it.

        Args:
            models: B.
            generator: on the device of the weights.

        Returns:
            (B,), int64, such that windows without halo lie within the tokens if they fit.
        """
        last = max(0, self.tokenizer.shape[0] - self.length)
        device = generator.device
        return torch.randint(last + 1, (models,), generator=generator, device=device)

    def __call__(self, weights: Tensor, starts: Tensor) -> dict[str, Tensor]:
        """Cut one window from each model.

        Args:
            weights: (B, D), flat.
            starts: (B,), first token of each window, before its halo.

        Returns:
            What the tokenizer returns, with dimensions (B, W, ...).

        Raises:
            ValueError: if the weights have another shape, or starts are not one per model.
        """
        if starts.shape != weights.shape[:1]:
            raise ValueError(
                f"starts must have shape ({len(weights)},), one per model, "
                f"got {tuple(starts.shape)}"
            )
        windows = self._cut(weights, starts[:, None].to(weights.device))
        return {key: tensor.squeeze(1) for key, tensor in windows.items()}

    def split(self, weights: Tensor) -> dict[str, Tensor]:
        """Cut the windows that cover each model, in order.

        Args:
            weights: (B, D), flat.

        Returns:
            What the tokenizer returns, with dimensions (B, K, W, ...).
        """
        starts = torch.arange(self.count, device=weights.device) * self.length
        return self._cut(weights, starts.expand(len(weights), -1))

    def stitch(self, values: Tensor) -> Tensor:
        """Put the windows of `split` together, without their halos.

        Args:
            values: (B, K, W, S).

        Returns:
            (B, N, S), which the tokenizer's `inverse` takes.

        Raises:
            ValueError: if the values have another shape.
        """
        check_shape("values", values, (self.count, *self.shape))
        core = values[:, :, self.halo : self.halo + self.length]
        return core.flatten(1, 2)[:, : self.tokenizer.shape[0]]

    def inverse(self, values: Tensor) -> Tensor:
        """Turn the windows of `split` (B, K, W, S) back into flat weights (B, D)."""
        return self.tokenizer.inverse(self.stitch(values))

    def _cut(self, weights: Tensor, starts: Tensor) -> dict[str, Tensor]:
        """Windows (B, K, W, ...) from starts (B, K)."""
        tokens = self.tokenizer(weights)
        steps = torch.arange(-self.halo, self.length + self.halo, device=weights.device)
        wanted = starts[..., None] + steps  # (B, K, W)
        index = wanted.clamp(0, self.tokenizer.shape[0] - 1)
        outside = (wanted != index)[..., None]
        models = torch.arange(len(weights), device=weights.device)[:, None, None]
        values = tokens.pop("values")[models, index].masked_fill_(outside, 0)
        windows = {key: tensor[index] for key, tensor in tokens.items()}
        return {"values": values} | windows | {"mask": windows["mask"] & ~outside}
