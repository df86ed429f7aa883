"""Channels that are computed from more than one place, and what may happen to them once they are made.

A flipped mirror difference is the mirror difference of the flipped image. A bent or brightened one is not that of the
bent or brightened image: the network would learn what it never meets. Where such channels are stored, changes that they
cannot follow are refused; where they are made afterwards (`augment_sample`), everything is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from strokeseg.errors import InputError
from strokeseg_training.recipe_augment import Augmentation

MASKS = frozenset({"brain"})
"""Channels that are 0 or 1: they move with the voxels, stay 0 or 1, and have no intensity."""

FLIPPED = MappingProxyType(
    {
        "dwi_mirror_log_ratio": "xyz",
        "adc_mirror_log_ratio": "xyz",
        "t1_mirror_log_ratio": "xyz",
        "edge_distance_mm": "xyz",
        "height": "xy",
    }
)
"""Channels that can be flipped along the axes named, and not be changed otherwise."""


def refuse_inconsistent(channels: Sequence[str], settings: Augmentation) -> None:
    """Refuse changes that a computed channel cannot follow.

    Raises:
        InputError: Names the channel and the change.
    """
    for channel in channels:
        allowed = FLIPPED.get(channel)
        if allowed is None:
            continue
        wrong = [f"flips.{a}" for a in "xyz" if getattr(settings.flips, a) > 0 and a not in allowed]
        wrong += [name for name in _OTHER if (step := getattr(settings, name)) is not None and step.p > 0]
        if wrong:
            raise InputError(
                f"The channel '{channel}' cannot follow the augmentation.",
                f"It is computed from several places of the images, and '{wrong[0]}' would leave it different from "
                "what the engine computes of the changed images.",
                "Leave out " + ", ".join(f"'{w}'" for w in wrong) + ", or this channel.",
            )


_OTHER = ("rotation", "scale", "elastic", "gain", "gamma", "brightness", "blur", "noise")
