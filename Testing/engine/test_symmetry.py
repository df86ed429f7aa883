"""The mid-sagittal plane of phantoms whose plane is known, and images mirrored about it."""

import os
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from strokeseg.errors import InputError
from strokeseg.symmetry import Midplane, estimate_midplane, mirror

ORIENTATIONS = [(p, f) for p in permutations(range(3)) for f in product([False, True], repeat=3)]


class Head:
    """Two overlapping half-brains with a flat base, turned and shifted: 1.4 litres, on 4 mm voxels to be quick."""

    def __init__(self, yaw=0.0, roll=0.0, shift_mm=0.0, spacing_mm=(4.0, 4.0, 4.0)):
        yaw, roll = np.deg2rad([yaw, roll])
        self.normal = np.array([np.cos(yaw) * np.cos(roll), np.sin(yaw) * np.cos(roll), np.sin(roll)])
        front = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
        up = np.cross(self.normal, front)
        self.shift_mm = shift_mm
        shape = tuple(int(2 * 100 / s) for s in spacing_mm)
        self.affine = np.diag([-spacing_mm[0], spacing_mm[1], spacing_mm[2], 1.0])
        self.affine[:3, 3] = [100, -100, -100]
        world = np.moveaxis(np.indices(shape), 0, -1) @ self.affine[:3, :3].T + self.affine[:3, 3]
        self.right, self.front, self.up = world @ self.normal - shift_mm, world @ front, world @ up
        half = ((np.abs(self.right) - 33) / 34) ** 2 + (self.front / 82) ** 2 + (self.up / 62) ** 2 < 1
        middle = (np.abs(self.right) < 40) & ((self.front / 60) ** 2 + (self.up / 45) ** 2 < 1)
        self.brain = (half | middle) & (self.up > -45 - 0.15 * self.front)
        pattern = 1 + np.cos(self.front / 9) * np.cos(np.abs(self.right) / 7)
        self.image = np.where(self.brain, pattern, 0.0)

    def ball(self, right_mm, radius_mm):
        return (self.right - right_mm) ** 2 + self.front**2 + self.up**2 < radius_mm**2

    def error(self, plane):
        """Degrees and mm between the plane found and the true one; mm at the brain's middle."""
        cosine = np.clip(np.dot(plane.normal_ras, self.normal), -1, 1)
        middle = self.normal * self.shift_mm
        return np.degrees(np.arccos(cosine)), abs(np.dot(plane.normal_ras, middle) - plane.offset_mm)


POSES = [(0, 0, 0), (5, -3, 4.3), (-12, 7, -6.1), (13, -13, 3)]


@pytest.mark.parametrize(("yaw", "roll", "shift_mm"), POSES)
def test_the_plane_of_a_symmetric_brain_is_found(yaw, roll, shift_mm):
    head = Head(yaw, roll, shift_mm)
    plane = estimate_midplane(head.brain, head.affine)
    degrees, mm = head.error(plane)
    assert degrees < 0.3
    assert mm < 0.3
    assert plane.quality > 0.95
    assert np.linalg.norm(plane.normal_ras) == pytest.approx(1.0)
    assert plane.plane == (plane.normal_ras, plane.offset_mm)


@pytest.mark.parametrize(("yaw", "roll", "shift_mm"), POSES)
def test_thick_slices_are_no_obstacle(yaw, roll, shift_mm):
    head = Head(yaw, roll, shift_mm, spacing_mm=(2.5, 2.5, 6.0))
    degrees, mm = head.error(estimate_midplane(head.brain, head.affine, head.image))
    assert degrees < 0.3
    assert mm < 0.3


def test_a_bright_lesion_on_one_side_does_not_move_the_plane():
    head = Head(5, -3, 4.3)
    lesion = head.ball(40, 25) & head.brain  # 65 ml
    assert lesion.sum() * 0.064 > 60
    image = np.where(lesion, 5 * head.image + 5, head.image)
    degrees, mm = head.error(estimate_midplane(head.brain, head.affine, image))
    assert mm < 1.0
    assert degrees < 1.0


@pytest.mark.parametrize("with_image", [False, True])
def test_brain_lost_on_one_side_does_not_move_the_plane(with_image):
    head = Head(5, -3, 4.3)
    lost = head.ball(65, 35)
    torn = head.brain & ~lost
    assert (head.brain.sum() - torn.sum()) * 0.064 > 60
    plane = estimate_midplane(torn, head.affine, head.image if with_image else None)
    degrees, mm = head.error(plane)
    assert mm < 1.0
    assert degrees < 1.0
    assert plane.quality < estimate_midplane(head.brain, head.affine).quality - 0.03


def test_an_image_tells_the_turn_that_a_round_mask_cannot():
    head = Head(6, -3, 4.3)
    ball = head.ball(0, 85)
    assert head.error(estimate_midplane(ball, head.affine))[0] > 5.0
    degrees, mm = head.error(estimate_midplane(ball, head.affine, np.where(ball, head.image, 0)))
    assert degrees < 0.5
    assert mm < 0.5


