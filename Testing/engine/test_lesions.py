"""Lesion tables on phantoms with known volumes, places and sides."""

import os
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.lesions import find_lesions, lesions_csv, total_volume_ml

RIGHT = ((1.0, 0.0, 0.0), 0.0)


def grid(*spacing_mm, origin=(0.0, 0.0, 0.0)):
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = origin
    return affine


def empty(*shape):
    return np.zeros(shape, bool)


def oriented(arrays, affine, axes, flips):
    """The same voxels in the same places, stored along other axes."""
    affine = affine[:, [*axes, 3]].copy()
    arrays = [a.transpose(axes) for a in arrays]
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (arrays[0].shape[axis] - 1)
            affine[:3, axis] *= -1
            arrays = [np.flip(a, axis) for a in arrays]
    return arrays, affine


ORIENTATIONS = [(p, f) for p in permutations(range(3)) for f in product([False, True], repeat=3)]


def scattered():
    """Five lesions on an oblique, sheared, anisotropic grid, two of them of equal volume."""
    mask = empty(24, 22, 12)
    mask[2:6, 2:6, 2:4] = True
    mask[15:18, 3:5, 2] = True
    mask[15:18, 15:17, 8] = True
    mask[8:10, 18:21, 6:9] = True
    mask[20, 20, 10] = True
    affine = np.array([[-1.9, 0.3, 0.5, 22.0], [0.3, 1.8, -0.4, -20.0], [0.1, 0.5, 4.8, -25.0], [0, 0, 0, 1.0]])
    return mask, affine


def test_volume_place_and_extent_of_one_block():
    mask = empty(10, 10, 10)
    mask[2:4, 5:8, 1:2] = True
    labels, (lesion,) = find_lesions(mask, grid(-2, 3, 5, origin=(10, -20, 30)))
    assert labels.dtype == np.int32
    assert np.array_equal(labels > 0, mask)
    assert (lesion.label, lesion.voxels) == (1, 6)
    assert lesion.volume_ml == pytest.approx(6 * 30 / 1000)
    assert lesion.centroid_ras_mm == pytest.approx((10 - 2 * 2.5, -20 + 3 * 6, 30 + 5))
    assert lesion.extent_mm == pytest.approx((4, 9, 5))
    assert (lesion.side, lesion.adc_mean, lesion.dwi_mean, lesion.probability_mean) == (None, None, None, None)


