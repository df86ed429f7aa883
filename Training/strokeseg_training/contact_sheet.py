"""The contact sheet of a synthetic data set: one row a case, axial slices with the label's contour, as PNG.

Which way round, how large and how bright is decided by the same code that draws the engine's overlay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.report.canvas import draw_png
from strokeseg.report.layout import ALERT, EDGE, QUIET, TEXT, Label
from strokeseg.report.overlay import LESION_RGB
from strokeseg.report.plane import axial_cut, choose_slices, enlarge, foreground, viewer_letters
from strokeseg.report.scene import Scene, compose_scene
from strokeseg.volume.grid import Affine

SLICES = 7
NOTICE = "SYNTHETIC: no real scan, no patient. Research use only. Slices from feet to head, the contour is the label."
_TILE = 170
_CAPTION = 270
_GAP = 2
_ROW_GAP = 16
_LESION_SHARES = (1 / 6, 1 / 2, 5 / 6)
_HEADER = 78


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One case of the sheet.

    Args:
        name: Written beside the slices, with the lines of `caption` below.
        caption: Short lines.
        image: (x, y, z) on any grid.
        image_name: Written above the first slice.
        affine: 4x4, voxel index to RAS mm.
        mask: (x, y, z), above 0 is lesion.
        second: A further image on the same grid, drawn below, and its name.
    """

    name: str
    caption: tuple[str, ...]
    image: NDArray[Any]
    image_name: str
    affine: Affine
    mask: NDArray[Any]
    second: tuple[NDArray[Any], str] | None = None


def draw_contact_sheet(rows: Sequence[SheetRow], title: str) -> bytes:
    """The sheet as PNG, the same bytes for the same cases.

    Args:
        rows: From top to bottom; up to about twenty make a picture that can still be looked at.
        title: The first line; below it stands that everything is synthetic.
    """
    scenes = [_scene(row) for row in rows]
    heights = [len(s.images) * (_TILE + _GAP) + _ROW_GAP for s in scenes]
    width = 2 * EDGE + _CAPTION + SLICES * (_TILE + _GAP)
    picture = np.zeros((_HEADER + sum(heights) + EDGE, width, 3), dtype=np.uint8)
    labels = [
        Label(title, EDGE, EDGE, 22.0, bold=True),
        Label(NOTICE, EDGE, EDGE + 28, 17.0, color=ALERT, bold=True),
    ]
    top = _HEADER
    for row, scene, height in zip(rows, scenes, heights, strict=True):
        _paint_row(picture, scene, top)
        labels += _row_labels(row, scene, top)
        top += height
    return draw_png(picture, [], labels)


def _scene(row: SheetRow) -> Scene:
    """The case as the overlay would show it, but with slices from the whole head."""
    scene = compose_scene(row.image, row.affine, row.mask, background_name=row.image_name, second=row.second)
    area = scene.lesion.sum(axis=(0, 1))
    shown = np.zeros_like(area)
    if area.any():
        # Three slices through the lesion, a third of it each; thin slices would show it alone otherwise.
        share = np.cumsum(area) / area.sum()
        shown[np.searchsorted(share, _LESION_SHARES)] = 1
    head = foreground(scene.images[0]).sum(axis=(0, 1))
    return replace(scene, indices=tuple(choose_slices(shown, head, SLICES)))


def _paint_row(picture: NDArray[np.uint8], scene: Scene, top: int) -> None:
    """All slices of one case, its images below each other."""
    columns, rows = scene.cells
    scale = _TILE / max(columns * scene.spacing_mm[0], rows * scene.spacing_mm[1])
    size = (max(round(rows * scene.spacing_mm[1] * scale), 1), max(round(columns * scene.spacing_mm[0] * scale), 1))
    near_row, near_column = ((np.arange(s) * n) // s for s, n in zip(size, (rows, columns), strict=True))
    for layer, (image, (low, high)) in enumerate(zip(scene.images, scene.windows, strict=True)):
        y = top + layer * (_TILE + _GAP) + (_TILE - size[0]) // 2
        for position, index in enumerate(scene.indices):
            cut = np.nan_to_num(axial_cut(image, index, scene.box), nan=low, posinf=high, neginf=low)
            grey = np.clip((enlarge(cut, size) - low) / (high - low), 0.0, 1.0) * 255.0
            rgb = np.repeat(np.rint(grey).astype(np.uint8)[:, :, None], 3, axis=2)
            lesion = axial_cut(scene.lesion, index, scene.box)[np.ix_(near_row, near_column)]
            rgb[_contour(lesion)] = LESION_RGB
            x = EDGE + _CAPTION + position * (_TILE + _GAP) + (_TILE - size[1]) // 2
            picture[y : y + size[0], x : x + size[1]] = rgb


def _contour(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels just outside `mask`: the line hides nothing of the lesion."""
    padded = np.pad(mask > 0, 1)
    grown = padded.copy()
    for axis in (0, 1):
        grown |= np.roll(padded, 1, axis) | np.roll(padded, -1, axis)
    return np.asarray((grown & ~padded)[1:-1, 1:-1])


def _row_labels(row: SheetRow, scene: Scene, top: int) -> list[Label]:
    labels = [Label(row.name, EDGE, top + 14, 15.0, bold=True)]
    labels += [Label(line, EDGE, top + 36 + 20 * i, 14.0, color=QUIET) for i, line in enumerate(row.caption)]
    left = EDGE + _CAPTION
    for layer, name in enumerate(scene.names):
        labels.append(Label(name, left + 4, top + layer * (_TILE + _GAP) + 10, 13.0, bold=True))
    letters = viewer_letters(scene.affine)
    middle = top + _TILE / 2
    labels.append(Label(letters["left"], left + 6, middle, 13.0, "center", TEXT))
    labels.append(Label(letters["right"], left + _TILE - 6, middle, 13.0, "center", TEXT))
    return labels
