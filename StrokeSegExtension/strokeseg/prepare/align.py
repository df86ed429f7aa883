"""Other roles brought onto the reference by an optional rigid registration that has to prove itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk  # noqa: N813  its usual name

from strokeseg.volume import Affine, Volume, resample

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Beyond this the "correction" is a failure: heads move by millimetres between two series of one examination.
_LARGEST_SHIFT_MM = 30.0
_LARGEST_TURN_DEGREES = 20.0


@dataclass(frozen=True)
class Registration:
    """What a registration did.

    Attributes:
        moving: The volume with its affine corrected (or unchanged); voxels are never touched.
        taken: Whether the correction was taken.
        shift_mm: Length of the correction at the volume's centre.
        turn_degrees: Angle of the correction.
        cost_before: Negative mutual information with the reference by the affines alone.
        cost_after: The same after the correction.
    """

    moving: Volume
    taken: bool
    shift_mm: float
    turn_degrees: float
    cost_before: float
    cost_after: float


def register_rigid(moving: Volume, reference: Volume) -> Registration:
    """Correct the place of `moving` by a rigid transform that raises the mutual information with `reference`.

    The correction goes into the affine, so that the image is still interpolated only once. It is taken only when it
    lowers the cost, measured on the same voxels before and after, and stays within a head's possible movement.

    Args:
        moving: The volume to place.
        reference: The volume that stays.
    """
    fixed_image, moving_image = _to_itk(reference), _to_itk(moving)
    centre = reference.grid.to_world((np.asarray(reference.grid.shape) - 1) / 2) @ _LPS[:3, :3]
    transform = sitk.Euler3DTransform()
    transform.SetCenter([float(c) for c in centre])
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    # The full lattice of voxels rather than a random sample: the same input gives the same result.
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 120, 0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([3, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetNumberOfThreads(1)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed_image, moving_image)
    correction = _ras_matrix(transform)
    moved = replace(moving, affine=np.linalg.inv(correction) @ moving.affine)
    before, after = _cost(moving, reference), _cost(moved, reference)
    middle = np.append(reference.grid.to_world((np.asarray(reference.grid.shape) - 1) / 2), 1.0)
    shift = float(np.linalg.norm((np.linalg.inv(correction) @ middle - middle)[:3]))
    turn = float(np.degrees(np.arccos(np.clip((np.trace(correction[:3, :3]) - 1) / 2, -1, 1))))
    taken = after < before and shift <= _LARGEST_SHIFT_MM and turn <= _LARGEST_TURN_DEGREES
    return Registration(moved if taken else moving, taken, shift, turn, before, after)


def _cost(moving: Volume, reference: Volume) -> float:
    """Negative mutual information in nats of 32 x 32 grey levels, over the reference's voxels that `moving` covers."""
    seen = resample(moving.array, moving.grid, reference.grid, outside=np.nan)
    inside = ~np.isnan(seen)
    if not inside.any():
        return 0.0
    pair = (reference.array[inside], seen[inside])
    fixed, moved = (np.clip(a, *np.percentile(a, (0.5, 99.5))).astype(np.float64) for a in pair)
    joint = np.histogram2d(fixed, moved, bins=32)[0]
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