def test_voxels_of_sheared_grids_have_the_volume_of_the_determinant():
    mask = empty(4, 4, 4)
    mask[1, 1, 1] = True
    sheared = np.array([[2, 0, 1, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
    _, (lesion,) = find_lesions(mask, sheared)
    assert lesion.volume_ml == pytest.approx(0.012)
    assert lesion.extent_mm == pytest.approx((3, 2, 3))


def test_largest_first_and_equal_volumes_from_left_to_right():
    mask = empty(12, 4, 4)
    mask[0, 0, 0] = mask[11, 3, 3] = True
    mask[4:7, 0, 0] = True
    _, lesions = find_lesions(mask, grid(-1, 1, 1))
    assert [x.voxels for x in lesions] == [3, 1, 1]
    assert [x.centroid_ras_mm[0] for x in lesions] == [-5, -11, 0]


def test_all_48_orientations_give_the_same_lesions():
    mask, affine = scattered()
    random = np.random.default_rng(1)
    adc, brain = random.uniform(0.3, 1.2, mask.shape), np.ones(mask.shape, bool)
    plane = ((1.0, 0.0, 0.0), 2.0)
    labels, expected = find_lesions(mask, affine, adc=adc, dwi=adc, probability=adc, brain=brain, midplane=plane)
    assert [x.voxels for x in expected] == [32, 18, 6, 6, 1]
    assert {x.side for x in expected} == {"left", "midline", "right"}
    for axes, flips in ORIENTATIONS:
        (m, a, b), turned = oriented([mask, adc, brain], affine, axes, flips)
        found_labels, found = find_lesions(m, turned, adc=a, dwi=a, probability=a, brain=b, midplane=plane)
        assert np.array_equal(found_labels, oriented([labels], affine, axes, flips)[0][0])
        for one, other in zip(found, expected, strict=True):
            assert (one.voxels, one.side, one.hint) == (other.voxels, other.side, other.hint)
            assert one.centroid_ras_mm == pytest.approx(other.centroid_ras_mm, abs=1e-9)
            assert one.extent_mm == pytest.approx(other.extent_mm, abs=1e-9)
            assert (one.adc_mean, one.adc_min) == pytest.approx((other.adc_mean, other.adc_min))


@pytest.mark.parametrize(("connectivity", "corner", "edge"), [(6, 2, 2), (18, 2, 1), (26, 1, 1)])
def test_connectivity_joins_faces_edges_or_corners(connectivity, corner, edge):
    mask = empty(4, 4, 4)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert len(find_lesions(mask, grid(1, 1, 1), connectivity=connectivity)[1]) == corner
    mask[1, 1, 1], mask[1, 1, 0] = False, True
    assert len(find_lesions(mask, grid(1, 1, 1), connectivity=connectivity)[1]) == edge


def test_touching_classes_of_a_label_map_are_one_lesion():
    labels = np.zeros((6, 1, 1), np.uint8)
    labels[1:5, 0, 0] = [1, 1, 2, 2]
    assert [x.voxels for x in find_lesions(labels, grid(1, 1, 1))[1]] == [4]


def side_of(first, last):
    """Side of a row of voxels with centres at whole millimetres from `first` to `last`."""
    mask = empty(101, 1, 1)
    mask[first + 50 : last + 51] = True
    return find_lesions(mask, grid(1, 1, 1, origin=(-50, 0, 0)), midplane=RIGHT)[1][0].side


def test_side_is_the_patients():
    assert side_of(-9, -2) == "left"
    assert side_of(2, 9) == "right"


def test_midline_needs_a_fifth_on_each_side_and_a_centroid_near_the_plane():
    assert side_of(-4, 4) == "midline"
    assert side_of(-1, 3) == "midline"  # 1.5 of 5 voxels on the left: the one on the plane counts half
    assert side_of(-1, 8) == "right"  # 1.5 of 10 voxels
    assert side_of(-19, 7) == "left"  # 7.5 of 27 voxels on the right, but the centroid is 6 mm off
    assert side_of(0, 0) == "midline"


def test_side_follows_a_tilted_plane():
    mask = empty(40, 40, 3)
    mask[20:22, 34:36, 1] = True
    affine = grid(1, 1, 1, origin=(-20, -20, 0))  # the lesion is at x = 0.5, y = 14.5
    assert find_lesions(mask, affine, midplane=RIGHT)[1][0].side == "midline"
    turn = np.deg2rad(20)
    assert find_lesions(mask, affine, midplane=((np.cos(turn), np.sin(turn), 0.0), 0.0))[1][0].side == "right"
    assert find_lesions(mask, affine, midplane=((np.cos(turn), -np.sin(turn), 0.0), 0.0))[1][0].side == "left"


def test_image_figures_of_a_lesion():
    mask = empty(6, 1, 1)
    mask[:5] = True
    adc = np.array([0.5, 0.62, 0.9, 0.0, -0.2, 0.1]).reshape(-1, 1, 1)
    dwi = np.array([1, 2, 3, 4, 10, 99.0]).reshape(-1, 1, 1)
    probability = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0]).reshape(-1, 1, 1)
    _, (lesion,) = find_lesions(mask, grid(10, 10, 10), adc=adc, dwi=dwi, probability=probability)
    assert lesion.adc_mean == pytest.approx((0.5 + 0.62 + 0.9) / 3)
    assert lesion.adc_min == pytest.approx(0.5)
    assert lesion.adc_below_062_ml == pytest.approx(1.0)
    assert lesion.dwi_mean == pytest.approx(4.0)
    assert lesion.probability_mean == pytest.approx(0.7)


def test_a_lesion_without_measured_adc_has_none():
    _, (lesion,) = find_lesions(np.ones((1, 1, 1), bool), grid(1, 1, 1), adc=np.zeros((1, 1, 1)))
    assert (lesion.adc_mean, lesion.adc_min, lesion.adc_below_062_ml) == (None, None, None)


def test_low_and_near_the_edge_earns_a_hint():
    brain = np.zeros((40, 40, 50), bool)
    brain[2:38, 2:38, 2:48] = True
    mask = empty(40, 40, 50)
    places = {"low edge": (4, 20, 10), "low inside": (20, 20, 15), "high edge": (4, 20, 40), "outside": (0, 20, 10)}
    for x, y, z in places.values():
        mask[x, y, z] = True
    _, lesions = find_lesions(mask, grid(1, 1, 1), brain=brain)
    hints = {tuple(round(v) for v in x.centroid_ras_mm): x.hint for x in lesions}
    # Two voxels from the brain's outermost layer; 8 of 45 mm above its bottom.
    assert "18%" in hints[places["low edge"]]
    assert "2.0 mm" in hints[places["low edge"]]
    assert "0.0 mm" in hints[places["outside"]]
    assert hints[places["low inside"]] == hints[places["high edge"]] == ""


def test_the_csv_is_plain_and_stable():
    mask = empty(3, 1, 1)
    mask[1] = True
    adc = np.full((3, 1, 1), 0.5)
    _, lesions = find_lesions(mask, grid(2, 2, 2, origin=(-2.00001, 0, 0)), adc=adc, midplane=RIGHT)
    header, row, end = lesions_csv(lesions).split("\n")
    assert header.startswith("label,volume_ml,voxels,centroid_r_mm,centroid_a_mm,centroid_s_mm,side,extent_r_mm")
    assert row == "1,0.0080,1,0.0,0.0,0.0,left,2.0,2.0,2.0,0.500,0.500,0.008,,,"
    assert end == ""
    assert len(header.split(",")) == len(row.split(","))


def test_no_lesion_is_an_empty_table():
    labels, lesions = find_lesions(empty(3, 3, 3), grid(1, 1, 1), brain=np.ones((3, 3, 3)), midplane=RIGHT)
    assert lesions == []
    assert not labels.any()
    assert total_volume_ml(lesions) == 0.0
    assert lesions_csv(lesions).count("\n") == 1


def test_unusable_inputs_are_refused_in_words():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(InputError, match="ADC does not lie"):
        find_lesions(mask, grid(1, 1, 1), adc=np.ones((3, 3, 2)))
    with pytest.raises(InputError, match="midplane"):
        find_lesions(mask, grid(1, 1, 1), midplane=((2.0, 0.0, 0.0), 0.0))
    with pytest.raises(InputError, match="affine"):
        find_lesions(mask, grid(1, 1, 0))
    with pytest.raises(InputError, match="12 neighbours"):
        find_lesions(mask, grid(1, 1, 1), connectivity=12)
    with pytest.raises(InputError, match=r"\(3, 3\)"):
        find_lesions(mask[0], grid(1, 1, 1))


def test_total_volume_and_labels_agree_with_a_recount():
    random = np.random.default_rng(5)
    mask = ndimage.gaussian_filter(random.normal(size=(40, 40, 20)), 1.5) > 0.15
    labels, lesions = find_lesions(mask, grid(1, 1, 2), connectivity=6)
    assert total_volume_ml(lesions) == pytest.approx(mask.sum() * 0.002)
    assert len(lesions) == ndimage.label(mask)[1]
    for lesion in lesions:
        where = np.argwhere(labels == lesion.label)
        assert lesion.voxels == len(where)
        assert lesion.centroid_ras_mm == pytest.approx(tuple(where.mean(axis=0) * [1, 1, 2]))


@pytest.mark.parametrize(("name", "volume_ml", "components"), [("isles22_0001", 6.68, 31), ("isles22_0009", 4.18, 18)])
def test_real_expert_masks_have_their_published_figures(name, volume_ml, components):
    folder = os.environ.get("STROKESEG_CASES")
    if not folder:
        pytest.skip("The folder of real scans is not named by STROKESEG_CASES.")
    import nibabel

    image = nibabel.load(Path(folder) / name / "mask.nii.gz")
    _, lesions = find_lesions(np.asarray(image.dataobj), image.affine)
    assert len(lesions) == components
    assert total_volume_ml(lesions) == pytest.approx(volume_ml, abs=0.005)
