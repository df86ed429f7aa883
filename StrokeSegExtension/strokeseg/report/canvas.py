"""Puts lines and text onto a finished RGB picture and encodes it as PNG.

The only file that imports matplotlib, and without pyplot: no backend is chosen, no window opens, no global state is
touched.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import get_data_path
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import imsave
from matplotlib.text import Text
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from strokeseg.report.layout import EDGE, Label, Strokes

_DPI = 72.0  # one typographic point is one pixel, so that every size is in pixels


def draw_png(picture: NDArray[np.uint8], strokes: Sequence[Strokes], labels: Sequence[Label]) -> bytes:
    """The picture (row, column, 3) with `strokes` and `labels` on top as PNG; the same input gives the same bytes."""
    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    opaque = np.dstack([picture, np.full((height, width), 255, dtype=np.uint8)])
    # Straight onto the canvas: an image that belongs to the figure is resampled, which takes longer than all the rest.
    renderer.draw_image(renderer.new_gc(), 0, 0, opaque[::-1])
    # matplotlib counts from the bottom; here everything is told from the top, like the picture's rows.
    from_top = Affine2D().scale(1, -1).translate(0, height)
    for stroke in strokes:
        lines = _lines(stroke)
        lines.set_transform(from_top)
        figure.add_artist(lines)
    for label in labels:
        text = _text(label)
        text.set_transform(from_top)
        figure.add_artist(text)
        room = width - label.x - EDGE
        if label.align == "left" and (needed := text.get_window_extent(renderer).width) > room:
            # Hinting rounds every letter to whole pixels, so that a smaller size is not smaller by the same ratio.
            text.set_fontsize(0.95 * label.size * room / needed)
    for artist in figure.artists:
        artist.draw(renderer)
    file = io.BytesIO()
    # The encoder would write matplotlib's version, and the bytes would change with it.
    options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}}
    imsave(file, np.asarray(renderer.buffer_rgba()), format="png", dpi=_DPI, **options)
    return file.getvalue()


def _lines(strokes: Strokes) -> Artist:
    return LineCollection(list(strokes.segments), colors=strokes.color, linewidths=strokes.width, capstyle="projecting")


def _text(label: Label) -> Text:
    # The font that matplotlib brings along: the picture is the same on every machine.
    name = "DejaVuSans-Bold.ttf" if label.bold else "DejaVuSans.ttf"
    return Text(
        label.x,
        label.y,
        label.text,
        fontproperties=FontProperties(fname=f"{get_data_path()}/fonts/ttf/{name}", size=label.size),
        color=label.color,
        horizontalalignment=label.align,
        verticalalignment="center_baseline",
        parse_math=False,
    )
