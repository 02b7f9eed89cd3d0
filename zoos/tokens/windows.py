"""Windows: contiguous runs of tokens, for encoders that never see a whole model at once.

Source: SANE (sequential autoencoder for neural embeddings), Schürholt et al. 2024,
arXiv:2406.09997. Training takes a random window, the same for both views of a model. Generation
takes all windows; each is read with a halo of neighbouring tokens, which is cut off again when the
windows are joined.

Shape letters: B models in the batch, N tokens of the table, S values per token, K windows that
cover a model, W tokens of a window with its halo.
"""

import math

import torch
from torch import Tensor

from .tokenizers import Tokenizer, check_shape, checked_size


class Windows:
    """Cuts windows from the tokens of a tokenizer.

    A window that reaches beyond the first or last token is filled with masked tokens: their
    `values` are zero, and their other entries repeat the nearest token.

    Attributes:
        tokenizer: tokenizer that makes the tokens.
        length: number of tokens of a window without halo.
        halo: number of further tokens on each side.
        shape: tokens per window and values per token, (W, S).
        count: K, number of windows that cover a model.

    Example:
        >>> import torch
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import RowChunks, Windows
        >>> train = load_zoo(ZOO, split="train")
        >>> windows = Windows(RowChunks(train.layer_table, 8), length=4, halo=1)
        >>> cut = windows.split(train.weights())["values"]
        >>> cut.shape, torch.equal(windows.inverse(cut), train.weights())
        (torch.Size([6, 4, 6, 8]), True)
    """

    def __init__(self, tokenizer: Tokenizer, length: int, halo: int = 0) -> None:
        """Set the size of windows.

        Args:
            tokenizer: tokenizer that makes the tokens.
            length: number of tokens of a window without halo.
            halo: number of further tokens on each side.

        Raises:
            ValueError: if length is no whole number from 1, or halo no whole number from 0.
        """
        self.tokenizer = tokenizer
        self.length = checked_size("length", length)
        self.halo = checked_size("halo", halo, 0)
        self.shape = (length + 2 * halo, tokenizer.shape[1])
        self.count = math.ceil(tokenizer.shape[0] / length)

    def random_starts(self, models: int, generator: torch.Generator) -> Tensor:
        """Draw a window for each model, to be cut from all of its views.

        Args:
            models: B, number of models.
            generator: random generator, on the device of the weights.

        Returns:
            Index of the first token of each window, (B,), int64. Windows without halo lie within
            the tokens if they fit.
        """
        last = max(0, self.tokenizer.shape[0] - self.length)
        device = generator.device
        return torch.randint(last + 1, (models,), generator=generator, device=device)

    def __call__(self, weights: Tensor, starts: Tensor) -> dict[str, Tensor]:
        """Cut one window from each model.

        Args:
            weights: flat weights, (B, D).
            starts: index of the first token of each window, without its halo, (B,).

        Returns:
            Tensors of the tokenizer, with dimensions (B, W, ...).

        Raises:
            ValueError: if the weights have another shape, or there is not one start per model.
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
            weights: flat weights, (B, D).

        Returns:
            Tensors of the tokenizer, with dimensions (B, K, W, ...).
        """
        starts = torch.arange(self.count, device=weights.device) * self.length
        return self._cut(weights, starts.expand(len(weights), -1))

    def stitch(self, values: Tensor) -> Tensor:
        """Join the windows of `split`, without their halos.

        Args:
            values: values of the windows, (B, K, W, S).

        Returns:
            Values of the tokens, (B, N, S), as the `inverse` of the tokenizer takes them.

        Raises:
            ValueError: if the values have another shape.
        """
        check_shape("values", values, (self.count, *self.shape))
        core = values[:, :, self.halo : self.halo + self.length]
        return core.flatten(1, 2)[:, : self.tokenizer.shape[0]]

    def inverse(self, values: Tensor) -> Tensor:
        """Convert the windows of `split` (B, K, W, S) back to flat weights (B, D)."""
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
