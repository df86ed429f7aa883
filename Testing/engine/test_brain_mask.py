"""The brain mask on simulated brains and heads with a known answer, and on real scans where a folder is named."""

from __future__ import annotations

import os
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import whole_head as phantom
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.prepare._brain_grid import CanonicalAxes
from strokeseg.prepare.brain import BrainMask, check_brain, find_brain, given_brain

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
SAMPLE = Path(__file__).parents[2] / "Resources" / "Samples" / "synthetic-patient"


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def _brain(role: str, spacing: Spacing = (3.0, 3.0, 3.0), block_mm: Spacing = (222, 234, 180)) -> Any:
    shape = tuple(round(b / s) for b, s in zip(block_mm, spacing, strict=True))
    return phantom.brain_phantom(shape, phantom.ras_affine(shape, spacing), role)


def _head(role: str, spacing: Spacing = (3.0, 3.0, 3.0), **options: Any) -> Any:
    return phantom.grow_head(_brain(role, spacing, (240, 276, 252)), role, **options)


def _ball(radius_mm: float, shape: Shape = (60, 60, 60), spacing: Spacing = (3, 3, 3)) -> tuple[Any, Any]:
    affine = phantom.ras_affine(shape, spacing)
    return np.linalg.norm(phantom.world(shape, affine), axis=0) < radius_mm, affine


# --- skull-stripped input


@pytest.mark.parametrize("role", ["dwi", "t1"])
def test_support_of_a_skull_stripped_brain_is_the_mask_exactly(role: str) -> None:
    head = _brain(role, (2, 2, 3))
    found = find_brain(head.image, head.affine, role=role)
    assert found.method == "skull-stripped"
    assert found.findings == ()
    assert np.array_equal(found.mask, head.brain)
    assert found.volume_ml == pytest.approx(head.brain.sum() * 0.012)


def test_ventricles_that_are_zero_on_a_stripped_image_belong_to_the_brain() -> None:
    head = _brain("dwi")
    inside = phantom.ventricles(head.brain.shape, head.affine)
    image = head.image.copy()
    image[inside] = 0.0
    image[37, 39:, 36] = 0.0  # a cleft that opens them to the front
    assert inside.sum() > 500
    assert np.array_equal(find_brain(image, head.affine, role="dwi").mask, head.brain)


def test_background_need_not_be_zero_and_islands_fall_away() -> None:
    head = _brain("dwi")
    image = head.image - 5.0
    image[2:4, 2:4, 2:4] = 1.0
    assert np.array_equal(find_brain(image, head.affine, role="dwi").mask, head.brain)


def test_ringing_around_a_resampled_brain_is_background() -> None:
    head = _brain("dwi")
    image = ndimage.shift(head.image, (0.3, 0.4, 0.2), order=3)
    assert (image < 0).mean() > 0.02
    found = find_brain(image, head.affine, role="dwi")
    assert found.method == "skull-stripped"
    truth = ndimage.shift(head.brain.astype(float), (0.3, 0.4, 0.2), order=1) > 0.5
    around = ndimage.binary_dilation(truth, np.ones((3, 3, 3)))  # partial volume makes voxels of the edge part of both
    assert found.mask[truth].mean() > 0.97
    assert not found.mask[~around].any()


def test_values_that_are_no_numbers_are_background() -> None:
    head = _brain("dwi")
    image = np.where(head.brain, head.image, np.nan)
    assert np.array_equal(find_brain(image, head.affine, role="dwi").mask, head.brain)


# --- simulated whole heads


