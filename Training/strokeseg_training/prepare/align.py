"""`align`: a patient's images, brain and labels on one grid in mm, and the way back to the reference image's own.

Everything is placed by affines, in one interpolation: the other images onto the reference image, all of it onto the
model's grid, whose axes are the reference image's own, closest to right, front and top. It is the engine's `prepare`
that does so, in training as with every patient later. Labels follow by the largest share of each voxel, at least one
half where there is one class. A frame is a grid of a fixed size around the brain, or that of the whole scan: the
model's grid, cut or continued voxel by voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.prepare import ModelGrid, Prepared
from strokeseg.volume import Grid, resample
from strokeseg_training.prepare.labels import Moved, move_labels

Size = tuple[int, int, int]
_ROUNDING = 1e-3  # voxels


@dataclass(frozen=True, eq=False)
class Aligned:
    """A patient on one grid.

    Args:
        channels: float32 (C, x, y, z), 0 outside the brain.
        brain: uint8 (x, y, z), 1 in the brain.
        labels: And how many lesions were saved from vanishing, or lie outside the grid.
        place: The grid of these arrays, the reference image's own, and the ways between them.
    """

    channels: NDArray[np.float32]
    brain: NDArray[np.uint8]
    labels: Moved
    place: ModelGrid

    @property
    def grid(self) -> Grid:
        """Of all arrays."""
        return self.place.grid


def align(prepared: Prepared, labels: NDArray[np.uint8], frame: Size | Literal["scan"] | None = None) -> Aligned:
    """Channels, brain and labels on the model's grid, or in a frame around the brain.

    Args:
        prepared: By the engine.
        labels: uint8 (x, y, z) on the reference image's grid.
        frame: Voxels (x, y, z) of the grid, the brain's box in the middle; ``scan``: as many as the reference image
            reaches over; None: the model's grid.

    Raises:
        InputError: The brain does not fit into the frame.
    """
    place, channels = prepared.model_grid, prepared.channels
    brain = place.forward(prepared.brain.mask) >= 0.5
    if frame is not None:
        grid = frame_of_scan(place) if frame == "scan" else frame_around(place.grid, brain, frame)
        # The same voxels, copied.
        channels = np.stack([resample(c, place.grid, grid) for c in channels])
        brain = resample(brain, place.grid, grid) >= 0.5
        place = ModelGrid(place.native, grid)
    moved = move_labels(labels, prepared.reference.grid, place.grid)
    return Aligned(channels, brain.astype(np.uint8), moved, place)


def frame_around(grid: Grid, brain: NDArray[Any], size: Size) -> Grid:
    """A grid of a fixed size on the same lattice, the brain's box in its middle.

    Args:
        grid: Of `brain`.
        brain: (x, y, z), above 0 in the brain, not empty.
        size: Voxels along the three axes.

    Returns:
        Spacing and directions are those of `grid`, the origin is where the first voxel lies now.

    Raises:
        InputError: The box is larger than the frame: part of the brain would be lost.
    """
    start = np.zeros(3, dtype=np.int64)
    for axis, wanted in enumerate(size):
        inside = np.flatnonzero(np.asarray(brain).any(axis=tuple(a for a in range(3) if a != axis)))
        own = int(inside[-1] - inside[0]) + 1
        if own > wanted:
            raise InputError(
                "The brain does not fit into the frame.",
                f"Along {('right', 'front', 'top')[axis]} it has {own} voxels, the frame {wanted}.",
                "Set a larger 'datasets.frame', or leave it out: then every patient has the room that the brain needs.",
            )
        start[axis] = inside[0] - (wanted - own) // 2
    return _moved(grid, start, size)


def frame_of_scan(place: ModelGrid) -> Grid:
    """The model's lattice over the reference image's whole field of view, which the brain's box is a part of.

    Args:
        place: The model's grid and the reference image's own.

    Returns:
        Where the model has the image's own spacing, its voxels, the axes turned to right, front and top.
    """
    ends = product(*((0, n - 1) for n in place.native.shape))
    corners = place.grid.to_voxel(place.native.to_world(np.array(list(ends), dtype=np.float64)))
    # A voxel's place is known to rounding only.
    first = np.floor(corners.min(axis=0) + _ROUNDING).astype(np.int64)
    last = np.ceil(corners.max(axis=0) - _ROUNDING).astype(np.int64)
    x, y, z = (int(n) for n in last - first + 1)
    return _moved(place.grid, first, (x, y, z))


def _moved(grid: Grid, first: NDArray[np.int64], size: Size) -> Grid:
    """The same lattice from another voxel on."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(first)
    return Grid(size, affine)
