"""What trained autoencoders of weights have in common, whatever their tokens are.

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
    """A trained encoder and decoder with all that turns weights into tokens and back.

    Attributes:
        canonical: how rows are aligned and standardised.
        module: the encoder and decoder.
        settings: how it was trained.
        mean: (D,), the mean of the standardised train rows, which R2 compares with.
        tokenizer: of the weights.
        history: numbers by epoch.
        kept_epoch: the epoch that the module's weights are of; None if it is unknown.
        note: what the user must know of the training, or None.
        rows_at_once: how many are encoded together.
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
        """Join the parts."""
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
        """What probes read of canonical flat weights (N, D)."""
        return self.encode(weights)

    def latent_of(self, weights: Tensor) -> Tensor:
        """`encode` of a few rows on the module's device."""
        raise NotImplementedError

    def weights_of(self, latent: Tensor) -> Tensor:
        """`decode` of a few rows on the module's device."""
        raise NotImplementedError

    def r2(self, weights: Tensor) -> dict[str, float]:
        """Share of the variance that reconstruction explains, 1 - L / L(mean predictor).

        L is the error by layer deviation, as in arXiv 2209.14733, whatever the model was trained
        for.

        Args:
            weights: (N, D), canonical.

        Returns:
            By layer, and "all", each at most 1 and 0 for the mean of the train rows.
        """
        true = self.canonical.standardization.apply(weights)
        made = self.canonical.standardization.apply(self.decode(self.encode(weights)))
        return explained(self.tokenizer, made - true, self.mean.cpu() - true)

    def _mapped(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Block by block, without gradients, results on the CPU."""
        self.module.eval()
        device = next(self.module.parameters()).device
        with torch.no_grad(), threads(self.settings.threads):
            blocks = rows.split(self.rows_at_once)
            return torch.cat([function(block.to(device)).clone().cpu() for block in blocks])


def explained(tokenizer: Tokenizer, errors: Tensor, spread: Tensor) -> dict[str, float]:
    """1 - |errors|^2 / |spread|^2 by layer and for "all", of flat differences (N, D)."""
    shared, table = tokenizer.shared, tokenizer.layer_table
    sums = [
        layer_errors(tokenizer(part)["values"], shared["mask"], shared["level"])[0]
        for part in (errors, spread)
    ]
    names = list(dict.fromkeys(spec.layer for spec in sorted(table, key=lambda spec: spec.depth)))
    shares = dict(zip(names, (1 - sums[0] / sums[1]).tolist(), strict=True))
    return shares | {"all": float(1 - sums[0].sum() / sums[1].sum())}
