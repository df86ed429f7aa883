"""The blocks of MSCS-Net: strided convolutions, cascades of three kernel sizes under attention, and pooled maps.

Features are (N, C, x, y, z). Every convolution is Keras's; see `keras_layers_3d`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.keras_layers_3d import SameConv3d, batch_norm_3d, glorot_uniform_3d, he_uniform_3d

_KERNELS = (3, 5, 7)
# Of the cascade's channels over the units that are asked for.
_WIDENING = 1.67
# Channels within the attention are one in so many.
_REDUCTION = 5
# LeakyReLU's slope where Keras (of TensorFlow 2.10) is given its name alone.
_KERAS_SLOPE = 0.2


class StridedConv(nn.Module):
    """Convolution with stride 2, norm, SiLU: (N, before, x, y, z) to (N, after, x/2, y/2, z/2).

    Args:
        before: Channels of the input.
        after: Channels of the output.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = SameConv3d(before, after, stride=2)
        self.norm = batch_norm_3d(after)
        self.apply(he_uniform_3d)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        return functional.silu(self.norm(self.conv(features)))


class NormedConv(nn.Module):
    """Convolution without bias and its norm without factor: (N, before, x, y, z) to (N, after, x, y, z); then ReLU.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        kernel: Odd.
    """

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.conv = SameConv3d(before, after, kernel, bias=False)
        self.norm = batch_norm_3d(after, scale=False)
        self.apply(he_uniform_3d)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        return functional.relu(self.norm(self.conv(features)))


class ScaleAttention(nn.Module):
    """Kernels of 3, 5 and 7 one behind the other, all three results joined, attended to, and added to a shortcut.

    Args:
        before: Channels of the input.
        units: `width_of` tells the number of channels of each kernel size from it.

    Attributes:
        channels: Of the output: three times the width.
    """

    def __init__(self, before: int, units: int) -> None:
        super().__init__()
        width = self.width_of(units)
        self.channels = len(_KERNELS) * width
        self.cascade = nn.ModuleList(
            NormedConv(width if number else before, width, kernel) for number, kernel in enumerate(_KERNELS)
        )
        self.attention = DualAttention(self.channels)
        self.shortcut = NormedConv(before, self.channels, 1)
        self.norm = batch_norm_3d(self.channels)

    @staticmethod
    def width_of(units: int) -> int:
        """Channels of each kernel size."""
        return int(_WIDENING * units)

    def forward(self, features: Tensor) -> Tensor:
        """(N, before, x, y, z) to (N, channels, x, y, z)."""
        found = [features]
        for block in self.cascade:
            found.append(block(found[-1]))
        attended = self.attention(torch.cat(found[1:], dim=1))
        return functional.relu(self.norm(self.shortcut(features) + attended))


class DualAttention(nn.Module):
    """The sum of the features weighted by channel and of the same features weighted by voxel: the same shape.

    Args:
        channels: Of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        within = max(1, channels // _REDUCTION)
        self.squeeze = SameConv3d(channels, within, 1)
        self.excite = SameConv3d(within, channels, 1)
        self.spatial = SameConv3d(2, 1)
        self.apply(glorot_uniform_3d)

    def forward(self, features: Tensor) -> Tensor:
        """The weighted features."""
        mean = features.mean(dim=(2, 3, 4), keepdim=True)
        by_channel = torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
        seen = torch.cat([features.amax(dim=1, keepdim=True), features.mean(dim=1, keepdim=True)], dim=1)
        by_voxel = torch.sigmoid(self.spatial(seen))
        return features * by_channel + features * by_voxel


class PooledMaps(nn.Module):
    """Features beside their maxima over 3, 5 and 7 voxels, all three taken of the same features.

    Args:
        before: Channels of the input.
        within: Channels of each of the four maps; the output has four times as many.
    """

    def __init__(self, before: int, within: int) -> None:
        super().__init__()
        self.entry = SameConv3d(before, within, 1)
        self.entry_norm = batch_norm_3d(within)
        maps = within * (1 + len(_KERNELS))
        self.exit = SameConv3d(maps, maps, 1)
        self.exit_norm = batch_norm_3d(maps)
        self.apply(glorot_uniform_3d)

    def forward(self, features: Tensor) -> Tensor:
        """(N, before, x, y, z) to (N, 4 within, x, y, z)."""
        features = functional.leaky_relu(self.entry_norm(self.entry(features)), _KERAS_SLOPE)
        pooled = [functional.max_pool3d(features, k, stride=1, padding=k // 2) for k in _KERNELS]
        return functional.silu(self.exit_norm(self.exit(torch.cat([features, *pooled], dim=1))))


class DecoderBlock(nn.Module):
    """Two 3x3x3 convolutions, each followed by ReLU, with dropout between: (N, before, ...) to (N, after, ...).

    Args:
        before: Channels of the input.
        after: Channels of the output.
        dropout: Probability with which a value is left out in training.
    """

    def __init__(self, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.first = SameConv3d(before, after)
        self.dropout = nn.Dropout(dropout)
        self.second = SameConv3d(after, after)
        self.apply(he_uniform_3d)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        inner = self.dropout(functional.relu(self.first(features)))
        return functional.relu(self.second(inner))
