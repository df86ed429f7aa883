"""Resampling onto another grid by world coordinates, in one interpolation, anti-aliased where the target is coarser.

Frames: arrays are (x, y, z) voxel order, grids map voxels to RAS mm.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.volume.grid import Affine, Grid

Interpolation = Literal["nearest", "linear", "bspline"]
LatticeStep = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
_ORDER: dict[str, int] = {"nearest": 0, "linear": 1, "bspline": 3}
# Smoothing before shrinking costs small lesions volume (a blur of variance v mm² takes 3 v / r² off a ball of radius
# r), no smoothing lets noise fold over. Up to twice the source's voxel nothing is done: spline samples of a smooth scan
# are right there. Above that, half of the variance of a box as wide as the target's voxel keeps the loss within 2 %.
_FREE_RATIO = 2.0
_VARIANCE_SHARE = 1.0 / 24.0


def resample(
    array: NDArray[np.generic],
    source: Grid,
    target: Grid,
    interpolation: Interpolation = "linear",
    *,
    outside: float = 0.0,
) -> NDArray[np.float32]:
    """Values of an image at the voxel centres of another grid.

    Positions up to half a voxel outside the outermost centres take the value of the nearest voxel; further out they get
    `outside`. Where the target's voxels are more than twice as large as the source's, the source is smoothed first (not
    for ``nearest``).

    Args:
        array: Image (x, y, z) on `source`.
        source: Grid of `array`.
        target: Grid of the result.
        interpolation: ``nearest``, ``linear`` or ``bspline`` (cubic).
        outside: Value beyond the source's voxel block.

    Returns:
        float32 array of shape ``target.shape``.
    """
    exact = lattice_step(source, target)
    if exact is not None:
        return _copy_lattice(np.asarray(array, dtype=np.float32), target.shape, exact, outside)
    matrix = np.linalg.inv(source.affine) @ target.affine
    image = np.asarray(array, dtype=np.float32)
    if interpolation != "nearest":
        image = _smooth_for(image, matrix)
    result: NDArray[np.float32] = ndimage.affine_transform(
        image,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape,
        output=np.float32,
        order=_ORDER[interpolation],
        mode="nearest",
        prefilter=interpolation == "bspline",
    )
    result[~_inside(matrix, source.shape, target.shape)] = outside
    return result


def resample_mask(mask: NDArray[np.generic], source: Grid, target: Grid) -> NDArray[np.uint8]:
    """A label map on another grid: every label's share of the voxel is interpolated linearly, the largest share wins.

    For one label that is "its share is at least one half". Small lesions survive better than by nearest neighbour,
    and no label appears that was not there.

    Args:
        mask: Whole numbers 0-255 (x, y, z) on `source`; 0 is background.
        source: Grid of `mask`.
        target: Grid of the result.
    """
    labels = [int(v) for v in np.unique(mask) if v != 0]
    best = resample(mask == 0, source, target, outside=1.0)
    result = np.zeros(target.shape, dtype=np.uint8)
    for label in labels:
        share = resample(mask == label, source, target)
        wins = share >= best - 1e-6
        result[wins] = label
        best = np.where(wins, share, best)
    return result


def lattice_step(source: Grid, target: Grid) -> LatticeStep | None:
    """How the target's voxels are the source's own voxels, only permuted, flipped and shifted; None where they are not.

    Returns:
        ``(axes, signs, offset)``: target voxel t sits on the source voxel s with
        ``s[axes[k]] = signs[k] * t[k] + offset[axes[k]]``.
    """
    matrix = np.linalg.inv(source.affine) @ target.affine
    whole = np.rint(matrix)
    # A hundredth of a voxel over the whole field of view: below that, interpolating would only blur.
    extent = np.array([*(max(s - 1, 1) for s in target.shape), 1.0])
    if (np.abs(matrix - whole)[:3] @ extent).max() > 1e-2:
        return None
    steps = whole[:3, :3]
    if not (np.abs(steps).sum(axis=0) == 1).all() or not (np.abs(steps).sum(axis=1) == 1).all():
        return None
    axes = tuple(int(np.argmax(np.abs(steps[:, k]))) for k in range(3))
    signs = tuple(int(steps[axes[k], k]) for k in range(3))
    return axes, signs, tuple(int(v) for v in whole[:3, 3])


def _copy_lattice(
    image: NDArray[np.float32], shape: tuple[int, int, int], step: LatticeStep, outside: float
) -> NDArray[np.float32]:
    """Copy voxels that coincide; no interpolation, so there and back is bit-exact."""
    axes, signs, offset = step
    moved = image.transpose(axes)
    result = np.full(shape, outside, dtype=np.float32)
    into, take = [], []
    for k in range(3):
        size, start = moved.shape[k], offset[axes[k]]
        t = np.arange(shape[k])
        s = signs[k] * t + start
        valid = (s >= 0) & (s < size)
        into.append(t[valid])
        take.append(s[valid])
    result[np.ix_(*into)] = moved[np.ix_(*take)]
    return result


def _smooth_for(image: NDArray[np.float32], matrix: Affine) -> NDArray[np.float32]:
    """Smooth along each source axis by what the target's larger voxels cannot hold."""
    widths = np.sqrt((matrix[:3, :3] ** 2).sum(axis=1))
    for axis, width in enumerate(widths):
        if width > _FREE_RATIO + 1e-3 and image.shape[axis] > 1:
            sigma = float(np.sqrt((width**2 - _FREE_RATIO**2) * _VARIANCE_SHARE))
            image = ndimage.gaussian_filter1d(image, sigma, axis=axis, mode="nearest", truncate=3.0)
    return image


def _inside(matrix: Affine, source_shape: tuple[int, int, int], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Which target voxels lie within the source's voxel block (half a voxel around the outermost centres)."""
    x, y, z = (np.arange(s, dtype=np.float64) for s in shape)
    inside = np.ones(shape, dtype=bool)
    margin = 0.5 + 1e-6
    for k in range(3):
        position = (
            (matrix[k, 0] * x)[:, None, None]
            + (matrix[k, 1] * y)[None, :, None]
            + ((matrix[k, 2] * z) + matrix[k, 3])[None, None, :]
        )
        inside &= (position >= -margin) & (position <= source_shape[k] - 1 + margin)
    return inside
