"""`ModelGrid`: the grid on which a model works, and the exact way back to the scan's own grid.

The model's axes are the scan's own axes, renamed and flipped to the closest right-anterior-superior order but never
rotated: a scan whose spacing is the model's is only copied, not interpolated. All 48 ways to store the same scan give
the same model grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from strokeseg.volume.grid import Affine, Grid, closest_axes
from strokeseg.volume.resampling import Interpolation, resample

# Spacings that differ by less than this share are the same: the scan is copied, not interpolated.
_SAME_SPACING = 2e-3


@dataclass(frozen=True, eq=False)
class ModelGrid:
    """The scan's grid and the model's, and the two ways between them.

    Args:
        native: Grid of the reference scan; results live here.
        grid: Grid of the model's input, axes close to (R, A, S).
    """

    native: Grid
    grid: Grid

    @classmethod
    def around(
        cls,
        brain: NDArray[np.bool_],
        native: Grid,
        *,
        spacing_mm: tuple[float, float, float] | None,
        margin_voxels: int = 4,
        multiple: int = 1,
    ) -> ModelGrid:
        """The smallest model grid that holds the brain with a margin.

        Args:
            brain: Boolean (x, y, z) on `native`, not empty.
            native: Grid of the reference scan.
            spacing_mm: The model's spacing along R, A, S, 0 for the scan's own along an axis, whose voxels' planes it
                keeps (a sheared scan has none that it could keep); None keeps the scan's own grid.
            margin_voxels: Model voxels kept free around the brain on each side.
            multiple: Every axis is padded to a multiple of this number of voxels.
        """
        canonical = _closest_to_ras(native)
        own = np.asarray(canonical.spacing_mm)
        wanted = np.zeros(3) if spacing_mm is None else np.asarray(spacing_mm, dtype=np.float64)
        spacing = np.where(wanted == 0, own, wanted)
        corners = canonical.to_voxel(native.to_world(_bounding_corners(brain)))
        if (np.abs(spacing / own - 1.0) < _SAME_SPACING).all():
            first, last = np.rint(corners.min(axis=0)), np.rint(corners.max(axis=0))
            shape = _padded((last - first + 1).astype(int), margin_voxels, multiple)
            start = first - (shape - (last - first + 1)) // 2
            affine = canonical.affine.copy()
            affine[:3, 3] = canonical.to_world(start)
        else:
            # A sheared scan is straightened by the one resampling: the nearest rotation to its axes.
            u, _, vt = np.linalg.svd(canonical.directions)
            directions = u @ vt
            along = canonical.to_world(corners) @ directions
            first, last = along.min(axis=0), along.max(axis=0)
            size = np.ceil((last - first) / spacing - 1e-6).astype(int) + 1
            shape = _padded(size, margin_voxels, multiple)
            affine = np.eye(4)
            affine[:3, :3] = directions * spacing
            in_middle = (first + last) / 2.0 - (shape - 1) / 2.0 * spacing
            on_own_planes = first - (shape - size) // 2 * spacing
            affine[:3, 3] = directions @ np.where(wanted == 0, on_own_planes, in_middle)
        return cls(native, Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine))

    def forward(
        self, array: NDArray[np.generic], source: Grid | None = None, interpolation: Interpolation = "bspline"
    ) -> NDArray[np.float32]:
        """An image (x, y, z) on `source` (default: the reference scan's grid) as the model sees it; 0 outside."""
        return resample(array, source or self.native, self.grid, interpolation)

    def back(self, array: NDArray[np.generic], *, outside: float) -> NDArray[np.float32]:
        """A map on the model grid, on the reference scan's own grid; `outside` where the model grid does not reach."""
        return resample(array, self.grid, self.native, "bspline", outside=outside)


def _closest_to_ras(native: Grid) -> Grid:
    """The same voxels with axes permuted and flipped so that they run closest to right, anterior, superior."""
    axes = closest_axes(native.affine)
    order = [next(a for a, (w, _) in enumerate(axes) if w == world) for world in range(3)]
    signs = np.array([axes[a][1] for a in order])
    first = np.zeros(3)
    for a, (_, sign) in enumerate(axes):
        first[a] = 0 if sign > 0 else native.shape[a] - 1
    affine = np.eye(4)
    affine[:3, :3] = native.affine[:3, order] * signs
    affine[:3, 3] = native.to_world(first)
    return Grid((native.shape[order[0]], native.shape[order[1]], native.shape[order[2]]), affine)


def _bounding_corners(brain: NDArray[np.bool_]) -> Affine:
    """Voxel indices (8, 3) of the corners of the brain's bounding box."""
    bounds = []
    for axis in range(3):
        hit = np.flatnonzero(brain.any(axis=tuple(k for k in range(3) if k != axis)))
        bounds.append((hit[0], hit[-1]))
    return np.array(list(product(*bounds)), dtype=np.float64)


def _padded(size: NDArray[np.int_], margin: int, multiple: int) -> NDArray[np.int_]:
    """Size with a margin on both sides, rounded up to a multiple."""
    return -(-(size + 2 * margin) // multiple) * multiple
