"""What the overlay shows, turned to (R, A, S) axes, chosen, cropped and windowed, before anything is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.report.plane import Box, Mask, choose_slices, crop_box, foreground, robust_window, to_canonical
from strokeseg.volume.grid import Affine, Grid

_MARGIN_MM = 4.0


@dataclass(frozen=True, eq=False)
class Scene:
    """What is shown, turned to (R, A, S) axes, before anything is drawn.

    Args:
        images: Background and, where there is one, the second image, canonical.
        windows: Grey values (black, white) of each image.
        names: Name of each image.
        units: Unit of each image, "" where it has none.
        lesion: Canonical mask.
        probability: Canonical probability map or None.
        affine: 4x4 of the canonical arrays, voxel index to RAS mm.
        spacing_mm: Along R, A, S.
        box: The shown part of each slice.
        indices: The shown slices, from feet to head.
    """

    images: tuple[NDArray[Any], ...]
    windows: tuple[tuple[float, float], ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    lesion: Mask
    probability: NDArray[Any] | None
    affine: Affine
    spacing_mm: tuple[float, float, float]
    box: Box
    indices: tuple[int, ...]

    @property
    def cells(self) -> tuple[int, int]:
        """Voxels (columns, rows) of the shown part of a slice."""
        return self.box[0].stop - self.box[0].start, self.box[1].stop - self.box[1].start

    @property
    def positions_mm(self) -> tuple[float, ...]:
        """RAS z of the middle of each shown slice."""
        middle = [(b.start + b.stop - 1) / 2 for b in self.box]
        return tuple(float(self.affine[2, :3] @ (*middle, k) + self.affine[2, 3]) for k in self.indices)

    @property
    def tilt_degrees(self) -> float:
        """Angle between the slices and the plane across the scanner's axis."""
        normal = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        return math.degrees(math.acos(min(1.0, abs(float(normal[2])) / float(np.linalg.norm(normal)))))


def compose_scene(
    background: NDArray[Any],
    affine: Affine,
    mask: NDArray[Any],
    *,
    probability: NDArray[Any] | None = None,
    background_name: str = "DWI",
    window: tuple[float, float] | None = None,
    brain: NDArray[Any] | None = None,
    second: tuple[NDArray[Any], str] | None = None,
    second_window: tuple[float, float] | None = (0.0, 2.0),
    second_unit: str = "×10⁻³ mm²/s",
    slices: int = 10,
) -> Scene:
    """Turn, choose, crop and window; the arguments and errors are those of `draw_overlay`."""
    given = {"mask": mask, "probability": probability, "brain": brain, "second": second[0] if second else None}
    for name, array in given.items():
        if array is not None and array.shape != background.shape:
            raise ValueError(f"{name} has the shape {array.shape}, the background {background.shape}")
    if background.ndim != 3:
        raise ValueError(f"the background has three axes (x, y, z), this array has the shape {background.shape}")

    def turned(array: NDArray[Any]) -> NDArray[Any]:
        return to_canonical(array, affine)[0]

    first, turned_affine = to_canonical(background, affine)
    x, y, z = first.shape
    spacing = Grid((x, y, z), turned_affine).spacing_mm
    lesion = turned(mask) > 0
    inside = turned(brain) > 0 if brain is not None and np.any(brain) else foreground(first)
    images = [first]
    windows = [window or robust_window(images[0], inside)]
    if second is not None:
        images.append(turned(second[0]))
        windows.append(second_window or robust_window(images[1], inside))
    shown = inside | lesion
    return Scene(
        images=tuple(images),
        windows=tuple(windows),
        names=(background_name, second[1]) if second else (background_name,),
        units=("", second_unit) if second else ("",),
        lesion=lesion,
        probability=None if probability is None else turned(probability),
        affine=turned_affine,
        spacing_mm=spacing,
        box=crop_box(shown, spacing, _MARGIN_MM),
        indices=tuple(choose_slices(lesion.sum(axis=(0, 1)), inside.sum(axis=(0, 1)), slices)),
    )
