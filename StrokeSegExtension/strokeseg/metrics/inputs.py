"""What the metrics accept: masks, probability maps and affines, each refused in words when it is something else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strokeseg.errors import InputError

Mask = NDArray[np.bool_]
Affine = NDArray[np.float64]


def ratio(numerator: float, denominator: float) -> float:
    """Quotient; NaN where the denominator is 0."""
    return numerator / denominator if denominator else float("nan")


def as_mask(mask: ArrayLike, name: str) -> Mask:
    """Boolean (x, y, z) array of a mask or label map; every label above 0 is inside.

    Args:
        mask: Boolean or whole numbers, three axes.
        name: How a message calls it, e.g. ``"prediction"``.

    Raises:
        InputError: Not three axes, or fractions, NaN or negative numbers among the values.
    """
    array = np.asarray(mask)
    if array.ndim != 3:
        raise InputError(
            f"The {name} is not a three-dimensional mask.",
            f"Its shape is {array.shape}.",
            "Give one mask volume with the axes (x, y, z).",
        )
    if array.dtype == np.bool_:
        return array
    inside: Mask = array > 0
    if array.dtype.kind not in "ui":
        # NaN differs from 0 and from its own rounding, so this finds fractions and NaN alike.
        values = array[array != 0]
        strange = values[values != np.round(values)]
        if strange.size:
            raise InputError(
                f"The {name} is not a mask.",
                f"{strange.size} of its voxels hold fractions or NaN, the first is {float(strange[0]):g}.",
                "Give a mask of whole numbers; decide a probability map with a threshold first.",
            )
    if array.dtype.kind != "u" and (lowest := array.min(initial=0)) < 0:
        raise InputError(
            f"The {name} is not a mask.",
            f"Its lowest value is {lowest:g}, labels are 0 or more.",
            "Check that the file is the mask and not an image.",
        )
    return inside


def as_probability(probability: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """The probability map as an array of `shape` with finite numbers from 0 to 1.

    Raises:
        InputError: Another shape, NaN, or numbers outside 0 to 1.
    """
    array = np.asarray(probability)
    require_shape(array.shape, shape, "probability map")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (low >= 0.0 and high <= 1.0):  # false for NaN, too
        raise InputError(
            "The probability map is not usable.",
            f"Its values go from {low:g} to {high:g}.",
            "Give probabilities or scores from 0 to 1 without NaN.",
        )
    return array


def require_shape(shape: tuple[int, ...], expected: tuple[int, ...], name: str) -> None:
    """Refuse an array that does not lie on the grid of the others.

    Raises:
        InputError: `shape` differs from `expected`.
    """
    if tuple(shape) != tuple(expected):
        raise InputError(
            f"The {name} does not lie on the grid of the other volume.",
            f"Its shape is {tuple(shape)}, the other one's is {tuple(expected)}.",
            f"Resample the {name} to the same grid first.",
        )


def as_affine(affine: ArrayLike) -> Affine:
    """The 4x4 matrix from voxel index to RAS mm.

    Raises:
        InputError: Not 4x4, not finite, or with voxels of no volume.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0.0:
        raise InputError(
            "The affine is not usable.",
            f"A finite 4x4 matrix with voxels of non-zero volume is needed, this is {matrix.tolist()}.",
            "Repair the header of the volume (sform or qform).",
        )
    return matrix


def voxel_volume_ml(affine: Affine) -> float:
    """Volume of one voxel in ml, from the determinant: right for oblique and sheared grids."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
