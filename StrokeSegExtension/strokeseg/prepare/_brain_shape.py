"""Notices by volume and shape that a mask is not the brain of an adult. Works on a coarse isotropic grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from strokeseg.prepare._brain_grid import isotropic_shape, resample
from strokeseg.prepare._whole_head import bounding_box

Mask = NDArray[np.bool_]

COARSE_MM = 4.0
# Adult brains with their CSF: 1000-1900 ml in most; the bounds are wide because masks differ in how much CSF they hold.
SMALLEST_ML, LARGEST_ML = 700.0, 2200.0
# The largest section of a slab: brains measure about 125 x 165 mm across, some 150 cm².
SMALLEST_SECTION_CM2, LARGEST_SECTION_CM2 = 40.0, 230.0
LEAST_SOLIDITY = 0.6  # mask over its convex hull; brains 0.8-0.95
LEAST_DEPTH = 0.35  # deepest voxel over the radius of an equally large ball or disc; brains 0.6-0.8, shells below 0.3
LEAST_MAIN_PIECE = 0.9
MOST_OF_SECTION = 0.95


def describe_doubts(mask: Mask, spacing_mm: tuple[float, float, float]) -> tuple[str, ...]:
    """What speaks against `mask` being an adult's brain, in sentences.

    Args:
        mask: bool (x, y, z), axes right, front, up.
        spacing_mm: Spacing along the axes.
    """
    if not mask.any():
        return ("No brain was found: the brain mask is empty.",)
    areas = [mask.sum(axis=tuple(b for b in range(3) if b != a)) for a in range(3)]
    cut = [a for a in range(3) if min(areas[a][0], areas[a][-1]) > 0 or _cut_wide(areas[a])]
    doubts = [*_size(mask, areas, cut, spacing_mm), *_filling(mask, areas)]
    work = resample(mask.astype(np.float32), isotropic_shape(mask.shape, spacing_mm, COARSE_MM)) > 0.5
    if work.any():
        doubts += _shape(work[bounding_box(work)], bool(cut))
    return tuple(doubts)


def _cut_wide(areas: NDArray[np.int64]) -> bool:
    """Whether the volume's border cuts the mask where it is wide: a slab, not a brain stem that leaves below."""
    return bool(max(areas[0], areas[-1]) > 0.3 * areas.max())


def _size(
    mask: Mask, areas: list[NDArray[np.int64]], cut: list[int], spacing_mm: tuple[float, float, float]
) -> list[str]:
    volume_ml = float(mask.sum()) * float(np.prod(spacing_mm)) / 1000
    expected = f"An adult brain has {SMALLEST_ML:.0f} to {LARGEST_ML:.0f} ml"
    if volume_ml > LARGEST_ML:
        return [f"The brain mask holds {volume_ml:.0f} ml. {expected}: skull or scalp is probably inside."]
    if not cut and volume_ml < SMALLEST_ML:
        return [f"The brain mask holds {volume_ml:.0f} ml. {expected}: parts of the brain are probably missing."]
    doubts = []
    for axis in cut:
        section = float(areas[axis].max()) * float(np.prod([s for a, s in enumerate(spacing_mm) if a != axis])) / 100
        if not SMALLEST_SECTION_CM2 <= section <= LARGEST_SECTION_CM2:
            doubts.append(
                f"The volume ends inside the brain mask, whose largest section has {section:.0f} cm². "
                f"Sections through an adult brain have {SMALLEST_SECTION_CM2:.0f} to {LARGEST_SECTION_CM2:.0f} cm²."
            )
    return doubts


def _filling(mask: Mask, areas: list[NDArray[np.int64]]) -> list[str]:
    """A section that is all mask was not separated from anything."""
    fractions = [float(areas[a].max()) * mask.shape[a] / mask.size for a in range(3) if mask.shape[a] > 1]
    # In a slab of one slice, or a few, every line through it may be full; the widest plane is the one that was scanned.
    widest = max(range(3), key=lambda a: mask.size // mask.shape[a])
    full = float(areas[widest].max()) * mask.shape[widest] / mask.size
    if full > MOST_OF_SECTION or (fractions and min(fractions) > MOST_OF_SECTION):
        return [f"The brain mask fills {100 * full:.0f} % of a slice: brain and surroundings were not told apart."]
    return []


def _shape(work: Mask, cut: bool) -> list[str]:
    """Pieces, thickness, solidity and place of the mask on the coarse grid."""
    doubts = []
    labels, count = ndimage.label(work)
    sizes = np.bincount(labels.ravel())[1:]
    if sizes.max() < LEAST_MAIN_PIECE * sizes.sum():
        doubts.append(
            f"The brain mask falls into {count} pieces; the largest holds {100 * sizes.max() / sizes.sum():.0f} %."
        )
    depth = float(ndimage.distance_transform_edt(work, sampling=COARSE_MM).max()) if not work.all() else np.inf
    if depth < LEAST_DEPTH * _equal_radius(work, cut):
        doubts.append(f"The brain mask is thin: no voxel lies deeper than {depth:.0f} mm below its surface.")
    solidity = float(work.sum()) / _hull_voxels(work)
    if solidity < LEAST_SOLIDITY:
        doubts.append(f"The brain mask is ragged or hollow: it fills {100 * solidity:.0f} % of its convex hull.")
    centroid = tuple(round(float(c)) for c in ndimage.center_of_mass(work))
    if not work[centroid]:
        doubts.append("The centre of the brain mask lies outside of it.")
    return doubts


def _equal_radius(work: Mask, cut: bool) -> float:
    """Radius in mm of the ball of the same volume; of a slab, of its mean section if that is smaller."""
    volume = float(work.sum()) * COARSE_MM**3
    ball = (3 * volume / (4 * np.pi)) ** (1 / 3)
    if not cut:
        return float(ball)
    thinnest = min(work.shape) * COARSE_MM
    return float(min(ball, np.sqrt(volume / thinnest / np.pi)))


def _hull_voxels(work: Mask) -> float:
    """Volume of the convex hull in voxels, of the voxels' corners, so that one slice has a volume, too."""
    # Only the first and last voxel of each line along z can be a corner of the hull.
    x, y = np.nonzero(work.any(axis=2))
    low = work.argmax(axis=2)[x, y]
    high = work.shape[2] - work[:, :, ::-1].argmax(axis=2)[x, y]
    corners = [np.stack([x + i, y + j, z], axis=1) for i in (0, 1) for j in (0, 1) for z in (low, high)]
    return float(ConvexHull(np.concatenate(corners)).volume)
