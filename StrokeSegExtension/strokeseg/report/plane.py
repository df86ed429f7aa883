"""Axial slices as a radiologist looks at them: which ones, where to crop, which way round, how bright.

Everything here is plain numpy on (x, y, z) arrays. A scan is turned to its closest (R, A, S) axes by permuting and
flipping alone: no voxel is interpolated, so an oblique scan is shown on its own slices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.volume.grid import Affine, closest_axes

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice]


def to_canonical(array: Array, affine: Affine) -> tuple[Array, Affine]:
    """Permute and flip `array` (x, y, z) so that its axes run closest to R, A, S.

    Args:
        array: (x, y, z).
        affine: 4x4, voxel index to RAS mm.

    Returns:
        A view of the array and the affine that puts its voxels at the same places.
    """
    axes = closest_axes(affine)
    order = [next(a for a, (world, _) in enumerate(axes) if world == w) for w in range(3)]
    turned = np.array(affine, dtype=np.float64)
    out = array.transpose(order)
    for world, axis in enumerate(order):
        sign = axes[axis][1]
        turned[:3, world] = sign * affine[:3, axis]
        if sign < 0:
            out = np.flip(out, world)
            turned[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
    return out, turned


def choose_slices(lesion_area: Array, brain_area: Array, count: int) -> list[int]:
    """Indices of at most `count` slices, ascending: those with most lesion, the rest spread through the brain.

    Args:
        lesion_area: (z,) lesion voxels of each slice.
        brain_area: (z,) brain voxels of each slice; all zero: every slice counts as brain.
        count: How many slices are wanted.
    """
    # Slices that graze the vertex or the skull base show nothing; a twentieth of the widest slice is enough to look at.
    useful = np.flatnonzero(brain_area > 0.05 * brain_area.max(initial=0))
    if useful.size == 0:
        useful = np.arange(len(brain_area))
    with_lesion = np.flatnonzero(lesion_area)
    largest = np.argsort(-lesion_area[with_lesion], kind="stable")[:count]
    chosen = sorted(int(k) for k in with_lesion[largest])
    if not chosen:
        low, high = int(useful[0]), int(useful[-1]) + 1
        middles = low + (np.arange(count) + 0.5) * (high - low) / count
        return sorted({int(k) for k in middles})
    while len(chosen) < count:
        distance = np.abs(useful[:, None] - np.array(chosen)).min(axis=1)
        if distance.max() == 0:
            break
        chosen.append(int(useful[distance.argmax()]))
    return sorted(chosen)


def crop_box(brain: Mask, spacing_mm: tuple[float, float, float], margin_mm: float) -> Box:
    """The in-plane box around a canonical brain mask, `margin_mm` wider on each side where the array goes on."""
    box = []
    for axis in (0, 1):
        inside = np.flatnonzero(brain.any(axis=(1 - axis, 2)))
        margin = int(np.ceil(margin_mm / spacing_mm[axis]))
        low, high = (int(inside[0]), int(inside[-1])) if inside.size else (0, brain.shape[axis] - 1)
        box.append(slice(max(low - margin, 0), min(high + margin + 1, brain.shape[axis])))
    return box[0], box[1]


def axial_cut(canonical: Array, index: int, box: Box) -> Array:
    """One slice of a canonical array as a picture (row, column): front at the top, the patient's right at the left."""
    return canonical[box[0], box[1], index][::-1, ::-1].T


def viewer_letters(canonical_affine: Affine) -> dict[str, str]:
    """The letters at the four borders of an `axial_cut`, read from where the voxel axes really point."""
    letters = {}
    for axis, (start, end) in enumerate((("left", "right"), ("top", "bottom"))):
        world, sign = closest_axes(canonical_affine)[axis]
        # Both picture axes run against the voxel axes: the first column and the first row hold the highest indices.
        letters[start], letters[end] = ("RAS"[world], "LPS"[world])[::sign]
    return letters


def foreground(array: Array) -> Mask:
    """Voxels that are not air, for scans without a brain mask: above a tenth of the 99th percentile."""
    finite = np.isfinite(array)
    values = array[finite]
    if values.size == 0:
        return finite
    level = 0.1 * float(np.percentile(values, 99))
    return finite & (np.nan_to_num(array) > max(level, 0.0))


def robust_window(array: Array, inside: Mask) -> tuple[float, float]:
    """Grey values (black, white): the 1st and 99.7th percentile of the finite voxels in `inside`."""
    values = array[inside & np.isfinite(array)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (1.0, 99.7)))
    return (low, high) if high > low else (high - 1.0, high)


def enlarge(picture: Array, pixels: tuple[int, int]) -> Array:
    """Linear interpolation of a picture (row, column) to `pixels` (rows, columns), outer borders on outer borders."""
    rows, columns = (_linear_weights(n, m) for n, m in zip(picture.shape, pixels, strict=True))
    return rows @ picture.astype(np.float32) @ columns.T


def _linear_weights(size: int, pixels: int) -> NDArray[np.float32]:
    position = np.clip((np.arange(pixels) + 0.5) * size / pixels - 0.5, 0, size - 1)
    weights = 1.0 - np.abs(position[:, None] - np.arange(size))
    return np.clip(weights, 0.0, 1.0).astype(np.float32)
