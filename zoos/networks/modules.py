"""Torch modules of layers that torch itself does not have in this form.

Shape letters: B images, T tokens, W width of a token, C channels, H height, F features.
"""

import torch
from torch import Tensor, nn

from .attention import fused_attention


class Sine(nn.Module):
    """sin(omega x), the activation of SIREN (Sitzmann et al. 2020, arXiv:2006.09661)."""

    def __init__(self, omega: float) -> None:
        """Set the frequency."""
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, unchanged."""
        return torch.sin(self.omega * x)


class Offset(nn.Module):
    """x + value, with a fixed value."""

    def __init__(self, value: float) -> None:
        """Set the value."""
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, unchanged."""
        return x + self.value


class GlobalAvgPool(nn.Module):
    """Mean over all positions of an image."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C)."""
        return x.mean((-2, -1))


class Residual(nn.Module):
    """body(x) + shortcut(x); without a shortcut x itself is added."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
        """Set both branches.

        Args:
            body: first branch.
            shortcut: second branch; an empty one returns its input.
        """
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that both branches map to the same."""
        return self.body(x) + self.shortcut(x)


class Tokens(nn.Module):
    """Every position of an image as a token."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, H * W, C), row by row."""
        return x.flatten(2).transpose(1, 2)


class PositionEmbedding(nn.Module):
    """Adds a learned vector to every token, after a learned class token if there is one."""

    def __init__(self, tokens: int, width: int, class_token: bool) -> None:
        """Draw the parameters from N(0, 0.02), as in the published vision transformers.

        Args:
            tokens: number of tokens, without the class token.
            width: width of a token.
            class_token: whether a class token is added.
        """
        super().__init__()
        if class_token:
            self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(tokens + class_token, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, W) to (B, T, W), or to (B, T + 1, W) with the class token first."""
        if hasattr(self, "class_token"):
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        return x + self.position


class TokenEmbedding(nn.Embedding):
    """A learned vector of every token of a vocabulary; takes numbers of any type."""

    def forward(self, x: Tensor) -> Tensor:
        """Map token numbers (B, T) to (B, T, W)."""
        return super().forward(x.long())


class Projection(nn.Linear):
    """A linear layer of an attention; its class marks it in the layer table."""


class Attention(nn.Module):
    """Multi-head self-attention; head h owns rows h * W / heads and on of query, key and value."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        """Make the four projections.

        Args:
            width: width of a token.
            heads: number of heads, a divisor of `width`.
            causal: whether a token sees only itself and the tokens before it.
        """
        super().__init__()
        self.heads, self.causal = heads, causal
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
        attended = fused_attention(query, key, value, causal=self.causal)
        return self.out(attended.transpose(1, 2).flatten(2))


class TokenPool(nn.Module):
    """The mean of all tokens, or the first one."""

    def __init__(self, mode: str) -> None:
        """Set the mode, "mean" or "first"."""
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, W) to (B, W)."""
        return x.mean(1) if self.mode == "mean" else x[:, 0]
