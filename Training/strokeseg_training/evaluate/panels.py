"""The picture of a patient: slices of image, reference and prediction, and where these agree and differ.

The first slice is the one with the most reference, or else the most prediction, however well it went there; the second
one is where most went wrong. Every voxel that was wrongly drawn or missed has its colour, whole and opaque; the numbers
beside them count all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.report.canvas import draw_png
from strokeseg.report.layout import Label
from strokeseg.report.plane import axial_cut, robust_window, to_canonical
from strokeseg.segmentation import Segmentation
from strokeseg_training.evaluate.record import Record

RIGHT, FALSE, MISSED = 1, 2, 3
# Okabe and Ito's palette (2008): told apart by every kind of colour vision, by lightness alone, and on grey.
COLOURS = {RIGHT: (86, 180, 233), FALSE: (213, 94, 0), MISSED: (240, 228, 66)}
CLASS_COLOURS = ((230, 159, 0), (0, 158, 115), (204, 121, 167), (0, 114, 178))
_GROUND = (17, 20, 24)
_INK, _QUIET = "#f2f4f6", "#b4bcc6"
_PICTURE_MM, _PIXELS_PER_MM = 250.0, 1.6
_GAP, _HEAD, _FOOT = 12, 78, 56


@dataclass(frozen=True, eq=False)
class Cut:
    """One axial slice, front at the top, the patient's right at the left; cells (row, column).

    Attributes:
        grey: 0-255.
        reference: Value of the class, 0 for background.
        prediction: Likewise.
        height_mm: Of the slice in the patient, S.
        pixels: Size of a cell on the picture (rows, columns).
    """

    grey: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    height_mm: float
    pixels: tuple[int, int]


def agreement(prediction: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.uint8]:
    """`RIGHT`, `FALSE` and `MISSED` for every voxel, 0 where both say that there is nothing."""
    p, g = prediction > 0, reference > 0
    return np.select([p & g, p & ~g, ~p & g], [RIGHT, FALSE, MISSED], 0).astype(np.uint8)


def painted(grey: NDArray[np.uint8], codes: NDArray[np.uint8], colours: Sequence[tuple[int, int, int]]) -> Any:
    """Grey cells, and those with a code in its colour: uint8 (..., 3).

    Args:
        grey: 0-255.
        codes: 0: no colour; else the number of one from 1 on.
        colours: In order.
    """
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    for number, colour in enumerate(colours, start=1):
        rgb[codes == number] = colour
    return rgb


def choose_slices(reference: NDArray[Any], prediction: NDArray[Any], brain: NDArray[Any]) -> list[int]:
    """Planes of the last axis: that with most reference, else most prediction, else most brain; and the worst one.

    The worst is that with most voxels wrongly drawn or missed; it is left out where it is the first, or where there is
    no such voxel.
    """

    def largest(mask: NDArray[Any]) -> int | None:
        area = (mask > 0).sum(axis=(0, 1))
        return int(area.argmax()) if area.any() else None

    found = [k for k in (largest(reference), largest(prediction), largest(brain)) if k is not None]
    chosen = [found[0] if found else reference.shape[2] // 2]
    worst = largest((prediction > 0) != (reference > 0))
    return chosen if worst is None or worst in chosen else [*chosen, worst]


def cuts_of(result: Segmentation, labels: NDArray[np.uint8]) -> list[Cut]:
    """The one or two slices that are shown of a patient.

    Args:
        result: Of the engine.
        labels: The reference on its grid.
    """
    affine = result.affine
    image, turned = to_canonical(result.images[result.card.reference_role], affine)
    reference, prediction, brain = (to_canonical(a, affine)[0] for a in (labels, result.mask, result.brain))
    box = (slice(0, image.shape[0]), slice(0, image.shape[1]))
    low, high = robust_window(image, brain > 0)
    spacing = np.linalg.norm(turned[:3, :3], axis=0)
    extent = max(spacing[0] * image.shape[0], spacing[1] * image.shape[1])
    scale = _PIXELS_PER_MM * min(1.0, _PICTURE_MM / extent)
    columns, rows = (max(1, round(float(s) * scale)) for s in spacing[:2])
    cuts = []
    for index in choose_slices(reference, prediction, brain):
        grey = np.nan_to_num((axial_cut(image, index, box) - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
        middle = turned @ [image.shape[0] / 2, image.shape[1] / 2, index, 1]
        cuts.append(
            Cut(
                (np.clip(grey, 0, 1) * 255).astype(np.uint8),
                np.array(axial_cut(reference, index, box)),
                np.array(axial_cut(prediction, index, box)),
                float(middle[2]),
                (rows, columns),
            )
        )
    return cuts


def draw_panel(cuts: Sequence[Cut], record: Record, classes: Sequence[str], title: str) -> bytes:
    """The picture as PNG, a row a slice.

    Args:
        cuts: What is shown; all of one size.
        record: The patient's figures.
        classes: Names, where there are several.
        title: Who, and by which model.
    """
    colours = [CLASS_COLOURS[n % len(CLASS_COLOURS)] for n in range(max(len(classes), 1))]
    rows = [_tiles(cut, colours, several=bool(classes)) for cut in cuts]
    height, width = rows[0][0].shape[:2]
    # Below this, four tiles leave no room for the words.
    column = max(width, 190)
    picture = np.empty((_HEAD + len(rows) * (height + _FOOT), 4 * column + 5 * _GAP, 3), np.uint8)
    picture[:] = _GROUND
    places = [_GAP + n * (column + _GAP) for n in range(4)]
    labels = [Label(title, _GAP, 20, 16, color=_INK, bold=True), Label(_sentence(record), _GAP, 42, 14, color=_INK)]
    names = ("image", "reference", "prediction", "reference against prediction")
    labels += [Label(name, x, 66, 13, color=_QUIET) for name, x in zip(names, places, strict=True)]
    for number, (cut, tiles) in enumerate(zip(cuts, rows, strict=True)):
        top = _HEAD + number * (height + _FOOT)
        for x, tile in zip(places, tiles, strict=True):
            picture[top : top + height, x : x + width] = tile
        labels += _below(picture, cut, record, places, top + height, worst=number > 0)
        for k, name in enumerate(classes):
            y = top + height + 14 + 16 * k
            picture[y - 5 : y + 5, places[1] : places[1] + 10] = colours[k]
            labels.append(Label(name, places[1] + 16, y, 12, color=_QUIET))
    return draw_png(picture, [], labels)


def _tiles(cut: Cut, colours: Sequence[tuple[int, int, int]], *, several: bool) -> list[Any]:
    codes = agreement(cut.prediction, cut.reference)
    shown = [m if several else np.minimum(m, 1) for m in (cut.reference, cut.prediction)]
    tiles = [
        painted(cut.grey, np.zeros_like(codes), ()),
        *(painted(cut.grey, m, colours) for m in shown),
        painted(cut.grey, codes, list(COLOURS.values())),
    ]
    return [t.repeat(cut.pixels[0], axis=0).repeat(cut.pixels[1], axis=1) for t in tiles]


def _sentence(record: Record) -> str:
    m = record.any
    dice = "not defined (no lesion in the reference)" if not m.reference_voxels else f"{m.dice:.3f}"
    return (
        f"Dice of the volume {dice}. Reference {m.reference_ml:.2f} ml, predicted {m.prediction_ml:.2f} ml, "
        f"false-positive {m.false_positive_ml:.2f} ml"
    )


def _below(
    picture: NDArray[np.uint8], cut: Cut, record: Record, places: Sequence[int], foot: int, *, worst: bool
) -> list[Label]:
    """What is said below a row; paints the keys of the colours."""
    m, codes = record.any, agreement(cut.prediction, cut.reference)
    shared, p, g = (int(x.sum()) for x in (codes == RIGHT, cut.prediction > 0, cut.reference > 0))
    of_slice = f"{2 * shared / (p + g):.3f}" if p + g else "not defined"
    lines = (
        f"{'the slice with most errors' if worst else 'slice'}: S {cut.height_mm:.0f} mm",
        f"Dice of this slice {of_slice}",
        "R is on the left",
    )
    labels = [Label(t, places[0], foot + 14 + 16 * n, 12, color=_QUIET) for n, t in enumerate(lines)]
    rows = (
        (RIGHT, "found", m.true_positive_voxels),
        (FALSE, "false", m.false_positive_voxels),
        (MISSED, "missed", m.false_negative_voxels),
    )
    for number, (code, name, total) in enumerate(rows):
        y = foot + 14 + 16 * number
        picture[y - 5 : y + 5, places[3] : places[3] + 10] = COLOURS[code]
        text = f"{name}: {int((codes == code).sum())} voxels here, {total} in all"
        labels.append(Label(text, places[3] + 16, y, 12, color=_QUIET))
    return labels
