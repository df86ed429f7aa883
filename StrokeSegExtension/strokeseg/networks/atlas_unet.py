"""The U-Net of the ATLAS trio: five levels, no normalisation, skips concatenated; 7,759,587 parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.keras_layers import SameConv2d, glorot_uniform
from strokeseg.networks.slice_network import SliceNetwork, check_whole_numbers

CHANNELS = (32, 64, 128, 256, 512)


class AtlasUNet(SliceNetwork):
    """The plain U-Net; ``forward`` takes slices (N, in_channels, x, y, 1), published with 192x224 pixels.

    Args:
        in_channels: Channels of the input.
        out_channels: Background, main lesion and sub-lesion as published.
        channels: Channels of each level from the finest, each half as fine as the one before.

    Raises:
        ModelError: A number is not usable.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 3, channels: Sequence[int] = CHANNELS) -> None:
        check_whole_numbers("atlas-unet", in_channels=in_channels, out_channels=out_channels, channels=channels)
        super().__init__(in_channels, 2 ** (len(channels) - 1))
        before = [in_channels, *channels[:-1]]
        self.down = nn.ModuleList(DoubleConv(b, c) for b, c in zip(before, channels, strict=True))
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, stride=2) for deep, fine in pairs)
        self.merge = nn.ModuleList(DoubleConv(2 * fine, fine) for _, fine in pairs)
        self.head = nn.Conv2d(channels[0], out_channels, 1)
        self.apply(glorot_uniform)

    def logits(self, slices: Tensor) -> Tensor:
        """Slices (N, in_channels, x, y) to logits (N, out_channels, x, y)."""
        features, skips = slices, []
        for level, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2) if level else features)
            skips.append(features)
        for up, block, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            # The order of the two is that of the published weights.
            features = block(torch.cat([up(features), skip], dim=1))
        result: Tensor = self.head(features)
        return result


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each followed by ReLU: (N, before, x, y) to (N, after, x, y).

    Args:
        before: Channels of the input.
        after: Channels of the output.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = SameConv2d(before, after)
        self.second = SameConv2d(after, after)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        return functional.relu(self.second(functional.relu(self.first(features))))
