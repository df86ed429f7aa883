"""The model grid and the way back: volumes keep their size, places stay where they are."""

from itertools import permutations, product

import numpy as np
import pytest

from strokeseg.prepare.grid import ModelGrid
from strokeseg.volume import Grid


def rotation(degrees, axis):
    a = np.deg2rad(degrees)
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(a)
    matrix[i, j], matrix[j, i] = -np.sin(a), np.sin(a)
    return matrix


def oblique_grid(shape, spacing, angles=(7.0, -5.0, 11.0)):
    directions = rotation(angles[0], 0) @ rotation(angles[1], 1) @ rotation(angles[2], 2)
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2) + [3.0, -7.0, 5.0]
    return Grid(shape, affine)


def distance_to_ellipsoid(grid, centre, radii):
    index = np.stack(np.meshgrid(*(np.arange(s) for s in grid.shape), indexing="ij"), axis=-1)
    return np.sqrt((((grid.to_world(index) - centre) / radii) ** 2).sum(axis=-1))


def smooth_ellipsoid(grid, centre, radii):
    """1 inside, 0 outside, 1/2 on the surface, with the soft edge of 0.7 mm that any scanner gives."""
    signed_mm = (distance_to_ellipsoid(grid, np.asarray(centre), np.asarray(radii)) - 1) * min(radii)
    return 1 / (1 + np.exp(np.clip(signed_mm / 0.7, -50, 50)))


def ellipsoid(grid, centre, radii):
    return distance_to_ellipsoid(grid, np.asarray(centre), np.asarray(radii)) <= 1


def reoriented(array, grid, order, signs):
    moved = array.transpose(order)[tuple(slice(None, None, s) for s in signs)]
    affine = np.eye(4)
    affine[:3, :3] = grid.affine[:3, order] * signs
    start = np.zeros(3)
    for new, old in enumerate(order):
        start[old] = 0 if signs[new] > 0 else grid.shape[old] - 1
    affine[:3, 3] = grid.to_world(start)
    return np.ascontiguousarray(moved), Grid(moved.shape, affine)


@pytest.mark.parametrize(
    "spacing", [(2.0, 2.0, 2.0), (0.9, 0.9, 2.0), (1.2, 1.4, 1.1), (2.0, 1.0, 1.7), (0.5, 0.5, 2.0)]
)
@pytest.mark.parametrize("radii", [(6.3, 6.3, 6.3), (9.0, 7.0, 5.0), (14.0, 12.0, 11.0)])
def test_smooth_ellipsoids_of_one_ml_and_more_keep_their_volume_within_two_percent(spacing, radii):
    native = oblique_grid(tuple(int(np.ceil(64 / s)) for s in spacing), spacing)
    brain = ellipsoid(native, (3, -7, 5), (25, 25, 25))
    lesion = smooth_ellipsoid(native, (4.3, -5.1, 6.2), radii)
    model = ModelGrid.around(brain, native, spacing_mm=(2.0, 2.0, 2.0), multiple=16)
    before, after = lesion >= 0.5, model.back(model.forward(lesion), outside=0.0) >= 0.5
    assert before.sum() * native.voxel_ml >= 1.0
    assert after.sum() / before.sum() == pytest.approx(1.0, abs=0.02)
    shift = native.to_world(np.argwhere(after).mean(axis=0)) - native.to_world(np.argwhere(before).mean(axis=0))
    assert np.abs(shift).max() < 0.1


def test_a_lesion_seen_on_an_adc_of_another_grid_keeps_volume_and_place_on_the_dwi():
    dwi = oblique_grid((75, 80, 70), (2.0, 1.9, 2.0))
    adc = oblique_grid((128, 128, 62), (1.2, 1.2, 2.0), angles=(-3.0, 2.0, 4.0))
    lesion_on_adc = smooth_ellipsoid(adc, (20.0, -12.0, 9.0), (9.0, 8.0, 7.0))
    model = ModelGrid.around(ellipsoid(dwi, (3, -7, 5), (60, 65, 55)), dwi, spacing_mm=(2.0, 2.0, 2.0))
    back = model.back(model.forward(lesion_on_adc, adc), outside=0.0) >= 0.5
    true_ml = 4 / 3 * np.pi * 9 * 8 * 7 / 1000
    assert back.sum() * dwi.voxel_ml == pytest.approx(true_ml, rel=0.02)
    np.testing.assert_allclose(dwi.to_world(np.argwhere(back).mean(axis=0)), [20.0, -12.0, 9.0], atol=0.15)


