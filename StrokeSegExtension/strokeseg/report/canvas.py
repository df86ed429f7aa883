"""Puts lines and text onto a finished RGB picture and encodes it as PNG.

Pillow draws, with the fonts that matplotlib brings along: loading matplotlib itself would take longer than the picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from strokeseg.errors import DependencyError
from strokeseg.report.layout import EDGE, Label, Strokes

_ANCHORS = {"left": "lm", "center": "mm", "right": "rm"}
_COMPRESSION = 3  # of 9: a tenth larger than the best, in a third of the time


def draw_png(picture: NDArray[np.uint8], strokes: Sequence[Strokes], labels: Sequence[Label]) -> bytes:
    """The picture (row, column, 3) with `strokes` and `labels` on top as PNG; the same input gives the same bytes."""
    with_lines = np.array(picture, order="C")
    for stroke in strokes:
        _draw_lines(with_lines, stroke)
    image = Image.fromarray(with_lines)
    draw = ImageDraw.Draw(image)
    for label in labels:
        font = _fitting_font(label, image.width - label.x - EDGE)
        draw.text(
            (label.x, label.y), label.text, font=font, fill=ImageColor.getrgb(label.color), anchor=_ANCHORS[label.align]
        )
    file = io.BytesIO()
    image.save(file, format="png", compress_level=_COMPRESSION, dpi=(72, 72))
    return file.getvalue()


def _draw_lines(picture: NDArray[np.uint8], strokes: Strokes) -> None:
    """Lines along the picture's axes, as rectangles of whole pixels around their middle: crisp, ends included.

    An outline has tens of thousands of them, but few sizes: those of one size are painted together, pixel by pixel.
    """
    width = max(1, round(strokes.width))
    before = (width - 1) // 2
    ends = np.rint(np.asarray(strokes.segments)).astype(int)
    first = ends.min(axis=1) - before
    columns, rows = (ends.max(axis=1) - ends.min(axis=1) + width).T
    painted = np.zeros(picture.shape[:2], dtype=bool)
    for size in product(np.unique(columns), np.unique(rows)):
        corners = first[(columns == size[0]) & (rows == size[1])]
        for offset in np.ndindex(*size) if len(corners) else ():
            x, y = (corners + offset).T
            inside = (x >= 0) & (y >= 0) & (x < picture.shape[1]) & (y < picture.shape[0])
            painted[y[inside], x[inside]] = True
    picture[painted] = ImageColor.getrgb(strokes.color)


def _fitting_font(label: Label, room: float) -> ImageFont.FreeTypeFont:
    """The label's font, smaller where a text that begins at its place would run out of the picture."""
    font = _font(label.bold, label.size)
    needed = font.getlength(label.text)
    if label.align == "left" and needed > room:
        # Hinting rounds every letter to whole pixels, so that a smaller size is not smaller by the same ratio.
        return _font(label.bold, 0.95 * label.size * room / needed)
    return font


@lru_cache(maxsize=32)
def _font(bold: bool, size: float) -> ImageFont.FreeTypeFont:
    """DejaVu Sans from matplotlib's own data: the picture is the same on every machine."""
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        raise DependencyError(
            "The picture cannot be drawn.",
            "matplotlib, whose fonts it uses, is not installed.",
            "Install it: python -m pip install matplotlib",
        )
    fonts = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(fonts / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size)
