"""The coarse, isotropic grid on which the brain is searched: canonical axes and smooth interpolation both ways.

The axes are first brought to right, front, up: the search sees the same numbers for all 48 ways of storing a volume.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strokeseg.volume.grid import Affine, Grid, closest_axes

Float = NDArray[np.float32]
Window = tuple[slice, slice, slice]
Scalar = TypeVar("Scalar", bound=np.generic)


def spacing_of(affine: ArrayLike) -> tuple[float, float, float]:
    """Voxel spacing in mm along the three axes of `affine` (4x4)."""
    return Grid((1, 1, 1), np.asarray(affine, dtype=np.float64)).spacing_mm


class CanonicalAxes:
    """Takes arrays to axes that point right, front and up as closely as possible, and back.

    Args:
        affine: 4x4, voxel index to RAS mm.

    Attributes:
        spacing_mm: Spacing along the canonical axes, mm.
    """

    def __init__(self, affine: Affine) -> None:
        axes = closest_axes(affine)
        self._order = tuple(int(i) for i in np.argsort([world for world, _ in axes]))
        self._flip = tuple(a for a, i in enumerate(self._order) if axes[i][1] < 0)
        spacing = spacing_of(affine)
        self.spacing_mm = (spacing[self._order[0]], spacing[self._order[1]], spacing[self._order[2]])

    def there(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """`array` (x, y, z) with canonical axes, contiguous."""
        return np.ascontiguousarray(np.flip(array.transpose(self._order), self._flip))

    def back(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """The inverse of `there`."""
        return np.ascontiguousarray(np.flip(array, self._flip).transpose(np.argsort(self._order)))


def isotropic_shape(shape: tuple[int, ...], spacing_mm: tuple[float, ...], target_mm: float) -> tuple[int, int, int]:
    """Voxels of an isotropic grid of `target_mm` that covers the same block as `shape` voxels of `spacing_mm`."""
    x, y, z = (max(1, round(n * s / target_mm)) for n, s in zip(shape, spacing_mm, strict=True))
    return x, y, z


def resample(array: Float, shape: tuple[int, int, int], window: Window | None = None) -> Float:
    """`array` on `shape` voxels that cover the same block: linear, with triangle-weighted means when shrinking.

    Args:
        array: (x, y, z).
        shape: Wanted number of voxels.
        window: Part of the result that is wanted; None: all of it.

    Returns:
        float32 of `shape`, or of the window. Beyond the outermost voxel centres the values continue unchanged.
    """
    result = np.asarray(array, dtype=np.float32)
    # Axes that shrink come first: the later products are smaller.
    parts = window or (slice(None), slice(None), slice(None))
    for axis in sorted(range(3), key=lambda a: len(range(shape[a])[parts[a]]) / array.shape[a]):
        if shape[axis] != array.shape[axis] or parts[axis] != slice(None):
            weights = _weights(array.shape[axis], shape[axis])[parts[axis]]
            result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def _weights(old: int, new: int) -> Float:
    """(new, old) rows that sum to 1."""
    scale = old / new
    at = (np.arange(new) + 0.5) * scale - 0.5
    distance = np.abs(np.clip(at, 0, old - 1)[:, None] - np.arange(old)[None])
    weights = np.clip(1.0 - distance / max(1.0, scale), 0.0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
