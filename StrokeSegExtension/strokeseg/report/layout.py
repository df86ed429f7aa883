"""Where everything stands on the overlay picture: tiles, letters, captions, in pixels from its top left corner.

The picture is planned completely before anything is drawn, so that a test can ask where a letter will be.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from strokeseg.report.figures import number

COLUMNS = 5
EDGE = 24
GAP = 8
NOTICE = "Research use only. Not a medical device."
SYNTHETIC = "SYNTHETIC PATIENT: not a real scan."

TEXT = "#f2f2f2"
QUIET = "#b4b4b4"
ALERT = "#56b4e9"

# Font sizes; a page shows the picture at about three quarters of its size.
_TITLE, _BODY, _SMALL, _SIDE = 25.0, 19.0, 17.0, 20.0
# Width of an image for one to five images in a row.
_IMAGE_WIDTH = {1: 420, 2: 380, 3: 340, 4: 290, 5: 240}
_LETTER_ROOM = 24
# In font sizes; wider than the average letter, so that a wrapped line always fits.
_LETTER_WIDTH = 0.62
_NOTES_LETTER_WIDTH = 0.54
# No tile is narrower than this, so that the letters of a thin slab have room.
_SMALLEST_TILE_MM = 70.0


@dataclass(frozen=True)
class Label:
    """One piece of text.

    Args:
        text: What is written.
        x: Pixels from the left to the point that `align` names.
        y: Pixels from the top to the text's middle.
        size: Font size in pixels.
        align: ``"left"``, ``"center"`` or ``"right"``.
        color: Hex colour.
        bold: Whether it is set in bold.
    """

    text: str
    x: float
    y: float
    size: float
    align: Literal["left", "center", "right"] = "left"
    color: str = TEXT
    bold: bool = False


@dataclass(frozen=True, eq=False)
class Strokes:
    """Straight lines of one kind.

    Args:
        segments: (n, 2, 2), the ends (x, y) in pixels from the top left corner of the picture.
        color: Hex colour.
        width: Pixels.
    """

    segments: NDArray[np.float64]
    color: str
    width: float


@dataclass(frozen=True)
class Tile:
    """One slice of one image on the picture.

    Args:
        layer: 0 for the background, 1 for the second image.
        position: Which of the chosen slices it shows.
        x, y: Top left pixel of the black tile.
        image_x, image_y: Top left pixel of the image, centred on the tile.
    """

    layer: int
    position: int
    x: int
    y: int
    image_x: int
    image_y: int


@dataclass(frozen=True)
class Key:
    """One bar of the legend.

    Args:
        kind: ``"length"`` (50 mm), ``"lesion"`` (its colour) or ``"grey"`` (black to white).
        x: Left end.
        y: Middle line.
        width: Pixels.
    """

    kind: str
    x: int
    y: int
    width: int


@dataclass(frozen=True)
class Layout:
    """The planned picture, all lengths in pixels.

    Args:
        width, height: Size of the whole picture.
        tile_size: (width, height) of each tile.
        image_size: (width, height) of the image inside each tile.
        pixels_per_mm: One scale for both directions.
        tiles: Every tile.
        letters: R, L, A and P beside the images.
        texts: All other text.
        keys: Bars of the legend.
    """

    width: int
    height: int
    tile_size: tuple[int, int]
    image_size: tuple[int, int]
    pixels_per_mm: float
    tiles: tuple[Tile, ...]
    letters: tuple[Label, ...]
    texts: tuple[Label, ...]
    keys: tuple[Key, ...]


def plan_layout(
    box_mm: tuple[float, float],
    positions_mm: Sequence[float],
    letters: dict[str, str],
    *,
    names: Sequence[str],
    greys: Sequence[tuple[str, str]],
    title_lines: Sequence[str],
    notes: str,
    synthetic: bool = False,
) -> Layout:
    """Place the tiles of `positions_mm` slices from feet to head, five in a row, with all text.

    Args:
        box_mm: (width, height) of the shown part of a slice.
        positions_mm: Height of each slice, RAS z.
        letters: The letter at the image's ``left``, ``right``, ``top`` and ``bottom`` border.
        names: Name of the background and, where there is one, of the second image.
        greys: What is written left and right of the grey scale of each image.
        title_lines: Header; the first line is the title.
        notes: Sentences for the foot of the picture.
        synthetic: Whether to say that the patient is synthetic.
    """
    columns = min(COLUMNS, len(positions_mm))
    target = _IMAGE_WIDTH[columns]
    scale = min(target / max(box_mm[0], _SMALLEST_TILE_MM), 1.25 * target / box_mm[1])
    image = (max(round(box_mm[0] * scale), 1), max(round(box_mm[1] * scale), 1))
    tile = (max(image[0], round(_SMALLEST_TILE_MM * scale)) + 2 * _LETTER_ROOM, image[1] + 2 * _LETTER_ROOM)
    mosaic = columns * tile[0] + (columns - 1) * GAP
    width = max(mosaic, 900) + 2 * EDGE

    texts, y = _header(title_lines, width, synthetic)
    left = (width - mosaic) // 2
    tiles: list[Tile] = []
    marks: list[Label] = []
    for group in range(math.ceil(len(positions_mm) / columns)):
        for layer, name in enumerate(names):
            for position in range(group * columns, min((group + 1) * columns, len(positions_mm))):
                column = position - group * columns
                x = left + column * (tile[0] + GAP)
                tiles.append(Tile(layer, position, x, y, x + (tile[0] - image[0]) // 2, y + _LETTER_ROOM))
                marks += _letters(tiles[-1], tile, letters, all_four=column == 0)
                if column == 0:
                    texts.append(Label(name, x + 8, y + 14, _SMALL, bold=True))
                if layer == len(names) - 1:
                    caption = f"S {number(positions_mm[position], 1, signed=True)} mm"
                    texts.append(Label(caption, x + tile[0] / 2, y + tile[1] + 15, _SMALL, "center", QUIET))
            y += tile[1] + (GAP if layer < len(names) - 1 else 38)
    legend, keys, y = _legend(greys, notes, y + 14, width, scale)
    return Layout(width, y, tile, image, scale, tuple(tiles), tuple(marks), (*texts, *legend), keys)


def _header(title_lines: Sequence[str], width: int, synthetic: bool) -> tuple[list[Label], int]:
    texts: list[Label] = []
    y = EDGE + 6
    lines = [(line, _TITLE, TEXT, True) for line in title_lines[:1]]
    lines += [(line, _BODY, TEXT, False) for line in title_lines[1:]]
    lines += [(SYNTHETIC, _BODY, ALERT, True)] if synthetic else []
    lines += [(NOTICE, _BODY, QUIET, True)]
    for line, size, color, bold in lines:
        for part in _wrapped(line, width, size):
            texts.append(Label(part, EDGE, y, size, color=color, bold=bold))
            y += round(1.5 * size)
    return texts, y + 4


def _legend(
    greys: Sequence[tuple[str, str]], notes: str, y: int, width: int, scale: float
) -> tuple[list[Label], tuple[Key, ...], int]:
    """Scale bar, lesion colour and grey scales in as many lines as they need, then the notes, and the lower border."""
    texts: list[Label] = []
    keys: list[Key] = []
    x = EDGE
    bars = [("length", "", "50 mm", round(50.0 * scale)), ("lesion", "", "lesion", 18)]
    bars += [("grey", start, end, 80) for start, end in greys]
    for kind, start, end, bar in bars:
        before, after = (round(_LETTER_WIDTH * _SMALL * len(words)) + (10 if words else 0) for words in (start, end))
        if x > EDGE and x + before + bar + after > width - EDGE:
            x, y = EDGE, y + 30
        if start:
            texts.append(Label(start, x, y, _SMALL))
        keys.append(Key(kind, x + before, y, bar))
        texts.append(Label(end, x + before + bar + 10, y, _SMALL))
        x += before + bar + after + 30
    for part in _wrapped(notes, width, _SMALL, _NOTES_LETTER_WIDTH):
        y += 28
        texts.append(Label(part, EDGE, y, _SMALL, color=QUIET))
    return texts, tuple(keys), y + EDGE


def _wrapped(line: str, width: int, size: float, letter: float = _LETTER_WIDTH) -> list[str]:
    return textwrap.wrap(line, int((width - 2 * EDGE) / (letter * size)))


def _letters(tile: Tile, tile_size: tuple[int, int], letters: dict[str, str], *, all_four: bool) -> list[Label]:
    middle_x, middle_y = tile.x + tile_size[0] / 2, tile.y + tile_size[1] / 2
    inset = _LETTER_ROOM / 2
    marks = [
        Label(letters["left"], tile.x + inset, middle_y, _SIDE, "center", bold=True),
        Label(letters["right"], tile.x + tile_size[0] - inset, middle_y, _SIDE, "center", bold=True),
    ]
    if all_four:
        marks.append(Label(letters["top"], middle_x, tile.y + inset, _SIDE, "center", QUIET))
        marks.append(Label(letters["bottom"], middle_x, tile.y + tile_size[1] - inset, _SIDE, "center", QUIET))
    return marks
