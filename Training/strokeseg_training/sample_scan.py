"""How the sample patient is scanned: on grids of its own, tilted as on a scanner, instead of on the working grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.volume.grid import Grid
from strokeseg_training.generator.lesion_shapes import rotation

Field = NDArray[np.float32]


def tilted_grid(
    shape: tuple[int, int, int],
    axes: NDArray[np.float64],
    tilt_deg: tuple[float, float, float],
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Grid:
    """The grid whose middle lies at `centre_mm` (RAS); `axes` (3x3 columns) are its voxel steps in mm before the tilt.

    Rounded to what a NIfTI header keeps, so that the affine read back is the affine used.
    """
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt_deg) @ axes
    affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine.astype(np.float32).astype(np.float64))


def slice_sample(field: NDArray[Any], source: Grid, target: Grid, points: tuple[int, int, int]) -> Field:
    """Voxel values of a scan: the field's mean over each voxel, taken at `points` places along each of its axes.

    Args:
        field: (x, y, z) on `source`.
        source: Lattice of the field.
        target: Voxels of the scan.
        points: Places a voxel along (x, y, z).

    Returns:
        (x, y, z) of the target; outside the field 0.
    """
    to_field = np.linalg.inv(source.affine) @ target.affine
    total = np.zeros(target.shape, np.float32)
    for offset in np.ndindex(points):
        shift = (np.array(offset) + 0.5) / points - 0.5
        start = to_field[:3, :3] @ shift + to_field[:3, 3]
        total += ndimage.affine_transform(
            field, to_field[:3, :3], start, output_shape=target.shape, output=np.float32, order=1, mode="constant"
        )
    return total / np.float32(np.prod(points))


def rician(signal: Field, noise_sd: float, rng: np.random.Generator) -> Field:
    """Magnitude of the signal with normal noise of `noise_sd` in both channels of the receiver."""
    real = signal + noise_sd * rng.standard_normal(signal.shape).astype(np.float32)
    imaginary = noise_sd * rng.standard_normal(signal.shape).astype(np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


def stripped(brain_fraction: Field) -> NDArray[np.bool_]:
    """The mask of a skull-stripping tool: one piece, slightly smoothed."""
    mask = ndimage.gaussian_filter(brain_fraction, 0.7) >= 0.5
    labels, _ = ndimage.label(mask)
    return np.asarray(labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1)
