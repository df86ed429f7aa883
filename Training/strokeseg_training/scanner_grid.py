"""The grid on which a scene's scanner writes its images, in the millimetres of the working grid."""

from __future__ import annotations

import numpy as np

from strokeseg.volume.grid import Grid
from strokeseg_training.generator._rows import scanner_positions
from strokeseg_training.generator._slicing import SlicingScene
from strokeseg_training.generator.scene import GRIDS, Scene

# Images are stored finer than they were measured where the vendor interpolates; a thousandth is rounding.
_FINER = 0.999


def scanner_grid(scene: Scene) -> Grid:
    """Voxels of the scene's scanner: slice distance, stored in-plane voxel and offset; axes as on the working grid.

    The affine is rounded to what a NIfTI header keeps, so that the affine read back is the affine used.
    """
    shape, spacing = GRIDS[scene.task]
    slicing = scene.acquisition.slicing
    affine = np.eye(4)
    counts = []
    for axis in range(3):
        step = _step_mm(slicing, axis)
        offset = slicing.offsets_mm[axis]
        count = len(scanner_positions(shape[axis], spacing[axis], step, offset))
        affine[axis, axis] = step
        affine[axis, 3] = offset - (count - 1) / 2 * step
        counts.append(count)
    return Grid((counts[0], counts[1], counts[2]), affine.astype(np.float32).astype(np.float64))


def _step_mm(slicing: SlicingScene, axis: int) -> float:
    """Distance of the voxels that are written along an axis."""
    if axis == slicing.slice_axis and not slicing.volume:
        return slicing.pitch_mm
    measured = slicing.thickness_mm if axis == slicing.slice_axis else slicing.acquired_mm
    return slicing.stored_mm if slicing.stored_mm < _FINER * measured else measured
