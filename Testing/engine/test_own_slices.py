"""Models that take a scan's slices as they are: 0 for the spacing along an axis, other spacings along the others."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from strokeseg.errors import ModelError
from strokeseg.models import parse_card
from strokeseg.prepare.grid import ModelGrid
from strokeseg.volume import Grid

SHAPE, SPACING_MM = (14, 12, 5), (2.2, 2.6, 6.5)
IN_SLICES = (1.75, 1.75, 0.0)
WAYS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def turned(degrees: float, axis: int) -> NDArray[np.float64]:
    angle, matrix = np.deg2rad(degrees), np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def oblique(shape: tuple[int, int, int] = SHAPE) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = turned(8, 0) @ turned(-6, 1) @ turned(11, 2) * np.asarray(SPACING_MM)
    affine[:3, 3] = [3.0, -7.0, 5.0]
    return Grid(shape, affine)


def stored(
    array: NDArray[Any], grid: Grid, order: tuple[int, ...], signs: tuple[int, ...]
) -> tuple[NDArray[Any], Grid]:
    """The same scan with axes permuted and flipped."""
    affine, start = np.eye(4), np.zeros(3)
    affine[:3, :3] = grid.affine[:3, list(order)] * signs
    for sign, axis in zip(signs, order, strict=True):
        start[axis] = 0 if sign > 0 else grid.shape[axis] - 1
    affine[:3, 3] = grid.to_world(start)
    moved = np.ascontiguousarray(array.transpose(order)[tuple(slice(None, None, s) for s in signs)])
    x, y, z = moved.shape
    return moved, Grid((x, y, z), affine)


def around(brain: NDArray[np.bool_], grid: Grid, multiple: int = 4) -> ModelGrid:
    return ModelGrid.around(brain, grid, spacing_mm=IN_SLICES, margin_voxels=1, multiple=multiple)


@pytest.mark.parametrize("multiple", [1, 2, 4, 8])
def test_the_models_slices_are_the_scans_own(multiple: int) -> None:
    scan = oblique()
    brain = np.zeros(SHAPE, dtype=bool)
    brain[2:-2, 2:-2, 1:4] = True
    model = around(brain, scan, multiple)
    assert model.grid.spacing_mm == pytest.approx((1.75, 1.75, 6.5))
    assert not any(n % multiple for n in model.grid.shape)
    planes = scan.to_voxel(model.grid.to_world(np.array([[0.0, 0, k] for k in range(model.grid.shape[2])])))[:, 2]
    np.testing.assert_allclose(planes, np.rint(planes), atol=1e-6)
    assert {1, 2, 3} <= set(np.rint(planes).astype(int))


@pytest.mark.parametrize("number", range(len(WAYS)))
def test_what_is_in_one_slice_stays_in_it_there_and_back_however_the_scan_is_stored(number: int) -> None:
    scan, brain = oblique(), np.ones(SHAPE, dtype=bool)
    image = np.zeros(SHAPE, dtype=np.float32)
    image[4:10, 3:9, 2] = 1.0
    expected = around(brain, scan)
    wanted = expected.forward(image)
    hit = np.flatnonzero(np.abs(wanted).max(axis=(0, 1)) > 1e-6)
    assert len(hit) == 1  # splines along the third axis would ring into all
    moved, grid = stored(image, scan, *WAYS[number])
    model = around(np.ones(moved.shape, dtype=bool), grid)
    assert model.grid.matches(expected.grid, 1e-6)
    there = model.forward(moved)
    np.testing.assert_allclose(there, wanted, atol=1e-5)
    back = model.back(there, outside=0.0)
    assert not np.abs(back[moved == 0]).max() > 0.5
    assert back[moved == 1].min() > 0.5
    again, _ = stored(image, scan, *WAYS[number])
    other_slices = again.max(axis=tuple(a for a in range(3) if a != WAYS[number][0].index(2)), keepdims=True) == 0
    np.testing.assert_allclose(back[np.broadcast_to(other_slices, back.shape)], 0.0, atol=1e-6)


def test_own_spacing_along_every_axis_copies_the_scan() -> None:
    rng = np.random.default_rng(0)
    scan, image = oblique(), rng.normal(size=SHAPE).astype(np.float32)
    brain = np.ones(SHAPE, dtype=bool)
    none = ModelGrid.around(brain, scan, spacing_mm=None)
    zeros = ModelGrid.around(brain, scan, spacing_mm=(0.0, 0.0, 0.0))
    np.testing.assert_array_equal(zeros.grid.affine, none.grid.affine)
    np.testing.assert_array_equal(zeros.back(zeros.forward(image), outside=0.0), image)


def test_a_card_may_keep_the_slices_and_no_spacing_is_below_zero() -> None:
    from published_cards import published_card

    card = published_card("lesion-net")

    def with_spacing(spacing: list[float]) -> dict[str, Any]:
        preparation = {**card["preparation"], "spacing_mm": spacing}
        return {**card, "preparation": preparation, "runtime": "openvino", "files": []}

    assert parse_card(with_spacing([1.75, 1.75, 0])).preparation.spacing_mm == (1.75, 1.75, 0.0)
    for wrong in ([1.75, 1.75, -1.0], [1.75, 1.75, 0.1]):
        with pytest.raises(ModelError, match="0 for the scan's own spacing along an axis"):
            parse_card(with_spacing(wrong))
