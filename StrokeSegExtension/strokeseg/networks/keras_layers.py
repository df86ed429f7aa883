"""Layers as Keras has them, for networks that were published in it, so that their weights can be carried over."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

# Keras's constants; its momentum 0.99 is the share that is kept, PyTorch's the share that is taken.
NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.01
# A normal distribution cut at two standard deviations has this standard deviation.
_CUT_NORMAL = 0.87962566103423978


class SameConv2d(nn.Conv2d):
    """A convolution with Keras's padding "same": (N, before, x, y) to (N, after, x/stride, y/stride).

    With a stride of 2, axes of even size get no zero before and one after: PyTorch's symmetric padding would read
    other pixels.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        kernel: 1 or 3.
        stride: 1 or 2; the axes must be multiples of it.
    """

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(before, after, kernel, stride=stride, padding=kernel // 2 if stride == 1 else 0)
        self.zeros_after = max(kernel - stride, 0) if stride > 1 else 0

    def forward(self, features: Tensor) -> Tensor:
        """The convolved features."""
        if self.zeros_after:
            features = functional.pad(features, (0, self.zeros_after, 0, self.zeros_after))
        return super().forward(features)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with Keras's constants."""
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)


class NormedConv(nn.Module):
    """A 3x3 convolution and its norm, no activation: (N, before, x, y) to (N, after, x/stride, y/stride).

    Args:
        before: Channels of the input.
        after: Channels of the output.
        stride: 1 or 2.
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = SameConv2d(before, after, stride=stride)
        self.norm = batch_norm(after)

    def forward(self, features: Tensor) -> Tensor:
        """The normalised features."""
        result: Tensor = self.norm(self.conv(features))
        return result


def glorot_uniform(module: nn.Module) -> None:
    """Draw a convolution's weights as Keras does by default (Glorot 2010); biases 0. Other layers stay."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        _zero_bias(module)


def he_normal(module: nn.Module) -> None:
    """Draw a convolution's weights as Keras's ``he_normal`` (He 2015), cut at two deviations; biases 0."""
    if isinstance(module, nn.Conv2d):
        inputs = module.in_channels * math.prod(module.kernel_size)
        deviation = math.sqrt(2.0 / inputs) / _CUT_NORMAL
        nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        _zero_bias(module)


def _zero_bias(module: nn.Conv2d | nn.ConvTranspose2d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)
