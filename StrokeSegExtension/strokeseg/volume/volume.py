"""`Volume`: an array and where it lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.volume.grid import Affine, Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional image with its place in the world.

    Args:
        array: (x, y, z) in nibabel order; real numbers after the file's scaling.
        affine: 4x4, voxel index to RAS mm.
        b_value: Diffusion weighting in s/mm² where the file or its companions say it.
        notes: What had to be decided or repaired while reading, in sentences for the reader of the result.
        sha256: Hash of the file's bytes (of the sorted files of a series), or "" for an array made in memory.
    """

    array: NDArray[Any]
    affine: Affine
    b_value: float | None = None
    notes: tuple[str, ...] = ()
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a volume has three axes (x, y, z), this array has the shape {self.array.shape}")
        object.__setattr__(self, "affine", np.array(self.affine, dtype=np.float64).reshape(4, 4))

    @property
    def grid(self) -> Grid:
        """Shape and affine as a `Grid`."""
        x, y, z = self.array.shape
        return Grid((x, y, z), self.affine)
