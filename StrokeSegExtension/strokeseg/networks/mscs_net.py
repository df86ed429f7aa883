"""MSCS-Net for crops of ADC and DWI, after its published description: 37,057,656 parameters that are trained.

2,388 further ones are factors of norms that have none where it was published; they stay 1. The published program ends
with a softmax; this one gives logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from strokeseg.networks.checkpointing import run_part
from strokeseg.networks.form import NetworkForm
from strokeseg.networks.keras_layers_3d import SameConv3d, glorot_uniform_3d
from strokeseg.networks.mscs_net_blocks import DecoderBlock, PooledMaps, ScaleAttention, StridedConv
from strokeseg.networks.slice_network import check_same_lengths, check_whole_numbers, refused

_NAME = "mscs-net"


class MSCSNet(nn.Module):
    """MSCS-Net; ``forward`` takes (N, in_channels, x, y, z), published 192x192x16, axes multiples of 2^levels.

    It gives lesion logits (N, out_channels, x, y, z). The head of one class has two maps, background and lesion, as
    published; its one logit is their difference, whose sigmoid is the lesion's softmax.

    Args:
        in_channels: Channels of the input; published are ADC, then DWI.
        out_channels: 1, or one a class with the background first; 2 gives the two maps as they are.
        channels: Of the strided convolution of each level, the finest first.
        units: Of the multi-scale block of each level; it has three times 1.67 as many channels.
        pooled: Channels of each of the four maps behind the deepest level.
        decoder_channels: Of the decoder's levels, the deepest first, down to the input's resolution.
        dropout: Probability with which a value is left out between the decoder's convolutions in training.
        attended_skips: Hand the decoder what the multi-scale blocks made. As published it gets what went into them:
            then their attention reaches it through the deepest level alone.
        checkpointing: In training, compute inner maps of the encoder again instead of keeping them.

    Raises:
        ModelError: A number is not usable.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        channels: Sequence[int] = (32, 32, 64, 128),
        units: Sequence[int] = (16, 32, 64, 128),
        pooled: int = 256,
        decoder_channels: Sequence[int] = (128, 64, 32, 16, 8),
        dropout: float = 0.3,
        attended_skips: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check(channels, units, decoder_channels, dropout, in_channels=in_channels, out_channels=out_channels,
               pooled=pooled)  # fmt: skip
        self.form = NetworkForm(in_channels=in_channels, multiples=(2 ** len(channels),) * 3)
        self.out_channels, self.attended_skips, self.checkpointing = out_channels, attended_skips, checkpointing
        scaled = [3 * ScaleAttention.width_of(u) for u in units]
        self.down = nn.ModuleList(StridedConv(b, a) for b, a in zip([in_channels, *scaled], channels, strict=False))
        self.scales = nn.ModuleList(ScaleAttention(b, u) for b, u in zip(channels, units, strict=True))
        self.pooling = PooledMaps(scaled[-1], pooled)
        # From here on the deepest level comes first.
        skips = [*(scaled if attended_skips else channels)[::-1], in_channels]
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for b, a in pairwise(decoder_channels))
        below = [4 * pooled, *decoder_channels[1:]]
        self.merge = nn.ModuleList(
            DecoderBlock(b + s, a, dropout) for b, s, a in zip(below, skips, decoder_channels, strict=True)
        )
        self.head = SameConv3d(decoder_channels[-1], max(2, out_channels), 1)
        for layer in (*self.up, self.head):
            glorot_uniform_3d(layer)

    def forward(self, batch: Tensor) -> Tensor:
        """Logits (N, out_channels, x, y, z)."""
        if not torch.onnx.is_in_onnx_export():
            self.form.check(tuple(batch.shape))
        features, skips = batch, [batch]
        for down, scale in zip(self.down, self.scales, strict=True):
            entered = run_part(down, features, recompute=self.checkpointing)
            features = run_part(scale, entered, recompute=self.checkpointing)
            skips.append(features if self.attended_skips else entered)
        features = self.merge[0](torch.cat([self.pooling(features), skips.pop()], dim=1))
        for up, block in zip(self.up, list(self.merge)[1:], strict=True):
            # The order of the two is that of the published weights.
            features = block(torch.cat([up(features), skips.pop()], dim=1))
        maps: Tensor = self.head(features)
        return maps if self.out_channels > 1 else maps[:, 1:] - maps[:, :1]


def _check(
    channels: Sequence[int], units: Sequence[int], decoder_channels: Sequence[int], dropout: float, **numbers: int
) -> None:
    lists = {"channels": channels, "units": units, "decoder_channels": decoder_channels}
    check_whole_numbers(_NAME, **lists, **numbers)
    for name, values in lists.items():
        if not isinstance(values, list | tuple):
            raise refused(_NAME, f"'{name}' is {values!r}.", "Give a list with one number a level.")
    check_same_lengths(_NAME, {"channels": channels, "units": units})
    if len(decoder_channels) != len(channels) + 1:
        raise refused(
            _NAME,
            f"'decoder_channels' has {len(decoder_channels)} entries, 'channels' {len(channels)}.",
            "Give the decoder one more: that of the input's resolution.",
        )
    if not 0.0 <= dropout < 1.0:
        raise refused(_NAME, f"'dropout' is {dropout!r}.", "Give a probability from 0 to below 1.")
