"""Whether an affine can be believed: finite, not singular, with spacings that a brain scan has.

Imports `strokeseg.errors` through the guards of `source`, and numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from strokeseg.volume.grid import Affine, Grid
from strokeseg.volume.source import unusable

MIN_SPACING_MM = 0.1
MAX_SPACING_MM = 20.0
MAX_SHEAR = 1e-3
LPS_TO_RAS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_from_lps(direction: ArrayLike, spacing_mm: ArrayLike, origin_mm: ArrayLike) -> Affine:
    """4x4 voxel to RAS mm from what ITK and DICOM say in LPS.

    Args:
        direction: 3x3, its columns the directions of the voxel axes in LPS.
        spacing_mm: Spacing along the three voxel axes.
        origin_mm: LPS mm of the centre of voxel (0, 0, 0).
    """
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction, dtype=np.float64).reshape(3, 3) * np.asarray(spacing_mm, dtype=np.float64)
    affine[:3, 3] = np.asarray(origin_mm, dtype=np.float64)
    return LPS_TO_RAS @ affine


def fault_of(affine: Affine) -> str | None:
    """Why the affine places no voxel in the patient, in words; None when it does."""
    if not np.isfinite(affine).all():
        return "it holds values that are not numbers"
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not lengths.all():
        return "a voxel axis has the length zero"
    # The volume spanned by the three unit vectors: 1 when perpendicular, 0 when two axes fall together.
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        return "it is singular: two voxel axes point the same way"
    return None


def check_placement(name: str, shape: tuple[int, int, int], affine: Affine) -> tuple[str, ...]:
    """Refuse an affine that cannot be right; return notes on what is unusual about it.

    Raises:
        InputError: Not finite, singular, or a spacing outside 0.1-20 mm.
    """
    fault = fault_of(affine)
    if fault is not None:
        raise unusable(
            name, f"Its place in the patient is unknown: {fault}.", "Export the image again with its geometry."
        )
    grid = Grid(shape, affine)
    if min(grid.spacing_mm) < MIN_SPACING_MM or max(grid.spacing_mm) > MAX_SPACING_MM:
        seen = " x ".join(f"{s:.4g}" for s in grid.spacing_mm)
        raise unusable(
            name,
            f"Its voxel spacing of {seen} mm is not that of a brain scan, {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm.",
            "Check the unit and the voxel size in the program that wrote the file.",
        )
    notes = []
    if grid.shear > MAX_SHEAR:
        degrees = np.degrees(np.arcsin(min(grid.shear, 1.0)))
        notes.append(
            f"The voxel axes of the image are not perpendicular (by {degrees:.2g} degrees); the shear was kept."
        )
    if min(shape) == 1:
        notes.append("The image has a single slice; what lies beside it is not known.")
    return tuple(notes)
