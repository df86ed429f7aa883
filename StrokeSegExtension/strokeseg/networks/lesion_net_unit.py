"""The unit of Lesion-Net: attention on coarser keys and values, then a feed-forward part with a convolution in it.

Features are (N, C, x, y) with the channels last in memory, so that norms, products and convolutions all take them as
they are. Sizes become plain numbers, so that a graph holds for one size and has a third of the operations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Unit(nn.Module):
    """Two residual parts, each normalised at its beginning: attention, then feed-forward. (N, width, x, y) to the same.

    Args:
        width: Channels.
        heads: Of the attention.
        reduction: How many times coarser keys and values are along both axes.
        expansion: Of the feed-forward part.
        drop_path: Probability of leaving out the feed-forward part in training; the attention is never left out.
    """

    def __init__(self, width: int, heads: int, reduction: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = ChannelNorm(width)
        self.attention = ReducedAttention(width, heads, reduction)
        self.forward_norm = ChannelNorm(width)
        self.feed_forward = FeedForward(width, expansion)
        self.drop_path = BatchDropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """The unit's output."""
        features = features + self.attention(self.attention_norm(features))
        normed = self.forward_norm(features)
        if self.training:
            dropped: Tensor = self.drop_path(self.feed_forward(normed))
            return features + dropped
        # In this order each is added where its convolution ends, without a pass through memory of its own.
        return sum(self.feed_forward.parts(normed), start=features)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel: (N, C, x, y) to the same."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features."""
        if not torch.onnx.is_in_onnx_export():
            return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        # OpenVINO would bring the channels to the end for its own norm, and back again for the next convolution.
        rest = features - features.mean(1, keepdim=True)
        length = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
        scale = torch.rsqrt(length * length / int(features.shape[1]) + self.eps)
        return rest * scale * _as_map(self.weight) + _as_map(self.bias)


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
        self.reduction_norm = ChannelNorm(width)
        # Rows of queries, keys and values in one matrix, drawn as PyTorch's own attention draws it.
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, x, y) to the same."""
        width, x, y = (int(size) for size in features.shape[1:])
        coarse = self.reduction_norm(self.reduction(features))
        sources = (features, coarse, coarse)
        parts = zip(
            sources, torch.split(self.projection.weight, width), torch.split(self.projection.bias, width), strict=True
        )
        query, key, value = (self._by_head(_projected(*part)) for part in parts)
        scale = (width // self.heads) ** -0.5
        if torch.onnx.is_in_onnx_export():
            # OpenVINO's products take what is transposed right before them as it lies in memory.
            shares = torch.softmax(query.transpose(2, 3) @ (key * scale), dim=-1)
            found = (value @ shares.transpose(2, 3)).reshape(-1, width, x, y)
        else:
            query, key, value = (part.transpose(2, 3) for part in (query, key, value))
            mixed = functional.scaled_dot_product_attention(query, key, value, scale=scale)
            found = mixed.transpose(1, 2).reshape(-1, x, y, width).permute(0, 3, 1, 2)
        return _projected(found, self.output.weight, self.output.bias)

    def _by_head(self, features: Tensor) -> Tensor:
        """(N, width, x, y) as (N, heads, width / heads, x * y)."""
        width, x, y = (int(size) for size in features.shape[1:])
        return features.reshape(-1, self.heads, width // self.heads, x * y)


class FeedForward(nn.Module):
    """1x1, then a grouped 3x3 convolution in which the expansion happens, GELU, and 1x1 back: same shape.

    The grouped convolution makes `expansion` maps of each channel. Made one after the other, each is a convolution of
    one channel a group, for which libraries have a program that is several times faster; what comes back is a sum over
    the maps.

    Args:
        width: Channels, and groups.
        expansion: Channels after the grouped convolution, over `width`.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)
        self.expand = nn.Conv2d(width, expansion * width, 3, padding=1, groups=width)
        self.contract = nn.Conv2d(expansion * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, x, y) to the same."""
        parts = self.parts(features)
        return sum(parts[1:], start=parts[0])

    def parts(self, features: Tensor) -> list[Tensor]:
        """What the output is the sum of, one a map."""
        width = self.expand.groups
        times = self.expand.out_channels // width
        assert self.expand.bias is not None
        mixed = self.mix(features)
        parts = []
        for k in range(times):
            rows = slice(k, None, times)
            expanded = functional.conv2d(
                mixed, self.expand.weight[rows], self.expand.bias[rows], padding=1, groups=width
            )
            bias = self.contract.bias if k == 0 else None
            parts.append(functional.conv2d(functional.gelu(expanded), self.contract.weight[:, rows], bias))
        return parts


def _projected(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer on the channels of each pixel: (N, before, x, y) to (N, after, x, y)."""
    if not torch.onnx.is_in_onnx_export():
        return functional.linear(features.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
    # The same, in a form that OpenVINO need not bring into another order in memory.
    return functional.conv2d(features, weight[:, :, None, None], bias)


def _as_map(values: Tensor) -> Tensor:
    """A number a channel, to be taken together with (N, C, x, y)."""
    return values[:, None, None]


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
