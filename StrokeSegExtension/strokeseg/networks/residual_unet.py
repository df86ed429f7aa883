"""The residual U-Net of StrokeSeg: five levels, instance normalisation, skips added.

With two inputs and one logit it has 5,103,601 parameters, with one input 5,103,153.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from strokeseg.errors import ModelError
from strokeseg.networks.form import NetworkForm

CHANNELS = (16, 32, 64, 128, 256)
TISSUES = ("background", "grey", "white", "csf")
"""Channels of the output ``tissue``, a softmax over them."""
# Negative slope of the activation; also what the initial weights are scaled for (He 2015).
_SLOPE = 0.01


class ResidualUNet(nn.Module):
    """A U-Net of residual blocks, one a level.

    ``forward`` takes (N, in_channels, x, y, z) with axes that are multiples of 2^(levels - 1) and gives lesion logits
    (N, out_channels, x, y, z); with `tissue`, a dictionary ``lesion``, ``tissue`` (N, 4, x, y, z), see `TISSUES`.

    Args:
        in_channels: Channels of the input.
        out_channels: 1, or one a class with the background first.
        channels: Channels of each level from the finest, each half as fine as the one before.
        tissue: Add the second head.

    Raises:
        ModelError: A number is not usable.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        channels: Sequence[int] = CHANNELS,
        tissue: bool = False,
    ) -> None:
        super().__init__()
        _check_numbers(in_channels, out_channels, channels)
        levels = len(channels)
        self.form = NetworkForm(
            in_channels=in_channels,
            outputs=("lesion", "tissue") if tissue else ("lesion",),
            multiples=(2 ** (levels - 1),) * 3,
        )
        before = [in_channels, *channels[:-1]]
        self.down = nn.ModuleList(
            ResidualBlock(b, c, stride=1 if level == 0 else 2)
            for level, (b, c) in enumerate(zip(before, channels, strict=True))
        )
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose3d(deep, fine, 2, stride=2, bias=False) for deep, fine in pairs)
        self.merge = nn.ModuleList(ResidualBlock(fine, fine) for _, fine in pairs)
        self.heads = nn.ModuleDict({"lesion": nn.Conv3d(channels[0], out_channels, 1)})
        if tissue:
            self.heads["tissue"] = nn.Conv3d(channels[0], len(TISSUES), 1)
        self.apply(_initialise)

    def forward(self, batch: Tensor) -> Tensor | dict[str, Tensor]:
        """Logits (N, K, x, y, z), by name where there is more than one output."""
        if not torch.onnx.is_in_onnx_export():
            self.form.check(tuple(batch.shape))
        skips = []
        features = batch
        for block in self.down:
            features = block(features)
            skips.append(features)
        for up, block, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            features = block(up(features) + skip)
        if len(self.heads) == 1:
            logits: Tensor = self.heads["lesion"](features)
            return logits
        return {name: head(features) for name, head in self.heads.items()}


class ResidualBlock(nn.Module):
    """Two convolutions with normalisation and a shortcut: (N, before, x, y, z) to (N, after, x/stride, ...).

    Args:
        before: Channels of the input.
        after: Channels of the output.
        stride: Of the first convolution and the shortcut.
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv3d(before, after, 3, stride=stride, padding=1, bias=False)
        self.first_norm = InstanceNorm(after, affine=True)
        self.second = nn.Conv3d(after, after, 3, padding=1, bias=False)
        self.second_norm = InstanceNorm(after, affine=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=stride, bias=False), InstanceNorm(after, affine=True)
            )
        self.activation = nn.LeakyReLU(_SLOPE, inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """The block's output."""
        inner = self.activation(self.first_norm(self.first(features)))
        inner = self.second_norm(self.second(inner))
        result: Tensor = self.activation(inner + self.shortcut(features))
        return result


class InstanceNorm(nn.InstanceNorm3d):
    """Instance normalisation that also takes a map of one voxel, where it gives its bias, as every other runtime does.

    PyTorch refuses one voxel, which is what the deepest of five levels has of 16x16x16.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features, same shape."""
        cudnn = torch.backends.cudnn.enabled
        return torch.instance_norm(features, self.weight, self.bias, None, None, True, 0.0, self.eps, cudnn)


def _initialise(module: nn.Module) -> None:
    """He's normal weights, biases 0: variance stays the same from layer to layer."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_numbers(in_channels: int, out_channels: int, channels: Sequence[int]) -> None:
    levels = channels if isinstance(channels, list | tuple) else (0,)
    for name, values in (("in_channels", [in_channels]), ("out_channels", [out_channels]), ("channels", levels)):
        whole = all(isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= 4096 for v in values)
        if not whole or not 1 <= len(values) <= 8:
            seen = {"in_channels": in_channels, "out_channels": out_channels, "channels": channels}[name]
            raise ModelError(
                "The network 'residual-unet' cannot be built.",
                f"'{name}' is {seen!r}.",
                "Give whole numbers from 1 to 4096; 'channels' is a list of them, one for each of up to 8 levels.",
            )
