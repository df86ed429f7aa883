"""Masks on other grids and slices of prepared volumes: geometry whose answer is known beforehand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("torch", reason="prepared data sets need torch, which is not installed")

from strokeseg.volume import Grid
from strokeseg_training.prepare.batches import _around_middle, _resized
from strokeseg_training.prepare.labels import move_labels
from strokeseg_training.prepare.prepared_set import PreparedVolume


def grid(shape, spacing, shift=(0.0, 0.0, 0.0)):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = shift
    return Grid(shape, affine)


SOURCE = grid((16, 16, 16), 1.0)


def cube(size, first=6, value=1):
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[(slice(first, first + size),) * 3] = value
    return labels


@pytest.mark.parametrize("spacing", [1.0, 1.75, 3.0, 5.0])
def test_a_lesion_of_2x2x2_voxels_survives_wherever_the_new_voxels_lie(spacing):
    labels, lost_by_share = cube(2), 0
    for step in itertools.product((0.0, 0.25, 0.5, 0.75), repeat=3):
        target = grid((int(16 / spacing) + 1,) * 3, spacing, np.array(step) * spacing - 0.5)
        moved = move_labels(labels, SOURCE, target)
        assert moved.labels.any()
        assert moved.lost == 0
        lost_by_share += moved.rescued
        # It is where it was: 6.5 mm along each axis, to half a voxel.
        middle = target.to_world(np.argwhere(moved.labels).mean(axis=0))
        assert np.abs(middle - 6.5).max() <= spacing / 2 + 0.5
    # By the share of the voxel alone it would not have survived.
    assert (lost_by_share > 0) == (spacing > 1.5)


def test_the_same_grid_changes_nothing():
    labels = cube(3) + cube(1, first=1, value=2)
    moved = move_labels(labels, SOURCE, SOURCE)
    np.testing.assert_array_equal(moved.labels, labels)
    assert (moved.rescued, moved.lost) == (0, 0)


def test_every_small_lesion_is_kept_and_those_outside_are_counted():
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[1, 1, 1] = labels[1, 1, 14] = labels[14, 14, 1] = 1
    labels[8, 8, 8] = 2
    half = grid((3, 3, 6), 3.0, (0.7, 0.7, 0.4))  # reaches to 6.7 + 1.5 mm along x and y
    moved = move_labels(labels, SOURCE, half)
    assert (moved.labels == 1).sum() == 2
    assert (moved.labels == 2).sum() == 1
    assert (moved.rescued, moved.lost) == (3, 1)


def test_a_rescued_lesion_takes_no_voxel_from_a_class_that_overrides_it():
    labels = cube(4, first=4, value=2)
    labels[3, 3, 3] = 1
    moved = move_labels(labels, SOURCE, grid((4, 4, 4), 4.0, (5.0, 5.0, 5.0)))
    assert moved.labels[0, 0, 0] == 2


def test_cropping_keeps_the_middle_as_the_engines_window_does():
    array = np.arange(24).reshape(1, 4, 6)
    np.testing.assert_array_equal(_around_middle(array, (2, 3)), array[:, 1:3, 1:4])
    padded = _around_middle(array, (7, 6))
    np.testing.assert_array_equal(padded[:, 1:5], array)
    assert padded.sum() == array.sum()


def test_resizing_covers_the_same_rectangle_and_keeps_a_lesion_of_one_pixel():
    ramp = np.broadcast_to(np.arange(12.0)[:, None], (12, 8)).astype(np.float32)
    labels, brain = np.zeros((12, 8), np.uint8), np.ones((12, 8), np.uint8)
    labels[4, 5] = 1
    small = _resized(PreparedVolume(ramp[None], labels, brain), (6, 8), (2.0, 3.0))
    # Pixels twice as long: their middles lie at 0.5, 2.5, ... of the old ones.
    np.testing.assert_allclose(small.channels[0, :, 0], [0.5, 2.5, 4.5, 6.5, 8.5, 10.5], atol=1e-5)
    assert np.argwhere(small.labels).tolist() == [[2, 5]]
    assert small.brain.all()
