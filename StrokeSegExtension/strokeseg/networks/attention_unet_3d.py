"""The 3D attention U-Net for DWI and ADC, after its published description: 90,652,720 parameters.

With 48 features instead of 64 it has 50,996,008. Four levels above a bottleneck, instance normalisation, gates on the
skips, and in training three further outputs for deep supervision.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.checkpointing import run_part
from strokeseg.networks.form import NetworkForm
from strokeseg.networks.residual_unet import InstanceNorm
from strokeseg.networks.slice_network import check_whole_numbers, refused

_NAME = "attention-unet-3d"


class AttentionUNet3D(nn.Module):
    """A U-Net whose skips pass gates; ``forward`` takes (N, in_channels, x, y, z), axes multiples of 2^levels.

    It gives lesion logits (N, out_channels, x, y, z); in training, with `deep_supervision`, a dictionary of them as
    ``lesion`` and of coarser logits of the decoder's other levels: ``aux4`` at an eighth of the resolution, ``aux3``
    at a quarter, ``aux2`` at half. Whoever computes a loss of these interpolates them (trilinear, corners not aligned),
    as the published network does itself.

    Args:
        in_channels: Channels of the input; published are DWI, then ADC.
        out_channels: 1, or one a class with the background first.
        features: Channels of the finest level; every level has twice as many as the one above it.
        levels: Levels above the bottleneck.
        dropout: Probability with which a channel is left out after each convolution in training.
        attention: Have gates on the skips.
        deep_supervision: Have the further outputs in training.
        checkpointing: In training, compute inner maps again instead of keeping them; the published training does.

    Raises:
        ModelError: A number is not usable.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        features: int = 64,
        levels: int = 4,
        dropout: float = 0.15,
        attention: bool = True,
        deep_supervision: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check(levels, dropout, in_channels=in_channels, out_channels=out_channels, features=features)
        self.form = NetworkForm(in_channels=in_channels, multiples=(2**levels,) * 3)
        self.checkpointing = checkpointing
        widths = [features * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(ConvBlock(b, a, dropout) for b, a in pairwise([in_channels, *widths[:-1]]))
        self.bottleneck = ConvBlock(widths[-2], widths[-1], dropout)
        # From here on the deepest level comes first.
        self.up = nn.ModuleList(
            DecoderLevel(deep, fine, dropout, attention=attention) for deep, fine in pairwise(widths[::-1])
        )
        self.head = nn.Conv3d(features, out_channels, 1)
        self.auxiliary = nn.ModuleDict(
            {f"aux{level + 1}": nn.Conv3d(widths[level], out_channels, 1) for level in range(levels - 1, 0, -1)}
            if deep_supervision
            else {}
        )
        self.apply(_initialise)

    def forward(self, batch: Tensor) -> Tensor | dict[str, Tensor]:
        """Logits; in training, by name, those of the further outputs too."""
        if not torch.onnx.is_in_onnx_export():
            self.form.check(tuple(batch.shape))
        features, skips = batch, []
        for block in self.down:
            skips.append(run_part(block, features, recompute=self.checkpointing))
            features = functional.max_pool3d(skips[-1], 2)
        features = run_part(self.bottleneck, features, recompute=self.checkpointing)
        decoded = []
        for level in self.up:
            features = run_part(level, features, skips.pop(), recompute=self.checkpointing)
            decoded.append(features)
        logits: Tensor = self.head(features)
        if not self.training or not self.auxiliary:
            return logits
        coarse = zip(self.auxiliary.items(), decoded[:-1], strict=True)
        return {"lesion": logits, **{name: head(found) for (name, head), found in coarse}}


class ConvBlock(nn.Sequential):
    """Two 3x3x3 convolutions, each with norm, ReLU and dropout: (N, before, x, y, z) to (N, after, x, y, z).

    Args:
        before: Channels of the input.
        after: Channels of the output.
        dropout: Probability of leaving out a channel.
    """

    def __init__(self, before: int, after: int, dropout: float) -> None:
        layers: list[nn.Module] = []
        for channels in (before, after):
            layers += [
                nn.Conv3d(channels, after, 3, padding=1, bias=False),
                InstanceNorm(after, affine=True),
                nn.ReLU(inplace=True),
                nn.Dropout3d(dropout),
            ]
        super().__init__(*layers)


class DecoderLevel(nn.Module):
    """Enlarges, joins the gated skip behind it, and convolves: (N, deep, x, y, z) to (N, fine, 2x, 2y, 2z).

    Args:
        deep: Channels of the input.
        fine: Channels of skip and output.
        dropout: See `ConvBlock`.
        attention: Whether the skip passes a gate.
    """

    def __init__(self, deep: int, fine: int, dropout: float, *, attention: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(deep, fine, 2, stride=2)
        self.gate = AttentionGate(fine) if attention else None
        self.block = ConvBlock(2 * fine, fine, dropout)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """The level's output."""
        enlarged = self.up(features)
        passed = skip if self.gate is None else self.gate(enlarged, skip)
        # The order of the two is that of the published weights.
        result: Tensor = self.block(torch.cat([enlarged, passed], dim=1))
        return result


class AttentionGate(nn.Module):
    """Multiplies a skip by what decoder and skip together say about each voxel, 0 to 1; both (N, channels, x, y, z).

    Args:
        channels: Of decoder and skip; half of them, at least one, are compared.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        compared = max(1, channels // 2)
        self.of_decoder = nn.Sequential(nn.Conv3d(channels, compared, 1), InstanceNorm(compared, affine=True))
        self.of_skip = nn.Sequential(nn.Conv3d(channels, compared, 1), InstanceNorm(compared, affine=True))
        self.opening = nn.Sequential(nn.Conv3d(compared, 1, 1), InstanceNorm(1, affine=True))

    def forward(self, decoder: Tensor, skip: Tensor) -> Tensor:
        """The gated skip."""
        seen = functional.relu(self.of_decoder(decoder) + self.of_skip(skip))
        result: Tensor = skip * torch.sigmoid(self.opening(seen))
        return result


def _initialise(module: nn.Module) -> None:
    """Glorot's uniform weights and biases of 0, as published; transposed convolutions keep PyTorch's own."""
    if isinstance(module, nn.Conv3d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check(levels: int, dropout: float, **numbers: int) -> None:
    check_whole_numbers(_NAME, levels=levels, **numbers)
    if levels > 6:
        raise refused(_NAME, f"'levels' is {levels}.", "Give 1 to 6: each halves the axes.")
    if not 0.0 <= dropout < 1.0:
        raise refused(_NAME, f"'dropout' is {dropout!r}.", "Give a probability from 0 to below 1.")
