"""Changes of the images' values: gain, gamma, brightness, blur, noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.augment.computed import FLIPPED, MASKS
from strokeseg_training.augment.example import Example
from strokeseg_training.generator.fields import blur
from strokeseg_training.recipe_augment import Augmentation, ChannelStep

STEPS = ("gain", "gamma", "brightness", "blur", "noise")
"""In the order in which they are done."""

# The number drawn of a step: the field of the recipe that holds its range.
_RANGES = {"gain": "factor", "gamma": "power", "brightness": "shift", "blur": "sigma", "noise": "sd"}
# What changes nothing.
_NEUTRAL = {"gain": 1.0, "gamma": 1.0, "brightness": 0.0, "blur": 0.0, "noise": 0.0}


def change_intensities(
    example: Example, settings: Augmentation, streams: Mapping[str, np.random.Generator], inside: Tensor | None
) -> Example:
    """The example with other intensities; masks and computed channels stay.

    Args:
        example: Not damaged.
        settings: Of the recipe.
        streams: Random numbers of each of `STEPS`.
        inside: (x, y, z) boolean, where intensities change; none: everywhere.
    """
    chosen = [k for k, name in enumerate(example.channels) if name not in MASKS and name not in FLIPPED]
    images: Tensor | None = None
    for name in STEPS:
        step: ChannelStep | None = getattr(settings, name)
        if step is None:
            continue
        for k, number in _drawn(step, getattr(step, _RANGES[name]), chosen, streams[name]):
            if number == _NEUTRAL[name]:
                continue
            images = example.images.clone() if images is None else images
            changed = _CHANGES[name](images[k], number, _Where(example, inside, streams[name]))
            if settings.clip is not None:
                changed = changed.clamp(*settings.clip)
            images[k] = changed if inside is None else torch.where(inside, changed, images[k])
    return example if images is None else replace(example, images=images)


class _Where:
    """What a change may ask for."""

    def __init__(self, example: Example, inside: Tensor | None, rng: np.random.Generator) -> None:
        self.example, self.inside, self.rng = example, inside, rng

    def span(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest value, and the largest less the smallest."""
        values = image if self.inside is None or not bool(self.inside.any()) else image[self.inside]
        low, high = torch.aminmax(values)
        return low, high - low


def _drawn(
    step: ChannelStep, between: tuple[float, float], channels: list[int], rng: np.random.Generator
) -> Iterator[tuple[int, float]]:
    """Channels to change, each with its number."""
    if not step.per_channel:
        number = float(rng.uniform(*between)) if rng.random() < step.p else None
        yield from ((k, number) for k in channels if number is not None)
        return
    # All are drawn before the first is changed: a change may draw, too.
    numbers = [float(rng.uniform(*between)) if rng.random() < step.p else None for _ in channels]
    yield from ((k, number) for k, number in zip(channels, numbers, strict=True) if number is not None)


def _gained(image: Tensor, factor: float, _: _Where) -> Tensor:
    return image * factor


def _powered(image: Tensor, power: float, where: _Where) -> Tensor:
    low, span = where.span(image)
    if not float(span) > 0.0:
        return image
    return ((image - low) / span).clamp(0.0, 1.0).pow(power) * span + low


def _shifted(image: Tensor, shift: float, where: _Where) -> Tensor:
    return image + shift * where.span(image)[1]


def _blurred(image: Tensor, sigma: float, where: _Where) -> Tensor:
    spacing = where.example.spacing_mm
    pixel = min(s for s, n in zip(spacing, image.shape, strict=True) if n > 1)
    return blur(image[None, None], sigma * pixel, spacing)[0, 0]


def _noised(image: Tensor, sd: float, where: _Where) -> Tensor:
    # Drawn by numpy: the same on every device.
    noise = where.rng.standard_normal(tuple(image.shape), dtype=np.float32)
    return image + sd * torch.from_numpy(noise).to(image)


_CHANGES: dict[str, Callable[[Tensor, float, Any], Tensor]] = {
    "gain": _gained,
    "gamma": _powered,
    "brightness": _shifted,
    "blur": _blurred,
    "noise": _noised,
}