@pytest.mark.parametrize(
    ("role", "spacing", "options", "least"),
    [
        ("dwi", (2.0, 2.0, 2.0), {}, 0.93),
        ("dwi", (2.0, 2.0, 5.0), {"scalp": 0.4, "seed": 1}, 0.93),
        ("dwi", (1.8, 1.8, 6.5), {"scalp": 0.1, "noise": 0.05, "seed": 2}, 0.93),
        ("b0", (2.5, 2.5, 4.0), {}, 0.93),
        ("t1", (2.0, 2.0, 2.0), {}, 0.95),
        ("t1", (2.0, 2.0, 3.0), {"scalp": 0.9, "skull_mm": 5.0, "seed": 3}, 0.95),
        ("t1", (2.5, 1.5, 2.5), {"scalp": 1.5, "skull_mm": 8.0, "bias": 0.25, "seed": 4}, 0.95),
    ],
)
def test_brain_of_a_simulated_whole_head_is_found(role: str, spacing: Spacing, options: Any, least: float) -> None:
    head = _head(role, spacing, **options)
    found = find_brain(head.image, head.affine, role=role)
    print(f"simulated {role} {spacing} {options}: Dice {_dice(found.mask, head.brain):.3f}")
    assert found.method == "whole-head"
    assert found.findings == ()
    assert _dice(found.mask, head.brain) >= least
    inside = phantom.ventricles(head.brain.shape, head.affine)
    assert found.mask[inside].mean() > 0.99


@pytest.mark.parametrize("part", [slice(None), slice(45, 72)])
def test_simulated_head_with_zeroed_air_is_not_taken_for_a_stripped_brain(part: slice) -> None:
    head = _head("dwi", (2.5, 2.5, 2.5), noise=0.005, scalp_mm=4.0, skull_mm=4.0)
    image = np.where(ndimage.gaussian_filter(head.image, 1) < 0.05, 0, head.image)[:, :, part]
    assert (image == 0).mean() > 0.4
    found = find_brain(image, head.affine, role="dwi", b0=image)
    assert found.method == "whole-head"
    assert _dice(found.mask, head.brain[:, :, part]) >= 0.93


def test_slab_of_a_simulated_head_keeps_its_cut_faces_and_raises_no_doubt() -> None:
    head = _head("dwi", (2.0, 2.0, 2.0))
    lower, upper = 56, 88  # 64 mm without vertex and skull base
    found = find_brain(head.image[:, :, lower:upper], head.affine, role="dwi")
    truth = head.brain[:, :, lower:upper]
    assert found.findings == ()
    assert _dice(found.mask, truth) >= 0.95
    for face in (0, -1):
        assert _dice(found.mask[:, :, face], truth[:, :, face]) >= 0.95


def test_single_slice_is_judged_by_its_area() -> None:
    head = _head("dwi", (2.0, 2.0, 5.0))
    found = find_brain(head.image[:, :, 30:31], head.affine, role="dwi")
    assert found.findings == ()
    assert _dice(found.mask, head.brain[:, :, 30:31]) >= 0.93


def test_adc_that_is_stripped_gives_the_mask_of_a_simulated_whole_head() -> None:
    head = _head("dwi", (3.0, 3.0, 3.0))
    adc = np.where(head.brain, 0.8, 0.0).astype(np.float32)
    found = find_brain(head.image, head.affine, role="dwi", adc=adc)
    assert found.method == "skull-stripped"
    assert np.array_equal(found.mask, head.brain)


