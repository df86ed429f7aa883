"""The unit of SegFormer3D: attention on coarser keys and values, then a feed-forward part with a convolution in it.

Features are (N, x, y, z, C) here: norms and products want the channels last. Sizes become plain numbers, so that a
graph holds for one size and has a third of the operations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.residual_unet import InstanceNorm


class Unit(nn.Module):
    """Two residual parts, each normalised at its beginning: (N, x, y, z, width) to the same.

    Args:
        width: Channels.
        heads: Of the attention.
        reduction: How many times coarser keys and values are along every axis.
        expansion: Channels within the feed-forward part, over `width`.
        published_scores: See `VolumeAttention`.
    """

    def __init__(self, width: int, heads: int, reduction: int, expansion: int, *, published_scores: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = VolumeAttention(width, heads, reduction, published_scores=published_scores)
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, expansion)

    def forward(self, tokens: Tensor) -> Tensor:
        """The unit's output."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        result: Tensor = tokens + self.feed_forward(self.forward_norm(tokens))
        return result


class VolumeAttention(nn.Module):
    """Multi-head attention of all tokens on a coarser map of them; no positions, no dropout.

    Where the reduction does not divide an axis, zeros follow the last tokens: no token is left out of the coarser map.

    Args:
        width: Channels.
        heads: Divide the width.
        reduction: Size and stride of the convolution that makes the coarser map; with 1 there is none.
        published_scores: Divide scores by the root of the number of heads, as the published program does, instead of
            the root of the channels of a head (Vaswani 2017).
    """

    def __init__(self, width: int, heads: int, reduction: int, *, published_scores: bool) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.scale = (heads if published_scores else width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        # Rows of keys, then of values.
        self.key_value = nn.Linear(width, 2 * width)
        self.coarser = nn.Conv3d(width, width, reduction, stride=reduction) if reduction > 1 else None
        self.coarser_norm = nn.LayerNorm(width) if reduction > 1 else None
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, x, y, z, width) to the same."""
        x, y, z, width = (int(size) for size in tokens.shape[1:])
        source = self._coarse(tokens)
        key, value = self.key_value(source).split(width, dim=-1)
        query, key, value = (self._by_head(t) for t in (self.query(tokens), key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        result: Tensor = self.output(mixed.transpose(1, 2).reshape(-1, x, y, z, width))
        return result

    def _coarse(self, tokens: Tensor) -> Tensor:
        if self.coarser is None or self.coarser_norm is None:
            return tokens
        features = tokens.permute(0, 4, 1, 2, 3)
        missing = [-int(size) % self.reduction for size in features.shape[2:]]
        if any(missing):
            # The last axis comes first here.
            features = functional.pad(features, [n for axis in missing[::-1] for n in (0, axis)])
        result: Tensor = self.coarser_norm(self.coarser(features).permute(0, 2, 3, 4, 1))
        return result

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(N, x, y, z, width) as (N, heads, x * y * z, width / heads)."""
        x, y, z, width = (int(size) for size in tokens.shape[1:])
        return tokens.reshape(-1, x * y * z, self.heads, width // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    """Expands, convolves each channel 3x3x3 by itself, normalises it over the volume, GELU, and contracts: same shape.

    Args:
        width: Channels.
        expansion: Channels within, over `width`.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        within = expansion * width
        self.expand = nn.Linear(width, within)
        self.mix = nn.Conv3d(within, within, 3, padding=1, groups=within)
        # A group norm whose groups are single channels.
        self.norm = InstanceNorm(within, affine=True)
        self.contract = nn.Linear(within, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, x, y, z, width) to the same."""
        features = self.mix(self.expand(tokens).permute(0, 4, 1, 2, 3))
        result: Tensor = self.contract(functional.gelu(self.norm(features).permute(0, 2, 3, 4, 1)))
        return result


def initialise(module: nn.Module) -> None:
    """Linear layers from a cut normal distribution of 0.02, convolutions scaled by outputs (He 2015), biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv3d):
        outputs = module.weight[0, 0].numel() * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2.0 / outputs) ** 0.5)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def enlarged(features: Tensor, times: int) -> Tensor:
    """(N, C, x, y, z) interpolated to so many times the size, by the same factor whatever the size."""
    if times == 1:
        return features
    return functional.interpolate(features, scale_factor=float(times), mode="trilinear", align_corners=False)


def cut(features: Tensor, size: torch.Size) -> Tensor:
    """The first voxels (N, C, *size) of a map that is larger."""
    if features.shape[2:] == size:
        return features
    x, y, z = size
    return features[:, :, :x, :y, :z]
