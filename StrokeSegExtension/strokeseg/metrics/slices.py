"""Slice by slice: Dice in groups of slices by how much of the brain's cross-section is lesion.

Published two-dimensional systems report these groups; a volume's own Dice is the figure to compare systems with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from strokeseg.metrics.inputs import as_affine, as_mask, ratio, require_shape

# Share of lesion in the brain's cross-section, borders as in the slice-wise evaluation of StrokeFormer.
SLICE_BORDERS = (0.0, 0.01, 0.05)
SLICE_STRATA = ("no lesion", "up to 1 %", "1-5 %", "over 5 %")


@dataclass(frozen=True)
class SliceStratum:
    """Slices of one group.

    Attributes:
        stratum: Name of the group.
        slices: Number of slices with brain in them.
        mean_dice: Mean of the slices' Dice; NaN for the group without lesion, where false positives count instead.
        slices_with_false_positives: Slices with at least one predicted voxel outside the reference.
    """

    stratum: str
    slices: int
    mean_dice: float
    slices_with_false_positives: int


def slices_by_lesion_fraction(
    prediction: ArrayLike, reference: ArrayLike, brain: ArrayLike, affine: ArrayLike
) -> tuple[SliceStratum, ...]:
    """Group the slices across the voxel axis that runs closest to head-foot.

    Args:
        prediction: Mask (x, y, z).
        reference: Mask of the same shape.
        brain: Brain mask of the same shape; slices without brain are left out.
        affine: 4x4, voxel index to RAS mm.

    Raises:
        InputError: Shapes differ or an input is not a mask.
    """
    p, g, b = as_mask(prediction, "prediction"), as_mask(reference, "reference"), as_mask(brain, "brain mask")
    require_shape(p.shape, g.shape, "prediction")
    require_shape(b.shape, g.shape, "brain mask")
    axes = as_affine(affine)[:3, :3]
    axis = int(np.argmax(np.abs(axes[2]) / np.linalg.norm(axes, axis=0)))
    plane = tuple(a for a in range(3) if a != axis)
    p_area, g_area, both, b_area = (m.sum(axis=plane) for m in (p, g, p & g, b))
    used = b_area > 0
    fraction = g_area[used] / b_area[used]
    group = np.searchsorted(SLICE_BORDERS, fraction, side="left")
    dice = np.array([ratio(2 * t, s) for t, s in zip(both[used], (p_area + g_area)[used], strict=True)])
    false_positive = (p_area > both)[used]
    return tuple(
        SliceStratum(
            stratum=name,
            slices=int((group == k).sum()),
            mean_dice=float(dice[group == k].mean()) if k and (group == k).any() else float("nan"),
            slices_with_false_positives=int(false_positive[group == k].sum()),
        )
        for k, name in enumerate(SLICE_STRATA)
    )