def _reordered(
    array: NDArray[Any], affine: NDArray[np.float64], order: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The same volume stored with permuted and flipped axes."""
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, old in enumerate(order):
        step[old, new] = -1 if flips[new] else 1
        step[old, 3] += array.shape[old] - 1 if flips[new] else 0
    return np.flip(array.transpose(order), tuple(a for a in range(3) if flips[a])), affine @ step


def _oblique(shape: Shape, spacing: Spacing) -> NDArray[np.float64]:
    c, s = np.cos(0.2), np.sin(0.2)
    tilt = np.eye(4)
    tilt[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return np.asarray(tilt @ phantom.ras_affine(shape, spacing))


ALL_48 = list(product(permutations(range(3)), product((False, True), repeat=3)))


def test_all_48_orders_of_the_axes_become_the_same_array_and_go_back() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    affine = _oblique((2, 3, 4), (3.5, 4.5, 5.5))
    assert len(ALL_48) == 48
    for order, flips in ALL_48:
        stored, stored_affine = _reordered(array, affine, order, flips)
        axes = CanonicalAxes(stored_affine)
        assert np.array_equal(axes.there(stored), array), (order, flips)
        assert np.array_equal(axes.back(axes.there(stored)), stored), (order, flips)
        assert axes.spacing_mm == pytest.approx((3.5, 4.5, 5.5))


@pytest.mark.parametrize("stripped", [True, False])
def test_mask_of_an_oblique_brain_does_not_depend_on_the_order_of_the_axes(stripped: bool) -> None:
    shape = (66, 57, 44)
    affine = _oblique(shape, (3.5, 4.5, 5.5))
    head = phantom.brain_phantom(shape, affine, "dwi")
    if not stripped:
        head = phantom.grow_head(head, "dwi")
    expected = find_brain(head.image, affine, role="dwi")
    assert _dice(expected.mask, head.brain) > 0.93
    for order, flips in ALL_48[3::9]:  # five of them, other permutations and flips
        image, image_affine = _reordered(head.image, affine, order, flips)
        found = find_brain(image, image_affine, role="dwi")
        assert np.array_equal(found.mask, _reordered(expected.mask, affine, order, flips)[0]), (order, flips)
        assert found.method == expected.method


# --- failures are noticed


def test_image_of_one_value_has_no_brain() -> None:
    found = find_brain(np.full((20, 20, 20), 7.0), np.eye(4), role="dwi")
    assert not found.mask.any()
    assert found.volume_ml == 0
    assert found.findings == ("No brain was found: the brain mask is empty.",)


@pytest.mark.parametrize("seed", range(3))
def test_noise_without_a_head_raises_doubts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.hypot(*rng.standard_normal((2, 75, 75, 50)))
    assert find_brain(image, np.diag([3, 3, 3, 1]), role="dwi").findings


def test_tennis_ball_of_20_ml_raises_doubts() -> None:
    ball, affine = _ball(16.84)
    found = find_brain(np.where(ball, 100.0, 0.0), affine, role="dwi")
    assert _dice(found.mask, ball) > 0.95
    assert any("An adult brain has 700 to 2200 ml" in finding for finding in found.findings)
    noisy = np.where(ball, 100.0, 0.0) + np.abs(np.random.default_rng(0).standard_normal(ball.shape))
    assert find_brain(noisy, affine, role="dwi").findings


def test_half_empty_volume_raises_doubts() -> None:
    head = _brain("dwi")
    image = head.image.copy()
    image[:, :, 28:] = 0
    found = find_brain(image, head.affine, role="dwi")
    assert not found.mask[:, :, 29:].any()
    assert any("parts of the brain are probably missing" in finding for finding in found.findings)


def test_volume_bounds_are_those_of_adults() -> None:
    for radius, doubted in ((54, True), (56, False), (79, False), (82, True)):  # 660, 736, 2065, 2309 ml
        mask, affine = _ball(radius)
        assert bool(check_brain(mask, affine)) is doubted, radius


def test_shell_is_noticed() -> None:
    outer, affine = _ball(78)
    inner, _ = _ball(66)
    findings = check_brain(outer & ~inner, affine)
    assert any("thin" in finding for finding in findings)
    assert any("centre" in finding for finding in findings)


def test_pieces_are_noticed() -> None:
    mask = np.zeros((60, 60, 60), dtype=bool)
    mask[5:55, 5:55, 5:15] = True  # 25000 voxels of 27 mm³: 675 ml
    mask[5:55, 5:55, 40:50] = True
    findings = check_brain(mask, phantom.ras_affine(mask.shape, (3, 3, 3)))
    assert "The brain mask falls into 2 pieces; the largest holds 50 %." in findings


def test_mask_that_fills_the_slices_is_noticed() -> None:
    findings = check_brain(np.ones((40, 40, 20), dtype=bool), phantom.ras_affine((40, 40, 20), (3, 3, 3)))
    assert "The brain mask fills 100 % of a slice: brain and surroundings were not told apart." in findings


def test_slab_with_too_small_sections_is_noticed() -> None:
    ball, affine = _ball(30)  # largest section 28 cm²
    findings = check_brain(ball[:, :, 25:35], affine)
    assert len(findings) == 1
    assert "whose largest section has 28 cm²" in findings[0]


# --- the user's own mask


def test_mask_of_the_user_is_taken_as_it_is() -> None:
    ball, affine = _ball(66)
    given = given_brain(ball.astype(np.uint16), affine)
    assert isinstance(given, BrainMask)
    assert given.method == "given"
    assert np.array_equal(given.mask, ball)
    assert given.volume_ml == pytest.approx(ball.sum() * 0.027)
    assert given.findings == ()


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (np.zeros((4, 4, 4)), "empty"),
        (np.full((4, 4, 4), 0.5), "broken numbers"),
        (np.full((4, 4, 4), -1), "negative"),
        (np.full((4, 4, 4), np.nan), "not numbers"),
        (np.ones((4, 4)), "2 axes"),
    ],
)
def test_unusable_mask_of_the_user_is_refused_with_the_reason(values: NDArray[Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        given_brain(values, np.eye(4))


def test_images_on_different_grids_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="one shape"):
        find_brain(np.ones((4, 4, 4)), np.eye(4), role="dwi", adc=np.ones((4, 4, 5)))


# --- the synthetic patient


@pytest.mark.parametrize("role", ["dwi", "t1"])
def test_brain_of_the_synthetic_patient_is_its_support_and_is_found_in_a_simulated_head(role: str) -> None:
    image: Any = nib.load(SAMPLE / f"{role}.nii.gz")
    step = 2 if role == "t1" else 1
    array = np.asarray(image.dataobj, dtype=np.float32)[::step, ::step, ::step]
    affine = np.asarray(image.affine) @ np.diag([step, step, step, 1.0])
    support = ndimage.binary_fill_holes(array != 0)
    stripped = find_brain(array, affine, role=role)
    assert stripped.method == "skull-stripped"
    assert stripped.findings == ()
    assert _dice(stripped.mask, support) > 0.995
    head = phantom.grow_head(phantom.pad(phantom.Head(array, support, affine), 24, 40), role)
    found = find_brain(head.image, head.affine, role=role)
    print(f"head simulated around the synthetic patient, {role}: Dice {_dice(found.mask, head.brain):.3f}")
    assert found.method == "whole-head"
    assert found.findings == ()
    assert _dice(found.mask, head.brain) >= 0.95


# --- real scans


def _case(name: str, file: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    folder = os.environ.get("STROKESEG_CASES")
    if not folder:
        pytest.skip("STROKESEG_CASES names no folder of real scans")
    image: Any = nib.load(Path(folder) / name / f"{file}.nii.gz")
    return np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine)


@pytest.mark.parametrize(("name", "file"), [("isles22_0001", "dwi"), ("isles22_0009", "dwi"), ("control_t1", "t1")])
def test_real_stripped_scan_keeps_its_support(name: str, file: str) -> None:
    image, affine = _case(name, file)
    found = find_brain(image, affine, role=file)
    assert found.method == "skull-stripped"
    assert found.findings == ()
    assert found.mask[image != 0].all()
    assert _dice(found.mask, image != 0) > 0.99


@pytest.mark.parametrize(
    ("name", "file", "least"),
    [("isles22_0001", "dwi", 0.93), ("isles22_0009", "dwi", 0.93), ("control_t1", "t1", 0.95)],
)
def test_brain_is_found_in_a_head_simulated_around_a_real_brain(name: str, file: str, least: float) -> None:
    image, affine = _case(name, file)
    if file == "t1":
        image, affine = np.ascontiguousarray(image[::2, ::2, ::2]), affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    stripped = phantom.Head(image, ndimage.binary_fill_holes(image != 0), affine)
    stripped = phantom.pad(stripped, 24, 40) if file == "t1" else phantom.pad(stripped, 0, 14)
    head = phantom.grow_head(stripped, file)
    found = find_brain(head.image, head.affine, role=file)
    print(f"head simulated around {name}: Dice {_dice(found.mask, head.brain):.3f}")
    assert found.method == "whole-head"
    assert found.findings == ()
    assert _dice(found.mask, head.brain) >= least


def test_real_unstripped_slab_loses_scalp_and_keeps_brain() -> None:
    image, affine = _case("control_dwi", "dwi")
    adc, _ = _case("control_dwi", "adc")
    b0, _ = _case("control_dwi", "b0")
    found = find_brain(image, affine, role="dwi", adc=adc, b0=b0)
    assert found.method == "whole-head"
    assert found.findings == ()
    # Scalp and bone are the dim rest: hardly anything as bright as brain stays outside, little that is dark gets in.
    level = float(np.median(image[found.mask]))
    assert (image[~found.mask] > 0.5 * level).sum() < 0.02 * found.mask.sum()
    assert (image[found.mask] < 0.2 * level).mean() < 0.05
