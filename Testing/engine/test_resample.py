"""Resampling by world coordinates: known values at known places, there and back."""

from itertools import permutations, product

import numpy as np
import pytest

from strokeseg.volume import Grid, resample, resample_mask

OBLIQUE = np.array(
    [
        [-1.9966, -0.1161, 0.0031, 118.7],
        [-0.1142, 1.9527, -0.4171, -79.1],
        [-0.0212, 0.4166, 1.956, -57.7],
        [0, 0, 0, 1],
    ]
)


def scaled(spacing, origin=(0.0, 0.0, 0.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def linear_image(grid):
    """An image whose value is a linear function of the world position: linear interpolation must reproduce it."""
    index = np.stack(np.meshgrid(*(np.arange(s) for s in grid.shape), indexing="ij"), axis=-1)
    return grid.to_world(index) @ np.array([0.5, -0.25, 1.0])


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_a_linear_function_of_position_is_reproduced_on_an_oblique_grid(interpolation):
    source = Grid((40, 40, 40), scaled((2.0, 2.0, 2.5), (-40, -40, -50)))
    turned = OBLIQUE.copy()
    turned[:3, :3] *= 1.05
    turned[:3, 3] = -turned[:3, :3] @ np.array([8.0, 8.0, 8.0])
    target = Grid((16, 16, 16), turned)
    result = resample(linear_image(source), source, target, interpolation)
    np.testing.assert_allclose(result, linear_image(target), atol=0.05)


def test_voxels_that_coincide_are_copied_bit_for_bit_in_all_48_orientations():
    rng = np.random.default_rng(0)
    source = Grid((5, 6, 7), OBLIQUE)
    image = rng.normal(size=source.shape).astype(np.float32)
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            moved = image.transpose(order)[tuple(slice(None, None, s) for s in signs)]
            affine = np.eye(4)
            affine[:3, :3] = source.affine[:3, order] * signs
            start = np.zeros(3)
            for new, old in enumerate(order):
                start[old] = 0 if signs[new] > 0 else source.shape[old] - 1
            affine[:3, 3] = source.to_world(start)
            there = resample(image, source, Grid(moved.shape, affine))
            np.testing.assert_array_equal(there, moved)
            np.testing.assert_array_equal(resample(there, Grid(moved.shape, affine), source), image)


def test_beyond_half_a_voxel_outside_the_source_the_outside_value_stands():
    source = Grid((4, 4, 4), np.eye(4))
    target = Grid((9, 1, 1), scaled((0.5, 1, 1), (-1.0, 1, 1)))
    result = resample(np.full((4, 4, 4), 7.0), source, target, outside=-1.0)
    # x = -1, -0.5, 0, ... 3 mm; the block of voxels begins at -0.5 mm
    np.testing.assert_array_equal(result[:, 0, 0], [-1, 7, 7, 7, 7, 7, 7, 7, 7])


def test_a_single_slice_is_resampled_within_its_own_thickness():
    source = Grid((4, 4, 1), scaled((1, 1, 5)))
    target = Grid((4, 4, 9), scaled((1, 1, 1), (0, 0, -4)))
    result = resample(np.ones((4, 4, 1)), source, target)
    np.testing.assert_array_equal(result[0, 0], [0, 0, 1, 1, 1, 1, 1, 0, 0])


def test_shrinking_fourfold_averages_instead_of_picking_voxels():
    source = Grid((32, 8, 8), np.eye(4))
    stripes = np.zeros(source.shape)
    stripes[::2] = 1.0
    target = Grid((8, 2, 2), scaled((4, 4, 4), (1.5, 1.5, 1.5)))
    assert np.abs(resample(stripes, source, target)[1:-1] - 0.5).max() < 0.1
    assert set(np.unique(resample(stripes, source, target, "nearest"))) <= {0.0, 1.0}


def test_a_mask_of_two_by_two_by_two_voxels_survives_on_a_finer_shifted_grid():
    source = Grid((10, 10, 10), scaled((2, 2, 2)))
    mask = np.zeros(source.shape, np.uint8)
    mask[4:6, 4:6, 4:6] = 1
    target = Grid((20, 20, 20), scaled((1, 1, 1), (0.3, -0.2, 0.1)))
    found = resample_mask(mask, source, target)
    assert found.sum() * target.voxel_ml == pytest.approx(0.064, rel=0.35)
    centroid = target.to_world(np.argwhere(found).mean(axis=0))
    np.testing.assert_allclose(centroid, [9, 9, 9], atol=0.3)


def test_labels_that_touch_do_not_mix_into_a_third():
    source = Grid((6, 4, 4), scaled((2, 2, 2)))
    mask = np.zeros(source.shape, np.uint8)
    mask[:3], mask[3:] = 1, 3
    found = resample_mask(mask, source, Grid((12, 8, 8), scaled((1, 1, 1))))
    assert set(np.unique(found)) == {1, 3}
