"""The SegNet of the ATLAS trio: one convolution a stage, no skips; 10,184,067 parameters that are trained.

It is called a SegNet where it was published, but its decoder enlarges by copying pixels rather than by the encoder's
pooling indices, and has no activation: after the deepest pooling everything is linear.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.keras_layers import NormedConv, glorot_uniform, he_normal
from strokeseg.networks.slice_network import SliceNetwork, check_whole_numbers

CHANNELS = (64, 128, 256, 512, 512)


class AtlasSegNet(SliceNetwork):
    """Encoder and decoder without skips; ``forward`` takes slices (N, in_channels, x, y, 1), axes multiples of 32.

    Args:
        in_channels: Channels of the input.
        out_channels: Background, main lesion and sub-lesion as published.
        channels: Channels of the encoder's stages, the finest first; the decoder has them in reverse.
        decoder_activation: ReLU after the decoder's norms, which the published decoder does not have.

    Raises:
        ModelError: A number is not usable.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        decoder_activation: bool = False,
    ) -> None:
        check_whole_numbers("atlas-segnet", in_channels=in_channels, out_channels=out_channels, channels=channels)
        super().__init__(in_channels, 2 ** len(channels))
        self.decoder_activation = decoder_activation
        coming, going = [in_channels, *channels], [channels[-1], *channels[::-1]]
        self.down = nn.ModuleList(NormedConv(b, c) for b, c in zip(coming, channels, strict=False))
        self.up = nn.ModuleList(NormedConv(b, c) for b, c in zip(going, channels[::-1], strict=False))
        self.head = nn.Conv2d(channels[0], out_channels, 1)
        self.apply(he_normal)
        glorot_uniform(self.head)

    def logits(self, slices: Tensor) -> Tensor:
        """Slices (N, in_channels, x, y) to logits (N, out_channels, x, y)."""
        features = slices
        for block in self.down:
            features = functional.max_pool2d(functional.relu(block(features)), 2)
        for block in self.up:
            features = block(functional.interpolate(features, scale_factor=2.0, mode="nearest"))
            features = functional.relu(features) if self.decoder_activation else features
        result: Tensor = self.head(features)
        return result
