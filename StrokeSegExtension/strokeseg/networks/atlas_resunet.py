"""The ResUNet of the ATLAS trio: residual blocks, five levels, skips concatenated; 3,255,107 parameters are trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.keras_layers import NormedConv, SameConv2d, batch_norm, glorot_uniform, he_normal
from strokeseg.networks.slice_network import SliceNetwork, check_whole_numbers

CHANNELS = (16, 32, 64, 128, 256)


class AtlasResUNet(SliceNetwork):
    """A U-Net of residual blocks; ``forward`` takes slices (N, in_channels, x, y, 1), axes multiples of 16.

    Args:
        in_channels: Channels of the input.
        out_channels: Background, main lesion and sub-lesion as published.
        channels: Channels of each level from the finest, each half as fine as the one before.

    Raises:
        ModelError: A number is not usable.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 3, channels: Sequence[int] = CHANNELS) -> None:
        check_whole_numbers("atlas-resunet", in_channels=in_channels, out_channels=out_channels, channels=channels)
        super().__init__(in_channels, 2 ** (len(channels) - 1))
        deepest = channels[-1]
        levels = list(pairwise(channels))
        self.entry = ActiveConv(in_channels, channels[0])
        self.down = nn.ModuleList(ResidualBlock(fine, deep, stride=2) for fine, deep in levels)
        self.bridge = nn.Sequential(ActiveConv(deepest, deepest), ActiveConv(deepest, deepest))
        self.merge = nn.ModuleList(ResidualBlock(deep + fine, fine) for fine, deep in reversed(levels))
        self.head = nn.Conv2d(channels[0], out_channels, 1)
        self.apply(he_normal)
        glorot_uniform(self.head)

    def logits(self, slices: Tensor) -> Tensor:
        """Slices (N, in_channels, x, y) to logits (N, out_channels, x, y)."""
        features = self.entry(slices)
        skips = [features]
        for block in self.down:
            features = block(features)
            skips.append(features)
        features = self.bridge(features)
        for block, skip in zip(self.merge, skips[-2::-1], strict=True):
            enlarged = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([enlarged, skip], dim=1))
        result: Tensor = self.head(features)
        return result


class ActiveConv(NormedConv):
    """A 3x3 convolution, its norm, ReLU."""

    def forward(self, features: Tensor) -> Tensor:
        """The features after ReLU."""
        return functional.relu(super().forward(features))


class ResidualBlock(nn.Module):
    """Two convolutions beside a 1x1 shortcut: (N, before, x, y) to (N, after, x/stride, y/stride).

    As published, the second convolution ends with ReLU before the sum, and the sum with ReLU again.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        stride: Of the first convolution and the shortcut.
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.shortcut = SameConv2d(before, after, 1, stride)
        self.shortcut_norm = batch_norm(after)
        self.first = ActiveConv(before, after, stride)
        self.second = ActiveConv(after, after)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        straight = self.shortcut_norm(self.shortcut(features))
        return functional.relu(straight + self.second(self.first(features)))