def test_all_48_orientations_give_the_same_plane():
    head = Head(5, -3, 4.3, spacing_mm=(4.0, 4.5, 6.0))
    by_shape, by_image = (estimate_midplane(head.brain, head.affine, image) for image in (None, head.image))
    for number, (axes, flips) in enumerate(ORIENTATIONS):
        brain, image, affine = head.brain.transpose(axes), head.image.transpose(axes), head.affine[:, [*axes, 3]].copy()
        for axis, flip in enumerate(flips):
            if flip:
                affine[:3, 3] += affine[:3, axis] * (brain.shape[axis] - 1)
                affine[:3, axis] *= -1
                brain, image = np.flip(brain, axis), np.flip(image, axis)
        # The image costs as much time again: it joins in every fifth orientation, which still covers all permutations.
        expected, image = (by_image, image) if number % 5 == 0 else (by_shape, None)
        plane = estimate_midplane(brain, affine, image)
        assert np.degrees(np.arccos(min(1.0, np.dot(plane.normal_ras, expected.normal_ras)))) < 0.1
        assert plane.offset_mm == pytest.approx(expected.offset_mm, abs=0.1)


def test_the_same_input_gives_the_same_plane():
    head = Head(5, -3, 4.3)
    assert estimate_midplane(head.brain, head.affine, head.image) == estimate_midplane(
        head.brain, head.affine, head.image
    )


def test_few_scattered_voxels_give_a_plane_and_no_flood_of_memory():
    brain = np.zeros((60, 60, 60), bool)
    brain[0, 0, 0] = brain[59, 59, 59] = True
    plane = estimate_midplane(brain, np.diag([4.0, 4.0, 4.0, 1.0]))
    assert 0.0 <= plane.quality <= 1.0


def test_a_constant_image_changes_nothing():
    head = Head(5, -3, 4.3)
    with_image = estimate_midplane(head.brain, head.affine, np.ones(head.brain.shape))
    shape_only = estimate_midplane(head.brain, head.affine)
    assert (with_image.normal_ras, with_image.offset_mm) == (shape_only.normal_ras, shape_only.offset_mm)


def test_mirroring_across_the_grids_middle_is_a_flip():
    array = np.random.default_rng(0).normal(size=(7, 5, 4)).astype(np.float32)
    affine = np.diag([-2.0, 3.0, 5.0, 1.0])
    affine[:3, 3] = [11.3, -4, 2]
    plane = Midplane((1.0, 0.0, 0.0), 11.3 - 2 * 3, 1.0, "known")
    mirrored = mirror(array, affine, plane)
    assert mirrored.dtype == np.float32
    np.testing.assert_allclose(mirrored, array[::-1], atol=1e-5)


def test_values_mirrored_from_outside_the_grid_are_0():
    plane = Midplane((1.0, 0.0, 0.0), 1.0, 1.0, "known")
    values = np.array([1.0, 2, 3, 4]).reshape(-1, 1, 1)
    assert mirror(values, np.eye(4), plane).ravel() == pytest.approx([3, 2, 1, 0])


def test_labels_are_mirrored_with_their_type():
    plane = Midplane((0.0, 0.0, 1.0), 1.0, 1.0, "known")
    labels = np.array([[[5, 0, 7]]], np.uint8)
    mirrored = mirror(labels, np.eye(4), plane, order=0)
    assert mirrored.dtype == np.uint8
    assert mirrored.ravel().tolist() == [7, 0, 5]
    assert mirror(labels > 0, np.eye(4), plane, order=0).dtype == bool
    assert mirror(labels, np.eye(4), plane).dtype == np.float32


def test_a_symmetric_image_is_its_own_mirror_image_about_a_tilted_plane():
    head = Head(5, -3, 4.3)
    smooth = np.exp(-(head.right**2 + (head.front - 10) ** 2 + head.up**2) / 2 / 20**2)
    plane = Midplane(tuple(head.normal), head.shift_mm, 1.0, "known")
    assert np.abs(mirror(smooth, head.affine, plane) - smooth).max() < 0.02


def test_unusable_inputs_are_refused_in_words():
    brain = np.ones((4, 4, 4), bool)
    with pytest.raises(InputError, match="0 voxels"):
        estimate_midplane(~brain, np.eye(4))
    with pytest.raises(InputError, match=r"\(4, 4\)"):
        estimate_midplane(brain[0], np.eye(4))
    with pytest.raises(InputError, match="image"):
        estimate_midplane(brain, np.eye(4), np.ones((4, 4, 3)))
    with pytest.raises(InputError, match="affine"):
        estimate_midplane(brain, np.zeros((4, 4)))
    with pytest.raises(InputError, match="three-dimensional"):
        mirror(brain[0], np.eye(4), Midplane((1.0, 0.0, 0.0), 0.0, 1.0, "known"))


@pytest.mark.parametrize("name", ["isles22_0001", "isles22_0009"])
def test_real_brains_have_a_plane_on_which_mask_and_images_agree(name):
    folder = os.environ.get("STROKESEG_CASES")
    if not folder:
        pytest.skip("The folder of real scans is not named by STROKESEG_CASES.")
    import nibabel

    adc = nibabel.load(Path(folder) / name / "adc.nii.gz")
    values = adc.get_fdata(dtype=np.float32)
    brain = values != 0
    by_shape, by_image = (estimate_midplane(brain, adc.affine, image) for image in (None, values))
    assert by_image.quality > 0.9
    assert np.degrees(np.arccos(np.dot(by_shape.normal_ras, by_image.normal_ras))) < 1.0
    assert by_image.offset_mm == pytest.approx(by_shape.offset_mm, abs=1.0)
