"""Masks on another grid, without losing a lesion: what is smaller than the new voxels keeps at least one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.volume import Grid, resample_mask

_NEIGHBOURS = np.ones((3, 3, 3), dtype=int)
Labels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Moved:
    """Labels on another grid.

    Args:
        labels: uint8 (x, y, z).
        rescued: Lesions whose share of every new voxel was too small, and that were given voxels all the same.
        lost: Lesions that lie outside the new grid.
    """

    labels: Labels
    rescued: int
    lost: int


def move_labels(labels: Labels, source: Grid, target: Grid) -> Moved:
    """Bring labels to another grid: a label's share of the voxel decides, and no lesion vanishes.

    A lesion of 2x2x2 voxels can fall between the centres of voxels that are not even twice as large: no share reaches
    one half. Such a lesion gets the new voxels whose centres lie in it, or else the one that is nearest to its middle.

    Args:
        labels: (x, y, z) on `source`, 0 is background.
        source: Grid of `labels`.
        target: Grid of the result.
    """
    moved = resample_mask(labels, source, target)
    rescued = lost = 0
    for value in (int(v) for v in np.unique(labels) if v):
        lesions, _ = ndimage.label(labels == value, _NEIGHBOURS)
        kept = _touched(lesions, np.argwhere(moved == value), source, target)
        for number, box in enumerate(ndimage.find_objects(lesions), start=1):
            if number in kept:
                continue
            voxels = _voxels_for(lesions, number, box, source, target)
            if not len(voxels):
                lost += 1
                continue
            place = tuple(voxels.T)
            # A class that overrides this one keeps its voxels.
            moved[place] = np.maximum(moved[place], value)
            rescued += 1
    return Moved(moved, rescued, lost)


def _touched(lesions: NDArray[np.int32], voxels: NDArray[np.intp], source: Grid, target: Grid) -> set[int]:
    """Numbers of the lesions in which centres of the target's voxels lie."""
    if not len(voxels):
        return set()
    index = np.rint(source.to_voxel(target.to_world(voxels))).astype(int)
    index = np.clip(index, 0, np.array(lesions.shape) - 1)
    return {int(n) for n in np.unique(lesions[tuple(index.T)]) if n}


def _voxels_for(
    lesions: NDArray[np.int32], number: int, box: tuple[slice, ...], source: Grid, target: Grid
) -> NDArray[np.intp]:
    """(n, 3): voxels of the target for a lesion; none where it lies outside of it."""
    own = np.argwhere(lesions[box] == number) + [s.start for s in box]
    candidates = np.unique(np.rint(target.to_voxel(source.to_world(own))).astype(int), axis=0)
    candidates = candidates[((candidates >= 0) & (candidates < target.shape)).all(axis=1)]
    if not len(candidates):
        return candidates
    back = source.to_voxel(target.to_world(candidates))
    index = np.clip(np.rint(back).astype(int), 0, np.array(lesions.shape) - 1)
    inside = lesions[tuple(index.T)] == number
    if inside.any():
        return candidates[inside]
    distance = np.linalg.norm((back - own.mean(axis=0)) * source.spacing_mm, axis=1)
    return candidates[[int(distance.argmin())]]
