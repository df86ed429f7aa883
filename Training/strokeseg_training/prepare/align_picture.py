"""A picture of a patient before and after the alignment: what the files hold, index by index, and what a network sees.

Above, slices of the same index of every image, a voxel a pixel, as who stacks the arrays gets them; below, the same
patient on the model's grid, in mm. The contour is the mask, above at its own indices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.prepare import Prepared
from strokeseg.report.canvas import draw_png
from strokeseg.report.layout import EDGE, QUIET, Label
from strokeseg.report.overlay import LESION_RGB
from strokeseg.report.plane import foreground, robust_window
from strokeseg.volume import Grid, Volume
from strokeseg_training.prepare.align import Aligned

_TILE, _GAP, _HEADER, _LINE = 240, 4, 34, 26
Image = NDArray[Any]
Row = list[tuple[str, Image, Image, tuple[float, float, float]]]


def draw_alignment(
    name: str, given: Mapping[str, Volume], labels: Image, prepared: Prepared, aligned: Aligned
) -> bytes:
    """The picture as PNG, the same bytes for the same patient.

    Args:
        name: Of the patient, for the title.
        given: Role to volume, as it was read.
        labels: (x, y, z) on the reference image's grid.
        prepared: By the engine.
        aligned: What is stored.
    """
    roles = [r for r in given if r in prepared.images]
    before: Row = [(r, given[r].array, labels, (1.0, 1.0, 1.0)) for r in roles]
    native, grid = prepared.reference.grid, aligned.grid
    moved = {r: aligned.place.forward(prepared.images[r], native, "linear") for r in roles}
    after: Row = [(r, moved[r], aligned.labels.labels, grid.spacing_mm) for r in roles]
    rows = [
        (f"As stored, index by index: {_sizes({r: given[r].grid for r in roles})}", before),
        (f"On the model's grid: {_size(grid)}; the patient's right is on the left", after),
    ]
    height = _HEADER + len(rows) * (_LINE + _TILE + _GAP) + EDGE
    picture = np.zeros((height, 2 * EDGE + max(2, 2 * len(roles)) * (_TILE + _GAP), 3), dtype=np.uint8)
    texts = [Label(name, EDGE, EDGE, 18.0, bold=True)]
    for number, (title, row) in enumerate(rows):
        top = _HEADER + number * (_LINE + _TILE + _GAP)
        texts.append(Label(title, EDGE, top + _LINE / 2 + 6, 14.0, color=QUIET))
        for column, tile in enumerate(_tiles(row)):
            left = EDGE + column * (_TILE + _GAP)
            high, wide = tile.shape[:2]
            y, x = top + _LINE + (_TILE - high) // 2, left + (_TILE - wide) // 2
            picture[y : y + high, x : x + wide] = tile
            texts.append(Label(row[column // 2][0].upper(), left + 4, top + _LINE + 12, 13.0, bold=True))
    return draw_png(picture, [], texts)


def _tiles(row: Row) -> Iterator[NDArray[np.uint8]]:
    """Of each image a cut across its third axis and one across its first, where the mask is largest."""
    for _, image, mask, step in row:
        low, high = robust_window(image, foreground(image))
        for axis in (2, 0):
            others = tuple(a for a in range(3) if a != axis)
            area = (mask > 0).sum(axis=others)
            index = int(area.argmax()) if area.any() else mask.shape[axis] // 2
            cut = np.take(image, min(index, image.shape[axis] - 1), axis)
            grey = np.clip((np.nan_to_num(cut, nan=low) - low) / max(high - low, 1e-12), 0.0, 1.0) * 255.0
            scale = _TILE / max(n * step[a] for n, a in zip(cut.shape, others, strict=True))
            pixels = [max(1, int(n * step[a] * scale)) for n, a in zip(cut.shape, others, strict=True)]
            place = [(np.arange(p) * n) // p for p, n in zip(pixels, cut.shape, strict=True)]
            tile = np.repeat(np.rint(grey).astype(np.uint8)[np.ix_(*place)][..., None], 3, axis=2)
            inside = _fitted(np.take(mask, index, axis) > 0, cut.shape)[np.ix_(*place)]
            tile[ndimage.binary_dilation(inside) & ~inside] = LESION_RGB
            # Rising indices run to the left and to the top, as a radiologist looks at a patient.
            yield tile[::-1, ::-1].swapaxes(0, 1)


def _fitted(mask: Image, shape: tuple[int, ...]) -> Image:
    """The mask at its own indices on an image of another size."""
    result = np.zeros(shape, dtype=bool)
    x, y = (min(a, b) for a, b in zip(mask.shape, shape, strict=True))
    result[:x, :y] = mask[:x, :y]
    return result


def _sizes(grids: Mapping[str, Grid]) -> str:
    return "; ".join(f"{role.upper()} {_size(grid)}, axes {grid.orientation}" for role, grid in grids.items())


def _size(grid: Grid) -> str:
    return f"{'x'.join(map(str, grid.shape))} voxels of {'x'.join(f'{s:.3g}' for s in grid.spacing_mm)} mm"
