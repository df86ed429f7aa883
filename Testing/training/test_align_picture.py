"""The picture of an alignment shows each side where it belongs, before and after."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the preparation of training needs torch, which is not installed")

from strokeseg.prepare import ModelGrid
from strokeseg.report.layout import EDGE
from strokeseg.report.overlay import LESION_RGB
from strokeseg.volume import Grid, Volume
from strokeseg_training.prepare.align import align
from strokeseg_training.prepare.align_picture import draw_alignment

SHAPE = (24, 28, 20)
BRAIN = (slice(3, 21), slice(4, 24), slice(2, 18))
# On the patient's right, in front and above.
LESION = (slice(15, 19), slice(17, 22), slice(12, 16))
TILE = 240


def picture(signs):
    """The picture, (rows, columns, RGB), of a patient whose axes are stored with these signs."""
    image = np.zeros(SHAPE, np.float32)
    image[BRAIN] = np.random.default_rng(1).uniform(90, 110, image[BRAIN].shape)
    image[LESION] = 400.0
    inside, labels = np.zeros(SHAPE, bool), np.zeros(SHAPE, np.uint8)
    inside[BRAIN], labels[LESION] = True, 1
    turned = [a for a, sign in enumerate(signs) if sign < 0]
    image, inside, labels = (np.ascontiguousarray(np.flip(a, turned)) for a in (image, inside, labels))
    affine = np.diag([2.0 * s for s in signs] + [1.0])
    affine[turned, 3] = [2.0 * (SHAPE[a] - 1) for a in turned]
    native = Grid(SHAPE, affine)
    grid = ModelGrid.around(inside, native, spacing_mm=(2.0, 2.0, 2.0), margin_voxels=1, multiple=2)
    prepared = SimpleNamespace(
        model_grid=grid,
        channels=grid.forward(image)[None],
        images={"dwi": image},
        brain=SimpleNamespace(mask=inside),
        reference=SimpleNamespace(grid=native),
    )
    drawn = draw_alignment("p", {"dwi": Volume(image, affine)}, labels, prepared, align(prepared, labels))
    return np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"), dtype=int)


def tiles(drawn):
    """Before and after: the axial and the sagittal cut of each."""
    found = {}
    for row, when in enumerate(("before", "after")):
        # A heading of the picture, and one of each row.
        top = 34 + row * (26 + TILE + 4) + 26
        for column, cut in enumerate(("axial", "sagittal")):
            left = EDGE + column * (TILE + 4)
            found[when, cut] = drawn[top : top + TILE, left : left + TILE]
    return found


def middles(tile):
    """(row, column) of the contour's middle and of the bright voxels' middle, from -1 (top, left) to 1."""
    contour = (tile == LESION_RGB).all(axis=-1)
    # Below the role's name.
    bright = (tile.min(axis=-1) > 240) & (np.arange(TILE) > 20)[:, None]
    assert contour.sum() > 100
    assert bright.sum() > 500
    # The brain around them is neither black nor as bright.
    brain = (tile.max(axis=-1) > 5) & ~bright & ~contour
    assert brain.sum() > 10 * bright.sum() / 2
    return [np.argwhere(where).mean(axis=0) / (TILE / 2) - 1 for where in (contour, bright)]


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_the_marked_side_is_where_the_scan_has_it_and_then_where_the_patient_has_it(signs):
    shown = tiles(picture(signs))
    x, y, z = signs
    # After: the patient's right on the left, the front above, and of the sagittal cut the front on the left.
    wanted = {
        ("after", "axial"): (-1, -1), ("after", "sagittal"): (-1, -1),
        # Before: the same of rising indices, whichever way they run in the patient.
        ("before", "axial"): (-y, -x), ("before", "sagittal"): (-z, -y),
    }  # fmt: skip
    for place, (up, across) in wanted.items():
        contour, bright = middles(shown[place])
        np.testing.assert_allclose(contour, bright, atol=0.03, err_msg=str(place))
        assert contour[0] * up > 0.15, place
        assert contour[1] * across > 0.15, place
