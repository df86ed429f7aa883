"""Rows of slices as a picture: the same slices, windows and size for every patient, so that eyes can compare.

Radiological convention: the patient's right is on the left. Pictures of real scans belong into an ignored folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from _places import Places
from _scans import Mask, Scan
from numpy.typing import NDArray

from strokeseg.report.canvas import draw_png
from strokeseg.report.layout import Label

Picture = NDArray[np.uint8]
Plane = Literal["axial", "coronal", "sagittal"]
# Okabe and Ito's palette (2008), seen by every kind of colour vision: bluish green, vermillion, sky blue; yellow.
FOUND_RGB, FALSE_RGB, MISSED_RGB, OUTLINE_RGB = (0, 158, 115), (213, 94, 0), (86, 180, 233), (240, 228, 66)
# Half the field of view, mm: across and along hold every adult brain.
_HALF_MM = {"x": 76.0, "y": 92.0, "z": 76.0}
_GAP, _TEXT = 4, 20


@dataclass(frozen=True)
class Slice:
    """One slice: its plane, and where it lies between 0 (lowest, hindmost, the mid-plane) and 1 (highest, foremost, the
    right edge of the brain).
    """

    plane: Plane
    place: float


# Six axial slices through every brain, one through hind-brain and temporal lobes from the front, two from the side.
SLICES = (
    *(Slice("axial", p) for p in (0.16, 0.28, 0.40, 0.52, 0.66, 0.80)),
    Slice("coronal", 0.25),
    Slice("sagittal", 0.04),
    Slice("sagittal", 0.38),
)


def window(image: NDArray[Any], black: float, white: float) -> Picture:
    """Grey values (..., 3) of an image between `black` and `white`."""
    grey = np.clip((np.nan_to_num(image) - black) / (white - black), 0.0, 1.0) * 255.0
    return np.repeat(np.rint(grey)[..., None], 3, axis=-1).astype(np.uint8)


def paint(picture: Picture, mask: Mask, rgb: tuple[int, int, int], opacity: float) -> None:
    """Colour the voxels of `mask` in place."""
    picture[mask] = np.rint(picture[mask] * (1.0 - opacity) + np.asarray(rgb) * opacity).astype(np.uint8)


def outline(mask: Mask, plane: Plane) -> Mask:
    """Voxels of `mask` with a neighbour outside it within the slices of `plane`."""
    across = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    inner = mask.copy()
    for axis in (a for a in range(3) if a != across):
        padded = np.pad(mask, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        for start in (0, 2):
            where = [slice(None)] * 3
            where[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(where)]
    return mask & ~inner


def index_of(scan: Scan, wanted: Slice) -> int:
    """The array index of a slice of this patient."""
    places = Places(scan)
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[wanted.plane]
    occupied = np.flatnonzero(scan.brain.any(axis=tuple(a for a in range(3) if a != axis)))
    if wanted.plane != "sagittal":
        return round(float(occupied[0] + wanted.place * (occupied[-1] - occupied[0])))
    # The plane may be tilted: where it crosses the middle of the brain counts.
    across = np.array([float(np.mean(places.right_mm[k][scan.brain[k]])) for k in occupied])
    return int(occupied[np.argmin(np.abs(across - wanted.place * across.max()))])


def cut(volume: NDArray[Any], scan: Scan, plane: Plane, index: int, zoom: int) -> NDArray[Any]:
    """A slice as rows and columns of fixed size, the brain's box in its middle; enlarged by a whole number."""
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    flat = np.take(volume, index, axis=axis)
    for position, name in enumerate([n for n in "xyz" if "xyz".index(n) != axis]):
        world = "xyz".index(name)
        half = round(_HALF_MM[name] / scan.grid.spacing_mm[world])
        occupied = np.flatnonzero(scan.brain.any(axis=tuple(a for a in range(3) if a != world)))
        middle = int(occupied[0] + occupied[-1] + 1) // 2
        wanted = np.arange(middle - half, middle + half)
        inside = (wanted >= 0) & (wanted < volume.shape[world])
        flat = np.take(flat, np.clip(wanted, 0, volume.shape[world] - 1), axis=position)
        shape = [1] * flat.ndim
        shape[position] = -1
        flat = flat * inside.reshape(shape).astype(flat.dtype)
    # Up in the picture is up or front; left in it is the patient's right, in the sagittal plane the front.
    turned = np.swapaxes(flat, 0, 1)[::-1, ::-1]
    return np.kron(turned, np.ones((zoom, zoom) + (1,) * (turned.ndim - 2), turned.dtype))


def row(volume: Picture, scan: Scan, slices: Sequence[Slice] | Sequence[int], zoom: int = 2) -> Picture:
    """Slices of a coloured volume (x, y, z, 3) side by side, all of one height; whole numbers are axial indices."""
    pictures = []
    for wanted in slices:
        plane: Plane = "axial" if isinstance(wanted, int) else wanted.plane
        index = wanted if isinstance(wanted, int) else index_of(scan, wanted)
        pictures.append(cut(volume, scan, plane, index, zoom))
    height = max(p.shape[0] for p in pictures)
    return np.concatenate([np.pad(p, ((0, height - p.shape[0]), (0, _GAP), (0, 0))) for p in pictures], axis=1)


def save_rows(path: Path, rows: Sequence[tuple[str, Picture]]) -> None:
    """Rows one below the other, each with a line of text above it, as PNG."""
    width = max(r.shape[1] for _, r in rows)
    parts, labels, top = [], [], 0
    for text, picture in rows:
        block = np.zeros((picture.shape[0] + _TEXT, width, 3), np.uint8)
        block[_TEXT:, : picture.shape[1]] = picture
        labels.append(Label(text, 4.0, top + _TEXT / 2, 13.0))
        parts.append(block)
        top += block.shape[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw_png(np.concatenate(parts), [], labels))
