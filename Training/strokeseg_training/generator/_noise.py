"""Noise of a magnitude image on the scanner's grid, ghosts and slices that lost signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strokeseg_training.generator.fields import white_noise


@dataclass(frozen=True)
class Noise:
    """Noise of one scan.

    Args:
        snr: Signal of parenchyma over the noise's standard deviation, at the edge of the head.
        coils: Effective number of receivers whose squares are summed; 1 is a Rician magnitude.
        g_factor: How much stronger noise is in the middle: parallel imaging.
        correlation: Of neighbours in the plane, 0-0.5, by filters and interpolation of frequencies.
        seed: Of the noise.
    """

    snr: float
    coils: float
    g_factor: float
    correlation: float
    seed: int


def magnitude(signal: Tensor, noise: Noise, sd: float, image: int) -> Tensor:
    """The magnitude of a signal with noise: sqrt((S + n1)² + n2² + 2 (coils - 1) sd²).

    One receiver gives Rice's distribution, E[M²] = S² + 2 sd². With L of them M² is non-central chi-square with 2 L
    degrees of freedom; the 2 (L - 1) that hold no signal are replaced by their mean.

    Args:
        signal: (x, y, z), not negative.
        noise: Of the scan.
        sd: Standard deviation of each channel at the edge of the head.
        image: Number of the image in the scan: each has noise of its own.
    """
    shape = signal.shape
    parts = white_noise([noise.seed * 4 + image], (2, *shape), signal.device)[0]
    if noise.correlation > 0.0:
        # Of neighbours at distance 1: c / (1 + c²).
        c = (1.0 - (1.0 - 4.0 * noise.correlation**2) ** 0.5) / (2.0 * noise.correlation)
        for axis in (1, 2):
            parts = (parts + c * parts.roll(1, axis)) / (1.0 + c * c) ** 0.5
    strength: Tensor | float = sd
    if noise.g_factor > 0.0:
        x, y = (torch.linspace(-1.0, 1.0, n, device=signal.device) for n in shape[:2])
        bump = (-2.0 * x.square()).exp()[:, None, None] * (-2.0 * y.square()).exp()[None, :, None]
        strength = sd * (1.0 + noise.g_factor * bump)
    real = parts[0].mul_(strength).add_(signal)
    power = real.square_().add_(parts[1].mul_(strength).square_())
    if noise.coils > 1.0:
        power += 2.0 * (noise.coils - 1.0) * strength**2
    return power.sqrt_()


def ghosted(image: Tensor, share: float, half: int, axis: int) -> Tensor:
    """An image with `share` of itself `half` samples away on both sides along an axis: a Nyquist ghost."""
    count = image.shape[axis]
    if half >= count:
        return image
    result = image.clone()
    result.narrow(axis, half, count - half).add_(image.narrow(axis, 0, count - half), alpha=share)
    result.narrow(axis, 0, count - half).add_(image.narrow(axis, half, count - half), alpha=share)
    return result


def slice_gains(count: int, interleave: float, drops: Sequence[tuple[float, float]], device: torch.device) -> Tensor:
    """Factor of each slice: odd ones brighter than even ones, and some that lost signal.

    Args:
        count: Slices.
        interleave: Relative brightness of odd slices.
        drops: Place in the stack 0-1, and what is left of the signal.
        device: Where the result goes.
    """
    gains = torch.ones(count)
    gains[1::2] += interleave
    for place, left in drops:
        gains[min(count - 1, int(place * count))] *= left
    return gains.to(device)
