"""Common base of trained autoencoders of weights, for any kind of tokens.

Shape letters: N rows, D length of the flat weight vector, Z values of a latent vector.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...encoders.losses import layer_errors
from ...loaders.tokens.tokenizers import Tokenizer
from ..processes import threads
from .autoencoder_training import AutoencoderSettings
from .canonical import Canonical


class TokenAutoencoder:
    """A trained encoder and decoder, with the mapping between weights and tokens.

    Attributes:
        canonical: alignment and standardisation of rows.
        module: encoder and decoder.
        settings: training settings.
        mean: mean of the standardised train rows, (D,), the baseline of R2.
        tokenizer: tokenizer of the weights.
        history: losses and val R2 by epoch.
        kept_epoch: epoch of the module's weights; None if it is unknown.
        note: warning about the training for the user, or None.
        rows_at_once: number of rows encoded together.
    """

    rows_at_once = 256

    def __init__(
        self,
        canonical: Canonical,
        module: nn.Module,
        settings: AutoencoderSettings,
        mean: Tensor,
        tokenizer: Tokenizer,
    ) -> None:
        """Join the parts.

        Args:
            canonical: alignment and standardisation of rows.
            module: encoder and decoder.
            settings: training settings.
            mean: mean of the standardised train rows, (D,).
            tokenizer: tokenizer of the weights.
        """
        self.canonical, self.module, self.settings, self.mean = canonical, module, settings, mean
        self.tokenizer = tokenizer
        self.history: list[dict[str, float]] = []
        self.kept_epoch: int | None = None
        self.note: str | None = None

    def encode(self, weights: Tensor) -> Tensor:
        """Latent vectors (N, Z) of canonical flat weights (N, D)."""
        return self._mapped(self.latent_of, weights)

    def decode(self, latent: Tensor) -> Tensor:
        """Flat weights (N, D) of latent vectors (N, Z)."""
        return self._mapped(self.weights_of, latent)

    def embed(self, weights: Tensor) -> Tensor:
        """The embedding of canonical flat weights (N, D), the input of probes."""
        return self.encode(weights)

    def latent_of(self, weights: Tensor) -> Tensor:
        """Latent vectors of one block of rows, on the module's device.

        Raises:
            NotImplementedError: unless a subclass defines it.
        """
        raise NotImplementedError

    def weights_of(self, latent: Tensor) -> Tensor:
        """Flat weights of one block of latent vectors, on the module's device.

        Raises:
            NotImplementedError: unless a subclass defines it.
        """
        raise NotImplementedError

    def r2(self, weights: Tensor) -> dict[str, float]:
        """Share of the variance that reconstruction explains, 1 - L / L(mean predictor).

        L is the error divided by the layer's deviation, as in arXiv 2209.14733, for any training
        loss.

        Args:
            weights: canonical weights, (N, D).

        Returns:
            R2 by layer, and under "all"; at most 1, and 0 for the mean of the train rows.
        """
        true = self.canonical.standardization.apply(weights)
        made = self.canonical.standardization.apply(self.decode(self.encode(weights)))
        return explained(self.tokenizer, made - true, self.mean.cpu() - true)

    def _mapped(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Apply a function to blocks of rows without gradients; results are on the CPU."""
        self.module.eval()
        device = next(self.module.parameters()).device
        with torch.no_grad(), threads(self.settings.threads):
            blocks = rows.split(self.rows_at_once)
            return torch.cat([function(block.to(device)).clone().cpu() for block in blocks])


def explained(tokenizer: Tokenizer, errors: Tensor, spread: Tensor) -> dict[str, float]:
    """Explained variance 1 - |errors|^2 / |spread|^2, by layer and under "all".

    Args:
        tokenizer: tokenizer of the weights.
        errors: reconstructed minus true weights, (N, D).
        spread: mean minus true weights, (N, D).
    """
    shared, table = tokenizer.shared, tokenizer.layer_table
    sums = [
        layer_errors(tokenizer(part)["values"], shared["mask"], shared["level"])[0]
        for part in (errors, spread)
    ]
    names = list(dict.fromkeys(spec.layer for spec in sorted(table, key=lambda spec: spec.depth)))
    shares = dict(zip(names, (1 - sums[0] / sums[1]).tolist(), strict=True))
    return shares | {"all": float(1 - sums[0].sum() / sums[1].sum())}
