"""Other roles brought onto the reference by an optional rigid registration that has to prove itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  its usual name
from numpy.typing import NDArray

from strokeseg.volume import Affine, Volume, resample

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Beyond this the "correction" is a failure: heads move by millimetres between two series of one examination.
_LARGEST_SHIFT_MM = 30.0
_LARGEST_TURN_DEGREES = 20.0
# A gain that interpolation alone makes of images that already lie right.
_LEAST_GAIN_NATS = 0.01
_LEVELS = 32


@dataclass(frozen=True)
class Registration:
    """What a registration did.

    Attributes:
        moving: The volume with its affine corrected (or unchanged); voxels are never touched.
        taken: Whether the correction was taken.
        shift_mm: Length of the correction at the volume's centre.
        turn_degrees: Angle of the correction.
        cost_before: Negative mutual information with the reference by the affines alone.
        cost_after: The same after the correction, measured on the same voxels.
        why_not: Why it was not taken, the end of a sentence; "" where it was.
    """

    moving: Volume
    taken: bool
    shift_mm: float
    turn_degrees: float
    cost_before: float
    cost_after: float
    why_not: str = ""


def register_rigid(moving: Volume, reference: Volume) -> Registration:
    """Correct the place of `moving` by a rigid transform that raises the mutual information with `reference`.

    The correction goes into the affine, so that the image is still interpolated only once. It is taken only when it
    lowers the cost by more than chance, measured on the same voxels before and after, and stays within a head's
    possible movement. Images in which nothing can be registered (a few slices, hardly any overlap) stay where they are.

    Args:
        moving: The volume to place.
        reference: The volume that stays.
    """
    fixed_image, moving_image = _to_itk(reference), _to_itk(moving)
    centre = reference.grid.to_world((np.asarray(reference.grid.shape) - 1) / 2) @ _LPS[:3, :3]
    transform = sitk.Euler3DTransform()
    transform.SetCenter([float(c) for c in centre])
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_LEVELS)
    # The full lattice of voxels rather than a random sample: the same input gives the same result.
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 120, 0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([3, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        with _one_thread():
            method.Execute(fixed_image, moving_image)
    except RuntimeError:
        # ITK's only way to say that it has too few slices to smooth, or no voxels in common.
        cost, _, _ = _costs(moving, moving, reference)
        why = "it needs at least four slices of both images, and the same tissue in them"
        return Registration(moving, False, 0.0, 0.0, cost, cost, why)
    correction = _ras_matrix(transform)
    moved = replace(moving, affine=np.linalg.inv(correction) @ moving.affine)
    before, after, least_gain = _costs(moving, moved, reference)
    middle = np.append(reference.grid.to_world((np.asarray(reference.grid.shape) - 1) / 2), 1.0)
    shift = float(np.linalg.norm((np.linalg.inv(correction) @ middle - middle)[:3]))
    turn = float(np.degrees(np.arccos(np.clip((np.trace(correction[:3, :3]) - 1) / 2, -1, 1))))
    why = ""
    if shift > _LARGEST_SHIFT_MM or turn > _LARGEST_TURN_DEGREES:
        why = f"{shift:.0f} mm and {turn:.0f} degrees are more than a head moves between two series"
    elif before - after <= least_gain:
        why = "it did not help"
    return Registration(moving if why else moved, not why, shift, turn, before, after, why)


@contextmanager
def _one_thread() -> Iterator[None]:
    """ITK with one thread: several add up the metric in changing order, and the last digits change from run to run.

    The metric takes the number from the global default only, whatever the registration method is told.
    """
    usual = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(usual)


def _costs(before: Volume, after: Volume, reference: Volume) -> tuple[float, float, float]:
    """Cost of one image in two places, over the reference's voxels that it covers in both, and the gain that is chance.

    Where two images have nothing in common, 2 N times their mutual information over N voxels follows a chi-squared
    distribution with (levels - 1)² degrees of freedom; five of its standard deviations are chance.
    """
    seen = [resample(v.array, v.grid, reference.grid, outside=np.nan) for v in (before, after)]
    inside = ~np.isnan(seen[0]) & ~np.isnan(seen[1])
    count = int(np.count_nonzero(inside))
    if not count:
        return 0.0, 0.0, _LEAST_GAIN_NATS
    first, second = (_cost(reference.array[inside], image[inside]) for image in seen)
    chance = 5.0 * np.sqrt(2.0) * (_LEVELS - 1) / (2.0 * count)
    return first, second, max(_LEAST_GAIN_NATS, chance)


def _cost(fixed: NDArray[Any], moving: NDArray[Any]) -> float:
    """Negative mutual information in nats of 32 x 32 grey levels."""
    first, second = (np.clip(a, *np.percentile(a, (0.5, 99.5))).astype(np.float64) for a in (fixed, moving))
    joint = np.histogram2d(first, second, bins=_LEVELS)[0]
    joint /= joint.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    used = joint > 0
    return -float((joint[used] * np.log(joint[used] / apart[used])).sum())


def _to_itk(volume: Volume) -> sitk.Image:
    """The volume as an ITK image (z, y, x memory order; LPS world). Shear is left out: it only seeds the search."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T, dtype=np.float32))
    grid = volume.grid
    u, _, vt = np.linalg.svd(_LPS[:3, :3] @ grid.directions)
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection((u @ vt).ravel().tolist())
    image.SetOrigin((_LPS @ grid.affine)[:3, 3].tolist())
    return image


def _ras_matrix(transform: sitk.Euler3DTransform) -> Affine:
    """4x4 in RAS of an ITK transform, which maps points of the reference to points of the moving image in LPS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    matrix[:3, 3] = np.asarray(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return _LPS @ matrix @ _LPS
