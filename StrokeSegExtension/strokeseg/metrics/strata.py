"""The groups in which results are shown: by lesion volume of the case, by component size, by performance.

Each group has an open side where the field's tables have one: "<1 ml", "1-10 ml" (both ends included), ">10 ml".
"""

from __future__ import annotations

import math

CASE_VOLUME_ML = (1.0, 10.0)
CASE_STRATA = ("<1 ml", "1-10 ml", ">10 ml")
COMPONENT_VOLUME_ML = (0.1, 1.0)
COMPONENT_STRATA = ("<0.1 ml", "0.1-1 ml", ">1 ml")
TIER_DICE = (0.8, 0.6, 0.4)
TIERS = (">=0.8", "0.6-0.8", "0.4-0.6", "<0.4")

# A header holds float32, so ten voxels of 0.1 ml each come out as 0.99999996 ml: the borders have this much room.
_RELATIVE_ROOM = 1e-5


def _stratum(volume_ml: float, borders_ml: tuple[float, float], names: tuple[str, str, str]) -> str:
    low, high = borders_ml
    if volume_ml < low * (1 - _RELATIVE_ROOM):
        return names[0]
    return names[1] if volume_ml <= high * (1 + _RELATIVE_ROOM) else names[2]


def volume_stratum(reference_ml: float) -> str:
    """Name of the group of a case with this much lesion in the reference, in ml."""
    return _stratum(reference_ml, CASE_VOLUME_ML, CASE_STRATA)


def component_stratum(component_ml: float) -> str:
    """Name of the group of one lesion component of this volume in ml."""
    return _stratum(component_ml, COMPONENT_VOLUME_ML, COMPONENT_STRATA)


def performance_tier(dice: float) -> str | None:
    """Name of the tier of a Dice; None where Dice is NaN."""
    if math.isnan(dice):
        return None
    for border, name in zip(TIER_DICE, TIERS, strict=False):
        if dice >= border:
            return name
    return TIERS[-1]