def test_the_scans_own_spacing_is_copied_without_interpolation():
    rng = np.random.default_rng(1)
    native = oblique_grid((30, 28, 20), (2.0, 2.0, 5.0))
    brain = ellipsoid(native, (3, -7, 5), (20, 20, 40))
    image = rng.normal(size=native.shape).astype(np.float32)
    model = ModelGrid.around(brain, native, spacing_mm=None, multiple=8)
    assert all(s % 8 == 0 for s in model.grid.shape)
    back = model.back(model.forward(image), outside=np.nan)
    kept = ~np.isnan(back)
    assert kept[brain].all()
    np.testing.assert_array_equal(back[kept], image[kept])


@pytest.mark.parametrize("spacing_mm", [None, (2.0, 2.0, 2.0)])
def test_all_48_orientations_give_the_same_model_input(spacing_mm):
    rng = np.random.default_rng(2)
    native = oblique_grid((24, 22, 9), (2.2, 2.6, 6.0))
    brain = ellipsoid(native, (3, -7, 5), (20, 24, 22))
    image = rng.normal(size=native.shape).astype(np.float32)
    expected = ModelGrid.around(brain, native, spacing_mm=spacing_mm, multiple=4)
    wanted = expected.forward(image)
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            moved, grid = reoriented(image, native, order, signs)
            moved_brain, _ = reoriented(brain, native, order, signs)
            model = ModelGrid.around(moved_brain, grid, spacing_mm=spacing_mm, multiple=4)
            assert model.grid.matches(expected.grid, 1e-6)
            np.testing.assert_allclose(model.forward(moved), wanted, atol=1e-3)


def test_the_axes_of_the_model_grid_run_to_right_front_and_top():
    native = oblique_grid((24, 22, 9), (2.2, 2.6, 6.0))
    flipped, grid = reoriented(np.ones(native.shape, bool), native, (2, 0, 1), (-1, 1, -1))
    assert ModelGrid.around(flipped, grid, spacing_mm=None).grid.orientation == "RAS"


def test_a_sheared_scan_comes_back_with_the_same_volume():
    shear = np.eye(4)
    shear[:3, :3] = np.array([[1.5, 0.3, 0.0], [0.0, 1.5, 0.2], [0.0, 0.0, 1.8]])
    shear[:3, 3] = -shear[:3, :3] @ [40, 40, 35]
    native = Grid((80, 80, 70), shear)
    lesion = smooth_ellipsoid(native, (5, 5, 5), (12, 10, 9))
    model = ModelGrid.around(ellipsoid(native, (0, 0, 0), (40, 40, 40)), native, spacing_mm=(2.0, 2.0, 2.0))
    assert model.grid.shear < 1e-9
    back = model.back(model.forward(lesion), outside=0.0) >= 0.5
    assert back.sum() / (lesion >= 0.5).sum() == pytest.approx(1.0, abs=0.02)


def test_a_constant_stays_constant_within_one_percent_up_to_the_edge_of_the_field_of_view():
    native = oblique_grid((40, 42, 12), (1.7, 1.7, 5.5))
    brain = ellipsoid(native, (3, -7, 5), (28, 30, 28))
    model = ModelGrid.around(brain, native, spacing_mm=(2.0, 2.0, 2.0), multiple=16)
    np.testing.assert_allclose(
        model.back(model.forward(np.full(native.shape, 3.0)), outside=0.0)[brain], 3.0, atol=0.03
    )
    assert model.forward(np.full(native.shape, 3.0)).max() == pytest.approx(3.0)
