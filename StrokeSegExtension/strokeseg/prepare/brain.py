"""Where the brain is: in an image that is skull-stripped or shows the whole head, or as the user says; and doubts.

A classical method without training. It is not perfect: `check_brain` looks at volume and shape of every mask, and the
caller tells the reader what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.prepare._brain_grid import CanonicalAxes
from strokeseg.prepare._brain_shape import describe_doubts
from strokeseg.prepare._whole_head import bounding_box, fill_holes, find_in_head
from strokeseg.volume.grid import Affine, Grid

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Method = Literal["skull-stripped", "whole-head", "given"]

ISLAND_ML = 1.0
# Dice of support and search. A stripped brain agrees with what is found in it; a head, even a slab of one with thin
# bone, whose sections are a third larger than the brain's (some 200 and 150 cm²), stays at 0.86.
AGREEMENT = 0.92


@dataclass(frozen=True, eq=False)
class BrainMask:
    """The voxels that belong to the brain.

    Args:
        mask: bool (x, y, z) on the image's own grid.
        method: ``skull-stripped`` (the image's support), ``whole-head`` (searched) or ``given`` (by the user).
        volume_ml: Volume of the mask.
        findings: Doubts about the mask in sentences; empty when there are none.
    """

    mask: Mask
    method: Method
    volume_ml: float
    findings: tuple[str, ...] = ()


def find_brain(
    array: ArrayLike, affine: Affine, *, role: str, adc: ArrayLike | None = None, b0: ArrayLike | None = None
) -> BrainMask:
    """The brain in an image that is skull-stripped or shows the whole head; the same one for every order of the axes.

    Where the image, or else b0 or ADC, is constant outside of one region that agrees with what a search finds, that
    region is the brain. Otherwise the search decides.

    Args:
        array: Image (x, y, z) of the reference role.
        affine: 4x4, voxel index to RAS mm.
        role: ``dwi``, ``b0``, ``t1``, ...: which contrast to expect.
        adc: ADC on the same grid, any unit; often stripped where the DWI is not.
        b0: Image without diffusion weighting on the same grid.

    Returns:
        The mask; it is empty, with a finding, where nothing like a brain is there.

    Raises:
        ValueError: The arrays are not three-dimensional or differ in shape.
    """
    images = [_finite(image) for image in (array, b0, adc) if image is not None]
    if any(image.ndim != 3 or image.shape != images[0].shape for image in images):
        raise ValueError(f"expected volumes (x, y, z) of one shape, got {[image.shape for image in images]}")
    axes = CanonicalAxes(affine)
    voxel_ml = Grid((1, 1, 1), affine).voxel_ml
    canonical = [axes.there(image) for image in images]
    found = _without_islands(find_in_head(canonical[0], axes.spacing_mm, role), voxel_ml)
    method: Method = "whole-head"
    for image in canonical:
        support = _support(image, voxel_ml)
        if support is not None and _supersedes(support, found, axes.spacing_mm):
            found, method = support, "skull-stripped"
            break
    doubts = describe_doubts(found, axes.spacing_mm)
    return BrainMask(axes.back(found), method, float(found.sum()) * voxel_ml, doubts)


def given_brain(mask_array: ArrayLike, affine: Affine) -> BrainMask:
    """The user's own brain mask, checked.

    Args:
        mask_array: (x, y, z): 0 outside, whole positive numbers inside.
        affine: 4x4, voxel index to RAS mm.

    Raises:
        InputError: It is not three-dimensional, empty, or holds NaN, negative numbers or fractions.
    """
    values = np.asarray(mask_array)
    if values.ndim != 3:
        raise _mask_error(f"It has {values.ndim} axes (shape {values.shape}), a mask has three.")
    if values.dtype != np.bool_:
        if not np.isfinite(values).all():
            raise _mask_error("It holds values that are not numbers (NaN or infinite).")
        if values.min(initial=0) < 0 or (values != np.round(values)).any():
            raise _mask_error(
                f"Its values run from {values.min():g} to {values.max():g} with negative or broken numbers."
            )
    mask = values > 0
    if not mask.any():
        raise _mask_error("It is empty: every voxel is 0.")
    volume_ml = float(mask.sum()) * Grid((1, 1, 1), affine).voxel_ml
    return BrainMask(mask, "given", volume_ml, check_brain(mask, affine))


def check_brain(mask: Mask, affine: Affine) -> tuple[str, ...]:
    """What makes one doubt that `mask` is the brain of an adult, by volume and shape; nothing when all is well.

    Args:
        mask: bool (x, y, z).
        affine: 4x4, voxel index to RAS mm.
    """
    axes = CanonicalAxes(affine)
    return describe_doubts(axes.there(np.asarray(mask, dtype=bool)), axes.spacing_mm)


def _supersedes(support: Mask, found: Mask, spacing_mm: tuple[float, float, float]) -> bool:
    """Whether `support` is the brain: it agrees with the search, or the search failed and it is shaped like a brain."""
    if not found.any() or _dice(found, support) >= AGREEMENT:
        return True
    return bool(describe_doubts(found, spacing_mm)) and not describe_doubts(support, spacing_mm)


def _mask_error(cause: str) -> InputError:
    return InputError(
        "The brain mask cannot be used.",
        cause,
        "Give a mask that is 0 outside of the brain and 1 inside, or leave it out: the brain is then searched.",
    )


def _finite(image: ArrayLike) -> Float:
    values = np.asarray(image, dtype=np.float32)
    return values if np.isfinite(values).all() else np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _support(image: Float, voxel_ml: float) -> Mask | None:
    """What stands out from a constant background, as one filled region; None where the background is not constant."""
    edges = np.concatenate([_edge_lines(image, axis) for axis in range(3)])
    background = np.float32(np.median(edges))
    height = np.abs(image - background)
    scale = float(height.max())
    if scale == 0 or (np.abs(edges - background) <= 1e-3 * scale).mean() < 0.9:
        return None
    differs = height > 0
    scale = float(np.percentile(height[differs], 98))
    # Resampling leaves ringing around the brain: dark beside its edge, bright by a few percent further out.
    loose = image > background + 0.05 * scale
    support = differs if differs.sum() <= 1.3 * loose.sum() else loose
    if not support.any():
        return None
    box = bounding_box(support)
    support[box] = _filled(support[box])
    return _without_islands(support, voxel_ml)


def _filled(support: Mask) -> Mask:
    """`support` with its holes, and those that a cleft of one or two voxels opens; its surface stays."""
    padded = np.pad(support, 1, mode="edge")
    closed = (ndimage.binary_closing(padded) | padded)[1:-1, 1:-1, 1:-1]
    filled = fill_holes(closed)
    rim = ndimage.binary_dilation(filled & ~closed) & filled
    return fill_holes(support | rim)


def _edge_lines(image: Float, axis: int) -> Float:
    """The values on the four edges of the volume that run along `axis`."""
    lines = np.moveaxis(image, axis, 2)
    return np.concatenate([lines[i, j] for i in (0, -1) for j in (0, -1)])


def _without_islands(mask: Mask, voxel_ml: float) -> Mask:
    """`mask` without components (faces touch) below `ISLAND_ML`, but always with its largest one."""
    if not mask.any():
        return mask
    box = bounding_box(mask)
    labels, count = ndimage.label(mask[box])
    if count == 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = sizes >= min(ISLAND_ML / voxel_ml, float(sizes.max()))
    keep[0] = False
    result = np.zeros_like(mask)
    result[box] = keep[labels]
    return result


def _dice(a: Mask, b: Mask) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 0.0
