"""The overlay picture: axial slices with the lesion outlined, in radiological convention, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.report.layout import TEXT, Layout, Strokes, plan_layout
from strokeseg.report.plane import axial_cut, enlarge, viewer_letters
from strokeseg.report.scene import Scene, compose_scene
from strokeseg.volume.grid import Affine

# Vermillion of Okabe and Ito's palette (2008), lightened: seen on grey, black and white by every kind of colour vision.
LESION_RGB = (255, 106, 19)
LESION_COLOR = "#ff6a13"
_FILL = (0.08, 0.28)  # opacity of the fill at probability 0 and 1
_OBLIQUE_DEGREES = 3.0


def draw_overlay(
    background: NDArray[Any],
    affine: Affine,
    mask: NDArray[Any],
    *,
    probability: NDArray[Any] | None = None,
    title_lines: Sequence[str] = (),
    background_name: str = "DWI",
    window: tuple[float, float] | None = None,
    brain: NDArray[Any] | None = None,
    second: tuple[NDArray[Any], str] | None = None,
    second_window: tuple[float, float] | None = (0.0, 2.0),
    second_unit: str = "×10⁻³ mm²/s",
    slices: int = 10,
    synthetic: bool = False,
) -> bytes:
    """Mosaic of the axial slices with most lesion, or spread through the brain where there is none.

    The patient's right is on the viewer's left, the letters say so on every slice. Slices go from feet to head.

    Args:
        background: (x, y, z) on any grid.
        affine: 4x4 of that grid, voxel index to RAS mm.
        mask: (x, y, z) lesion mask; everything above 0 is lesion.
        probability: (x, y, z) in 0-1; the fill is stronger where it is higher.
        title_lines: Header; the first line is set as the title. The notice about research use is always added.
        background_name: Written beside the slices.
        window: Grey values (black, white) of the background; None: robust percentiles of the brain.
        brain: (x, y, z) brain mask for cropping, window and choice of slices; None: everything brighter than air.
        second: Another image on the same grid and its name, usually the ADC map; drawn below the background.
        second_window: Its grey values; None: robust percentiles.
        second_unit: Unit of these grey values.
        slices: At most so many slices.
        synthetic: Whether to write that the patient is synthetic.

    Returns:
        A PNG, the same bytes for the same input.

    Raises:
        ValueError: The arrays do not have the same three-dimensional shape.
    """
    # Pillow is loaded when a picture is drawn.
    from strokeseg.report.canvas import draw_png  # noqa: PLC0415

    scene = compose_scene(
        background,
        affine,
        mask,
        probability=probability,
        background_name=background_name,
        window=window,
        brain=brain,
        second=second,
        second_window=second_window,
        second_unit=second_unit,
        slices=slices,
    )
    layout = plan_overlay(scene, title_lines=title_lines, synthetic=synthetic)
    picture = _paint(scene, layout)
    strokes = [*_outlines(scene, layout), *_legend(picture, layout)]
    return draw_png(picture, strokes, [*layout.texts, *layout.letters])


def plan_overlay(scene: Scene, *, title_lines: Sequence[str] = (), synthetic: bool = False) -> Layout:
    """Where tiles, letters and texts of the picture of `scene` stand; `draw_overlay` draws exactly these."""
    columns, rows = scene.cells
    return plan_layout(
        (columns * scene.spacing_mm[0], rows * scene.spacing_mm[1]),
        scene.positions_mm,
        viewer_letters(scene.affine),
        names=scene.names,
        greys=[
            (f"{name} {_grey(low)}", f"{_grey(high)} {unit}".strip())
            for name, unit, (low, high) in zip(scene.names, scene.units, scene.windows, strict=True)
        ],
        title_lines=title_lines,
        notes=_notes(scene),
        synthetic=synthetic,
    )


def _paint(scene: Scene, layout: Layout) -> NDArray[np.uint8]:
    """The RGB picture (row, column, 3) with all slices and the lesion's fill."""
    picture = np.zeros((layout.height, layout.width, 3), dtype=np.uint8)
    size = (layout.image_size[1], layout.image_size[0])
    rows, columns = ((np.arange(s) * n) // s for s, n in zip(size, scene.cells[::-1], strict=True))
    for tile in layout.tiles:
        index = scene.indices[tile.position]
        low, high = scene.windows[tile.layer]
        cut = np.nan_to_num(axial_cut(scene.images[tile.layer], index, scene.box), nan=low, posinf=high, neginf=low)
        grey = np.clip((enlarge(cut, size) - low) / (high - low), 0.0, 1.0) * 255.0
        rgb = np.repeat(grey[:, :, None], 3, axis=2)
        if tile.layer == 0:
            opacity = _opacity(scene, index)[np.ix_(rows, columns)][:, :, None]
            rgb += opacity * (np.array(LESION_RGB, dtype=np.float32) - rgb)
        y, x = tile.image_y, tile.image_x
        picture[y : y + size[0], x : x + size[1]] = np.rint(rgb).astype(np.uint8)
    return picture


def _opacity(scene: Scene, index: int) -> NDArray[np.float32]:
    lesion = axial_cut(scene.lesion, index, scene.box)
    if scene.probability is None:
        return np.where(lesion, np.float32(sum(_FILL) / 2), np.float32(0.0))
    probability = np.clip(np.nan_to_num(axial_cut(scene.probability, index, scene.box)), 0.0, 1.0)
    return np.where(lesion, _FILL[0] + (_FILL[1] - _FILL[0]) * probability, 0.0).astype(np.float32)


def _outlines(scene: Scene, layout: Layout) -> list[Strokes]:
    """The lesion's outline on every tile, exactly along the borders of its voxels."""
    columns, rows = scene.cells
    scale = np.array([layout.image_size[0] / columns, layout.image_size[1] / rows])
    strokes = []
    for layer, width in ((0, 1.5), (1, 1.0)):
        segments = [
            _borders(axial_cut(scene.lesion, scene.indices[tile.position], scene.box)) * scale
            + np.array([tile.image_x, tile.image_y])
            for tile in layout.tiles
            if tile.layer == layer
        ]
        if segments and sum(map(len, segments)):
            strokes.append(Strokes(np.concatenate(segments), LESION_COLOR, width))
    return strokes


def _borders(lesion: NDArray[Any]) -> NDArray[np.float64]:
    """Edges between lesion and other cells of a picture (row, column): (n, 2, 2) ends as (x, y) in cells."""
    padded = np.pad(lesion, 1).astype(np.int8)
    y, x = np.nonzero(np.diff(padded, axis=0)[:, 1:-1])
    lying = np.stack([np.stack([x, y], axis=1), np.stack([x + 1, y], axis=1)], axis=1)
    y, x = np.nonzero(np.diff(padded, axis=1)[1:-1])
    standing = np.stack([np.stack([x, y], axis=1), np.stack([x, y + 1], axis=1)], axis=1)
    return np.concatenate([lying, standing]).astype(np.float64)


def _legend(picture: NDArray[np.uint8], layout: Layout) -> list[Strokes]:
    """Paint the bars of the legend into `picture` and return the lines that belong to them."""
    strokes = []
    for key in layout.keys:
        x, y, end = key.x, key.y, key.x + key.width
        if key.kind == "length":
            lines = [[[x, y], [end, y]], [[x, y - 5], [x, y + 5]], [[end, y - 5], [end, y + 5]]]
            strokes.append(Strokes(np.array(lines, dtype=np.float64), TEXT, 2.0))
        elif key.kind == "lesion":
            picture[y - 8 : y + 8, x:end] = np.rint(np.array(LESION_RGB) * sum(_FILL) / 2)
            strokes.append(Strokes(_borders(np.ones((1, 1))) * (key.width, 16) + (x, y - 8), LESION_COLOR, 1.5))
        else:
            picture[y - 8 : y + 8, x:end] = np.linspace(0, 255, key.width).astype(np.uint8)[:, None]
    return strokes


def _notes(scene: Scene) -> str:
    notes = "Radiological convention: the patient's right is on the left of the picture. Slices from feet to head."
    if scene.probability is not None:
        notes += " A deeper fill is more probable."
    if scene.tilt_degrees > _OBLIQUE_DEGREES:
        notes += f" The slices are tilted by {scene.tilt_degrees:.0f}°."
    return notes


def _grey(value: float) -> str:
    return (f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}").replace("-", "−")
