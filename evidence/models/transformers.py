"""GPT on bytes, and ViT: the same blocks, with and without a mask."""

import math

import torch
from torch import Tensor, nn

BYTES = 256


class Attention(nn.Module):
    """Self-attention of several heads.

    Args:
        width: Of the rows.
        heads: How many there are.
        causal: Whether a row sees only those before it.
        plain: Write the products out, for optimizers that differentiate twice: the fast kernels
            have no second derivative.
    """

    def __init__(self, width: int, heads: int, *, causal: bool, plain: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.plain = heads, causal, plain
        self.enter = nn.Linear(width, 3 * width)
        self.leave = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows, mixed."""
        batch, rows, width = x.shape
        parts = self.enter(x).view(batch, rows, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if self.plain:
            scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
            if self.causal:
                later = torch.ones(rows, rows, dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(later, -torch.inf)
            mixed = scores.softmax(-1) @ value
        else:
            mixed = nn.functional.scaled_dot_product_attention(
                query, key, value, is_causal=self.causal
            )
        out: Tensor = self.leave(mixed.transpose(1, 2).reshape(batch, rows, width))
        return out


class Block(nn.Module):
    """Attention and a layer of four times the width, each after a normalisation."""

    def __init__(self, width: int, heads: int, *, causal: bool, plain: bool) -> None:
        super().__init__()
        self.attention = Attention(width, heads, causal=causal, plain=plain)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows after the block."""
        x = x + self.attention(self.norms[0](x))
        hidden = nn.functional.gelu(self.widen(self.norms[1](x)))
        out: Tensor = x + self.narrow(hidden)
        return out


class GPT(nn.Module):
    """GPT-2's shape on bytes, the head tied to the embedding.

    With width 768, depth 12 and 12 heads it is GPT-2 small without its large vocabulary.
    """

    def __init__(
        self, width: int, depth: int, heads: int, context: int, *, plain: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        self.position = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, causal=True, plain=plain) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and name != "position":
                inward = name.endswith(("leave.weight", "narrow.weight"))
                scale = 0.02 / math.sqrt(2 * depth) if inward else 0.02
                nn.init.normal_(weight, std=scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of every next byte, of shape (batch, rows, bytes)."""
        rows = self.embedding(x) + self.position[: x.shape[1]]
        for block in self.blocks:
            rows = block(rows)
        return nn.functional.linear(self.norm(rows), self.embedding.weight)


class ViT(nn.Module):
    """A vision transformer: patches in, the mean of the rows out."""

    def __init__(
        self, channels: int, classes: int, side: int, patch: int, width: int, depth: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn((side // patch) ** 2, width))
        self.blocks = nn.Sequential(
            *(Block(width, 4, causal=False, plain=False) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the classes."""
        rows = self.patches(x).flatten(2).transpose(1, 2) + self.position
        out: Tensor = self.head(self.norm(self.blocks(rows)).mean(1))
        return out
