"""The unit of Lesion-Net: attention on coarser keys and values, then a feed-forward part with a convolution in it.

Features are (N, x, y, C) here: norms and products want the channels last, and PyTorch's convolutions take that order in
memory as it is. Sizes become plain numbers, so that a graph holds for one size and has a third of the operations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Unit(nn.Module):
    """Two residual parts, each normalised at its beginning: attention, then feed-forward. (N, x, y, width) to the same.

    Every norm acts on the channels of each pixel.

    Args:
        width: Channels.
        heads: Of the attention.
        reduction: How many times coarser keys and values are along both axes.
        expansion: Of the feed-forward part.
        drop_path: Probability of leaving out the feed-forward part in training; the attention is never left out.
    """

    def __init__(self, width: int, heads: int, reduction: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = ReducedAttention(width, heads, reduction)
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, expansion)
        self.drop_path = BatchDropPath(drop_path)

    def forward(self, pixels: Tensor) -> Tensor:
        """The unit's output."""
        pixels = pixels + self.attention(self.attention_norm(pixels))
        result: Tensor = pixels + self.drop_path(self.feed_forward(self.forward_norm(pixels)))
        return result


class ReducedAttention(nn.Module):
    """Multi-head attention of all pixels on a coarser map of them; no positions, no dropout.

    Args:
        width: Channels.
        heads: Divide the width.
        reduction: Size and stride of the convolution that makes the coarser map; 1 has it, too.
    """

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = nn.Conv2d(width, width, reduction, stride=reduction)
        self.reduction_norm = nn.LayerNorm(width)
        # Rows of queries, keys and values in one matrix, drawn as PyTorch's own attention draws it.
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, x, y, width) to the same."""
        x, y, width = (int(size) for size in pixels.shape[1:])
        coarse = self.reduction_norm(_convolved(pixels, self.reduction))
        sources = (pixels, coarse, coarse)
        parts = zip(
            sources, torch.split(self.projection.weight, width), torch.split(self.projection.bias, width), strict=True
        )
        query, key, value = (self._by_head(functional.linear(*part)) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=(width // self.heads) ** -0.5)
        result: Tensor = self.output(mixed.transpose(1, 2).reshape(-1, x, y, width))
        return result

    def _by_head(self, pixels: Tensor) -> Tensor:
        """(N, x, y, width) as (N, heads, x * y, width / heads)."""
        x, y, width = (int(size) for size in pixels.shape[1:])
        return pixels.reshape(-1, x * y, self.heads, width // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    """1x1, then a grouped 3x3 convolution in which the expansion happens, GELU, and 1x1 back: same shape.

    Args:
        width: Channels, and groups.
        expansion: Channels after the grouped convolution, over `width`.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)
        self.expand = nn.Conv2d(width, expansion * width, 3, padding=1, groups=width)
        self.contract = nn.Conv2d(expansion * width, width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, x, y, width) to the same."""
        return _convolved(pixels, self.mix, self.expand, nn.GELU(), self.contract)


def _convolved(pixels: Tensor, *layers: nn.Module) -> Tensor:
    """Pixels (N, x, y, C) through layers that take (N, C, x, y)."""
    features = pixels.permute(0, 3, 1, 2)
    for layer in layers:
        features = layer(features)
    return features.permute(0, 2, 3, 1)


class BatchDropPath(nn.Module):
    """Stochastic depth in the mode "batch": in training the whole batch is dropped, or divided by the chance to stay.

    Args:
        chance: Probability of dropping, 0 to below 1.
    """

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, features: Tensor) -> Tensor:
        """Zeros, or the features over ``1 - chance``; in evaluation the features."""
        if not self.training or self.chance == 0.0:
            return features
        stays = 1.0 - self.chance
        return features * torch.empty(1, dtype=features.dtype, device=features.device).bernoulli_(stays).div_(stays)

    def extra_repr(self) -> str:
        """The chance."""
        return f"chance={self.chance:g}"
