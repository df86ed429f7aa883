"""`Grid`: where voxels lie in the patient, with named properties instead of loose matrices.

Frames: voxel indices are (x, y, z) in nibabel order; world coordinates are RAS millimetres (x to the right, y to the
    front, z up).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

Affine = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """A three-dimensional voxel grid in the world.

    Args:
        shape: Number of voxels along (x, y, z).
        affine: 4x4, voxel index to RAS mm of the voxel's centre.
    """

    shape: tuple[int, int, int]
    affine: Affine

    def __post_init__(self) -> None:
        x, y, z = (int(s) for s in self.shape)
        object.__setattr__(self, "shape", (x, y, z))
        object.__setattr__(self, "affine", np.array(self.affine, dtype=np.float64).reshape(4, 4))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each axis, mm."""
        x, y, z = (float(v) for v in np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))
        return x, y, z

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml; right for sheared grids, too."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def directions(self) -> Affine:
        """3x3, its columns the unit vectors of the voxel axes in RAS."""
        return self.affine[:3, :3] / np.asarray(self.spacing_mm)

    @property
    def orientation(self) -> str:
        """Where the three axes point to, e.g. ``"LAS"``: the assignment of axes to directions that fits best."""
        return "".join("LPS"[w] if s < 0 else "RAS"[w] for w, s in closest_axes(self.affine))

    @property
    def shear(self) -> float:
        """Largest cosine between two voxel axes: 0 when they are perpendicular."""
        cosines = self.directions.T @ self.directions - np.eye(3)
        return float(np.abs(cosines).max())

    def to_world(self, index: ArrayLike) -> NDArray[np.float64]:
        """RAS mm (..., 3) of voxel indices (..., 3)."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, world_mm: ArrayLike) -> NDArray[np.float64]:
        """Fractional voxel indices (..., 3) of RAS mm (..., 3)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(world_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def corners_mm(self) -> NDArray[np.float64]:
        """RAS mm (8, 3) of the outer corners of the voxel block (half a voxel outside the outermost centres)."""
        return self.to_world(np.array(list(product(*((-0.5, s - 0.5) for s in self.shape)))))

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and no voxel lies further apart than `tolerance_mm`."""
        return self.shape == other.shape and bool(
            np.abs(self.corners_mm() - other.corners_mm()).max(initial=0.0) <= tolerance_mm
        )


def closest_axes(affine: Affine) -> tuple[tuple[int, int], ...]:
    """For each voxel axis, the world axis (0 R, 1 A, 2 S) it runs along and the sign, a one-to-one assignment.

    The assignment maximises the product of direction cosines over all six permutations, so that an axis at 45
    degrees never leaves two voxel axes with the same name. Ties go to the earliest permutation: the answer is always
    the same.
    """
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.sqrt((matrix**2).sum(axis=0))
    cosines = np.abs(matrix / np.where(lengths > 0, lengths, 1.0))
    best = max(permutations(range(3)), key=lambda p: round(float(np.prod([cosines[p[a], a] for a in range(3)])), 9))
    return tuple((w, -1 if matrix[w, a] < 0 else 1) for a, w in enumerate(best))
