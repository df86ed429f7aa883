"""Layers in three dimensions as Keras has them, for networks that were published in it; see `keras_layers` for two."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.keras_layers import NORM_EPSILON, NORM_MOMENTUM


class SameConv3d(nn.Conv3d):
    """A convolution with Keras's padding "same": (N, before, x, y, z) to (N, after, x/stride, y/stride, z/stride).

    With a stride of 2, axes of even size get one zero more after than before: none and one for a kernel of 3.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        kernel: Odd.
        stride: 1 or 2; the axes must be multiples of it.
        bias: Have one.
    """

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1, *, bias: bool = True) -> None:
        super().__init__(before, after, kernel, stride=stride, padding=kernel // 2 if stride == 1 else 0, bias=bias)
        zeros = max(kernel - stride, 0) if stride > 1 else 0
        self.zeros = (zeros // 2, zeros - zeros // 2)

    def forward(self, features: Tensor) -> Tensor:
        """The convolved features."""
        if any(self.zeros):
            features = functional.pad(features, self.zeros * 3)
        return super().forward(features)


def batch_norm_3d(channels: int, *, scale: bool = True) -> nn.BatchNorm3d:
    """Batch normalisation with Keras's constants.

    Args:
        channels: Of what is normalised.
        scale: Without it there is no factor to learn; the layer then holds ones that are not trained.
    """
    norm = nn.BatchNorm3d(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)
    norm.weight.requires_grad_(scale)
    return norm


def glorot_uniform_3d(module: nn.Module) -> None:
    """Draw a convolution's weights as Keras does by default (Glorot 2010); biases 0. Other layers stay."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.xavier_uniform_(module.weight)
        _zero_bias(module)


def he_uniform_3d(module: nn.Module) -> None:
    """Draw a convolution's weights as Keras's ``he_uniform`` (He 2015); biases 0. Other layers stay."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        _zero_bias(module)


def _zero_bias(module: nn.Conv3d | nn.ConvTranspose3d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)
