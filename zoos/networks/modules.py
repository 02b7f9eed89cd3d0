"""Torch modules of layers that torch itself does not have in this form.

Shape letters: B images, T tokens, W width of a token, C channels, H height, F features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Sine(nn.Module):
    """sin(omega x), the activation of SIREN (Sitzmann et al. 2020, arXiv:2006.09661)."""

    def __init__(self, omega: float) -> None:
        """Remember the frequency."""
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, unchanged."""
        return torch.sin(self.omega * x)


class Offset(nn.Module):
    """x + value, with a fixed value."""

    def __init__(self, value: float) -> None:
        """Remember the value."""
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, unchanged."""
        return x + self.value


class GlobalAvgPool(nn.Module):
    """Mean over all places of an image."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C)."""
        return x.mean((-2, -1))


class Residual(nn.Module):
    """body(x) + shortcut(x); without a shortcut x itself is added."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
        """Hold both branches; an empty one passes its input on."""
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that both branches map to the same."""
        return self.body(x) + self.shortcut(x)


class Tokens(nn.Module):
    """Every place of an image as a token."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, H * W, C), row by row."""
        return x.flatten(2).transpose(1, 2)


class PositionEmbedding(nn.Module):
    """Adds a learned vector to every token, after a learned class token if there is one."""

    def __init__(self, tokens: int, width: int, class_token: bool) -> None:
        """Make the parameters, N(0, 0.02) as in the published vision transformers."""
        super().__init__()
        if class_token:
            self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(tokens + class_token, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, W) to (B, T, W), or to (B, T + 1, W) with the class token first."""
        if hasattr(self, "class_token"):
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        return x + self.position


class Projection(nn.Linear):
    """A linear layer that belongs to an attention: the layer table tells it from others."""


class Attention(nn.Module):
    """Multi-head self-attention; head h owns rows h * W / heads and on of query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        """Make the four projections; `heads` divides `width`."""
        super().__init__()
        self.heads = heads
        self.query = Projection(width, width)
        self.key = Projection(width, width)
        self.value = Projection(width, width)
        self.out = Projection(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, W) to (B, T, W)."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out(attended.transpose(1, 2).flatten(2))


class TokenPool(nn.Module):
    """The mean of all tokens, or the first one."""

    def __init__(self, mode: str) -> None:
        """Remember the mode, "mean" or "first"."""
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, W) to (B, W)."""
        return x.mean(1) if self.mode == "mean" else x[:, 0]
