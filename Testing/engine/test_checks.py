"""Checks see what is wrong with an input, and stay silent when nothing is."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from strokeseg.checks import (
    adc_unit,
    check_b_value,
    check_geometry,
    check_inputs,
    check_mask,
    check_overlap,
    check_plausible,
    check_reference_mask,
    check_swapped,
    overlap_fraction,
)

SHAPE = (48, 56, 40)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
UNITS = {"1e-3 mm²/s": 1.0, "1e-6 mm²/s": 1e-3, "mm²/s": 1e3}


def codes(findings):
    return [f.code for f in findings]


def patient(*, seed=0, b=1.0, snr=20.0, head=False, infarct=False, fluid=0.25):
    """Dict of dwi, b0 (scanner units), adc (1e-3 mm²/s), brain: spin-echo diffusion with Rician noise.

    White, grey, fluid: D 0.70, 0.89, 3.0; T2 70, 95, 1500 ms; proton density 0.7, 0.82, 1; TE 80 ms. The infarct, an
    eighth of the brain, has half the D and 1.2 times the T2.
    """
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    radius = np.sqrt((place**2).sum(axis=0))
    brain = radius < 0.8
    smooth = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2)
    order = np.argsort(np.argsort(smooth[brain])) / brain.sum()
    weights = np.zeros((3, *SHAPE))
    weights[0][brain] = order < 0.5
    weights[1][brain] = (order >= 0.5) & (order < 1 - fluid)
    weights[2][brain] = order >= 1 - fluid
    diffusion = np.array([0.70, 0.89, 3.0])[:, None, None, None] * np.ones(SHAPE)
    t2 = np.array([70.0, 95.0, 1500.0])[:, None, None, None] * np.ones(SHAPE)
    if infarct:
        there = (place > 0).all(axis=0) & brain
        diffusion[:2, there] *= 0.5
        t2[:2, there] *= 1.2
    s0 = 4000 * weights * np.array([0.7, 0.82, 1.0])[:, None, None, None] * np.exp(-80 / t2)
    low, high = s0.sum(axis=0), (s0 * np.exp(-b * diffusion)).sum(axis=0)
    if head:  # scalp: bright fat outside of a dark skull, in air
        scalp = (radius > 0.88) & (radius < 0.97)
        low[scalp], high[scalp] = 1200.0, 900.0
    sigma = np.median(high[brain]) / snr if snr else 0.0
    low, high = (
        np.abs(v + sigma * (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE))) for v in (low, high)
    )
    if not head:
        low, high = low * brain, high * brain
    with np.errstate(divide="ignore", invalid="ignore"):
        adc = np.nan_to_num(np.log(low / high) / b, nan=0.0, posinf=0.0, neginf=0.0)
    return {"dwi": high, "b0": low, "adc": adc, "brain": brain}


# --- unit of the ADC


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", [{}, {"head": True, "snr": 8}, {"fluid": 0.45}, {"infarct": True}])
def test_each_unit_of_the_adc_is_recognised(unit, kind):
    adc = patient(**kind)["adc"] / UNITS[unit]
    seen = adc_unit(adc)
    assert (seen.name, seen.factor) == (unit, UNITS[unit])
    assert seen.finding.severity == "info"
    assert unit in seen.finding.message
    assert 0.4 < seen.median_seen * seen.factor < 2.0


def test_the_unit_survives_clipping_negatives_nan_and_a_ringing_background():
    adc = np.full(SHAPE, 1e-7)
    adc[10:30, 10:30, 10:30] = 0.8
    adc[12:16, 10:30, 10:30] = 3.0
    adc[0] = -5.0
    adc[1] = np.nan
    adc[2, 0, :5] = 1e9
    seen = adc_unit(adc)
    assert seen.median_seen == 0.8
    assert seen.factor == 1.0


def test_with_a_brain_only_the_brain_counts():
    adc = np.full(SHAPE, 700.0)
    brain = np.zeros(SHAPE)
    brain[20:30, 20:30, 20:30] = 1
    adc[brain > 0] = 0.0007
    assert adc_unit(adc, brain).name == "mm²/s"
    assert adc_unit(adc).name == "1e-6 mm²/s"


@pytest.mark.parametrize(
    ("median", "said"),
    [
        (0.0000512, "0.0000512"), (0.02, "0.02"), (0.2, "0.2"), (3.0, "3"), (20.0, "20"), (80.0, "80"),
        (200.0, "200"), (5000.0, "5000"), (1234567.0, "1234567"),
    ],
)  # fmt: skip
def test_an_adc_between_the_units_is_refused_with_its_median_as_people_write_it(median, said):
    seen = adc_unit(np.full((10, 10, 10), median))
    assert (seen.factor, seen.name, seen.finding.severity) == (None, "unknown", "error")
    assert f"its median is {said}. " in seen.finding.message
    assert seen.finding.numbers == {"median": pytest.approx(median)}


def test_the_median_of_a_unit_that_is_told_has_no_exponent():
    seen = adc_unit(np.full((10, 10, 10), 1020.0))
    assert "its median is 1020, that of a brain lies between 400 and 2000 in this unit" in seen.finding.message


def test_an_adc_without_positive_values_is_refused():
    assert adc_unit(np.zeros((5, 5, 5))).finding.severity == "error"


def test_flips_change_neither_unit_nor_median():
    adc = np.random.default_rng(1).gamma(4.0, 0.25, (101, 96, 50))
    expected = adc_unit(adc)
    for flips in product((1, -1), repeat=3):
        assert adc_unit(adc[:: flips[0], :: flips[1], :: flips[2]]) == expected


# --- DWI and ADC in each other's place


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"snr": 8},
        {"head": True},
        {"head": True, "snr": 8},
        {"infarct": True},
        {"infarct": True, "head": True, "snr": 8},
        {"b": 0.8, "fluid": 0.12},
    ],
)
def test_swapped_images_are_found_and_right_ones_are_not(kind, unit):
    case = patient(**kind)
    adc = case["adc"] / UNITS[unit]
    assert check_swapped(case["dwi"], adc) is None
    finding = check_swapped(adc, case["dwi"])
    assert (finding.code, finding.severity) == ("dwi_adc_swapped", "error")
    assert finding.numbers["contrast_as_swapped"] > 1.5 * finding.numbers["contrast_as_given"]
    assert unit in finding.message


@pytest.mark.parametrize("fluid", [0.4, 0.5, 0.6])
def test_huge_ventricles_are_no_swap(fluid):
    case = patient(fluid=fluid)
    for median in (1.0, 300.0, 900.0):
        dwi = case["dwi"] * median / np.median(case["dwi"][case["brain"]])
        assert check_swapped(dwi, case["adc"]) is None


def test_the_same_image_twice_is_found():
    case = patient()
    assert check_swapped(case["dwi"], case["dwi"]).code == "dwi_equals_adc"
    assert check_swapped(case["adc"] * 1000, case["adc"]).code == "dwi_equals_adc"


@pytest.mark.parametrize("wrong", ["dwi inverted", "b = 0 as dwi", "t1 as adc"])
def test_an_image_in_which_fluid_is_the_wrong_way_round_is_refused(wrong):
    case = patient()
    dwi, adc, brain = case["dwi"], case["adc"], case["brain"]
    if wrong == "dwi inverted":
        dwi = np.where(brain, dwi[brain].max() * 1.05 - dwi, 0.0)
    elif wrong == "b = 0 as dwi":
        dwi = np.where(brain, dwi * np.exp(adc), 0.0)
    else:
        adc = np.where(brain, 900.0 / (0.5 + adc), 0.0)
    finding = check_swapped(dwi, adc)
    assert (finding.code, finding.severity) in {("not_dwi_and_adc", "error"), ("dwi_adc_swapped", "error")}


def test_nothing_is_claimed_without_evidence():
    rng = np.random.default_rng(2)
    noise = rng.uniform(500, 900, (2, 30, 30, 30))
    finding = check_swapped(noise[0], noise[1])
    assert (finding.code, finding.severity) == ("not_dwi_and_adc", "warning")
    assert check_swapped(np.zeros((30, 30, 30)), noise[0]) is None
    with pytest.raises(ValueError, match="one grid"):
        check_swapped(noise[0], noise[1, :20])


# --- b-value


@pytest.mark.parametrize("b", [0.8, 1.0, 1.5])
def test_the_b_value_is_recomputed_exactly_without_noise(b):
    rng = np.random.default_rng(3)
    b0, adc = rng.uniform(500, 1500, (20, 20, 20)), rng.uniform(0.5, 3.0, (20, 20, 20))
    finding = check_b_value(b0 * np.exp(-b * adc), adc, b0, stated_b=1000 * b)
    assert (finding.code, finding.severity) == ("b_value", "info")
    assert finding.numbers["b_estimated"] == pytest.approx(1000 * b, rel=1e-12)


def test_a_wrong_or_absurd_b_value_is_a_warning():
    case = patient(snr=0)
    dwi, adc, b0 = case["dwi"], case["adc"], case["b0"]
    differs = check_b_value(dwi, adc, b0, stated_b=2000)
    assert (differs.code, differs.severity) == ("b_value_differs", "warning")
    assert "2000 s/mm², but" in differs.message
    assert differs.numbers["b_estimated"] == pytest.approx(1000)
    assert check_b_value(dwi, adc, stated_b=50).code == "b_value_implausible"
    assert check_b_value(dwi, adc * 5, b0) is None  # no voxel has the ADC of tissue
    assert check_b_value(b0 * 0.99, np.where(adc > 0, 0.8, 0), b0).code == "b_value_implausible"
    assert check_b_value(dwi, adc) is None
    assert check_b_value(dwi, adc, stated_b=1000) is None


# --- geometry


def test_a_brain_scan_has_no_finding():
    assert check_geometry((112, 112, 73), np.diag([-2.0, 2.0, 2.0, 1.0]), "dwi") == []
    assert check_geometry((230, 230, 24), np.diag([1.0, 1.0, 6.5, 1.0]), "dwi") == []


@pytest.mark.parametrize(
    ("shape", "spacing", "code", "severity"),
    [
        ((100, 100, 30), (2, 2, 0.0), "spacing_absurd", "error"),
        ((100, 100, 30), (0.01, 2, 2), "spacing_absurd", "error"),
        ((100, 100, 30), (2, 2, np.nan), "spacing_absurd", "error"),
        ((100, 100, 30), (2, 2, 50), "spacing_absurd", "error"),
        ((100, 100, 12), (2, 2, 10), "slices_thick", "warning"),
        ((230, 230, 3), (1, 1, 30), "spacing_absurd", "error"),
        ((20, 100, 100), (2, 2, 2), "field_of_view", "warning"),
        ((300, 300, 30), (2, 2, 5), "field_of_view", "warning"),
    ],
)
def test_geometry_that_cannot_be_is_named(shape, spacing, code, severity):
    (finding,) = check_geometry(shape, np.diag([*spacing, 1.0]), "dwi")
    assert (finding.code, finding.severity, finding.role) == (code, severity, "dwi")


def test_few_slices_are_counted_along_the_slice_axis():
    findings = check_geometry((4, 230, 230), np.diag([6.0, 1.0, 1.0, 1.0]), "dwi")
    assert codes(findings) == ["slices_few", "field_of_view"]
    assert findings[0].numbers == {"slices": 4.0}
    assert findings[1].numbers["smallest_mm"] == 24.0


def test_shear_is_told_in_degrees():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 2] = 2 * np.tan(np.radians(10))
    (finding,) = check_geometry((100, 100, 73), affine, "t1")
    assert finding.code == "axes_sheared"
    assert "10 degrees" in finding.message


# --- overlap


def moved(x=0.0, y=0.0, z=0.0, scale=1.0):
    affine = np.diag([scale, scale, scale, 1.0])
    affine[:3, 3] = x, y, z
    return affine


@pytest.mark.parametrize(
    ("affine_b", "fraction"),
    [
        (moved(), 1.0),
        (moved(x=25), 0.75),
        (moved(x=-50, y=20), 0.5 * 0.8),
        (moved(10, 20, 30), 0.9 * 0.8 * 0.7),
        (moved(x=100), 0.0),
        (moved(x=101), 0.0),
        (moved(-0.25, -0.25, -0.25, 0.5), 0.125),  # half as large, from the same corner
        (moved(-0.5 + 0.5 * 3 - 100, -99, -99, 3.0), 1.0),  # three times as large, around it
    ],
)
def test_overlap_is_the_fraction_of_the_reference_block(affine_b, fraction):
    assert overlap_fraction((100, 100, 100), np.eye(4), (100, 100, 100), affine_b) == pytest.approx(fraction, abs=1e-9)


def test_overlap_of_a_square_turned_by_45_degrees():
    turn = np.eye(4)
    c = np.sqrt(0.5)
    turn[:2, :2] = [[c, -c], [c, c]]
    centre, back = np.eye(4), np.eye(4)
    centre[:3, 3], back[:3, 3] = 49.5, -49.5
    # A unit square and its copy turned by 45 degrees share a regular octagon of width 1: area 2 (sqrt(2) - 1).
    fraction = overlap_fraction((100,) * 3, np.eye(4), (100,) * 3, centre @ turn @ back)
    assert fraction == pytest.approx(2 * (np.sqrt(2) - 1), abs=1e-9)


def test_flips_and_permuted_axes_do_not_change_the_overlap():
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = 99 + 25
    permuted = moved(x=25)[:, [2, 0, 1, 3]]
    assert overlap_fraction((100,) * 3, np.eye(4), (100,) * 3, flipped) == pytest.approx(0.75)
    assert overlap_fraction((100,) * 3, np.eye(4), (100,) * 3, permuted) == pytest.approx(0.75)


def test_too_little_overlap_is_said_with_the_percentage():
    shape = (100, 100, 100)
    assert check_overlap(shape, np.eye(4), shape, moved(x=20), "adc") is None
    partial = check_overlap(shape, np.eye(4), shape, moved(x=25), "adc")
    assert (partial.severity, partial.role) == ("warning", "adc")
    assert "covers 75% of" in partial.message
    assert check_overlap(shape, np.eye(4), shape, moved(x=500), "adc").severity == "error"


# --- values


def test_damaged_images_are_named():
    image = np.random.default_rng(4).gamma(2, 100, (20, 20, 20))
    assert check_plausible(image, "dwi") == []
    assert codes(check_plausible(np.full((5, 5, 5), np.nan), "dwi")) == ["not_finite"]
    assert codes(check_plausible(np.full((5, 5, 5), 7.0), "dwi")) == ["constant"]
    assert codes(check_plausible((image > 200).astype(np.uint8), "t1")) == ["few_values"]
    (negative,) = check_plausible(image - np.median(image), "t1")
    assert negative.numbers["fraction"] == pytest.approx(0.5, abs=0.001)
    holes = image.copy()
    holes[0, :, :4] = np.inf
    (finding,) = check_plausible(holes, "dwi")
    assert (finding.severity, finding.numbers) == ("warning", {"fraction": pytest.approx(0.01)})


def test_saturation_is_a_warning_for_images_and_normal_for_the_adc():
    image = np.minimum(np.random.default_rng(5).gamma(2, 1, (20, 20, 20)), 3.0)
    share = (image == 3.0).mean()
    (dwi,), (adc,) = check_plausible(image, "dwi"), check_plausible(image, "adc")
    assert (dwi.severity, adc.severity) == ("warning", "info")
    assert dwi.numbers == {"fraction": pytest.approx(share), "value": 3.0}


def test_few_foreground_voxels_are_not_taken_for_a_mask():
    image = np.zeros((120, 120, 80))
    image[60:62, 60:62, 20:60] = np.arange(1, 161).reshape(2, 2, 40)
    assert check_plausible(image, "flair") == []


def test_reference_masks():
    mask = np.zeros((10, 10, 10))
    assert [(f.code, f.severity) for f in check_reference_mask(mask)] == [("mask_empty", "info")]
    assert [f.severity for f in check_mask(mask, "brain_mask")] == ["error"]
    mask[2:4] = 1
    assert check_reference_mask(mask) == []
    assert check_reference_mask((mask * 255).astype(np.uint8)) == []
    assert check_reference_mask(mask * 254.9999999406282) == []  # as ATLAS R1 has it
    mask[5, 5, 5] = 2
    (labels,) = check_reference_mask(mask)
    assert (labels.severity, labels.numbers) == ("warning", {"labels": 2.0})
    mask[6, 0, :3] = 0.4
    (fractions,) = check_reference_mask(mask)
    assert (fractions.code, fractions.severity, fractions.numbers["fractions"]) == ("mask_not_binary", "error", 3.0)
    mask[6, 0, 0] = np.nan
    assert check_reference_mask(mask)[0].severity == "error"
    assert codes(check_reference_mask(np.ones((3, 3, 3)))) == ["mask_full"]


# --- all of them


def placed(**arrays):
    return {role: (array, AFFINE) for role, array in arrays.items()}


def test_a_sound_case_gives_unit_and_b_value_only():
    case = patient()
    findings = check_inputs(placed(dwi=case["dwi"], adc=case["adc"] * 1000, b0=case["b0"]), stated_b=1000)
    assert codes(findings) == ["adc_unit", "b_value"]
    assert findings[1].numbers["b_estimated"] == pytest.approx(1000, rel=0.05)


def test_the_stated_b_value_is_looked_at_without_an_adc():
    assert codes(check_inputs(placed(dwi=patient()["dwi"]), stated_b=0)) == ["b_value_implausible"]


def test_a_swapped_case_says_so_and_nothing_else():
    case = patient()
    assert codes(check_inputs(placed(dwi=case["adc"], adc=case["dwi"]))) == ["dwi_adc_swapped"]


def test_images_on_different_grids_are_compared_at_the_same_places():
    case = patient()
    coarse = ndimage.zoom(case["adc"], 0.5, order=1, grid_mode=True, mode="nearest")
    affine = AFFINE @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = AFFINE[:3, :3] @ [0.5, 0.5, 0.5]
    dwi = (case["dwi"], AFFINE)
    assert codes(check_inputs({"dwi": dwi, "adc": (coarse[::-1], affine @ flip_x(24))})) == ["adc_unit"]
    assert codes(check_inputs({"dwi": (coarse, affine), "adc": dwi})) == ["dwi_adc_swapped"]


def flip_x(n):
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = n - 1
    return flip


def test_an_image_elsewhere_is_not_compared():
    case = patient()
    away = AFFINE.copy()
    away[0, 3] = 1000.0
    findings = check_inputs({"dwi": (case["dwi"], AFFINE), "adc": (case["dwi"], away)})
    assert codes(findings)[0] == "overlap_none"
    assert "dwi_equals_adc" not in codes(findings)


def test_one_image_in_two_roles_is_found():
    case = patient()
    findings = check_inputs(placed(dwi=case["dwi"], b0=case["dwi"], adc=case["adc"]))
    assert ("same_image", "error", "b0") in [(f.code, f.severity, f.role) for f in findings]


# --- real scans


def real(name, role):
    folder = os.environ.get("STROKESEG_CASES")
    if not folder:
        pytest.skip("STROKESEG_CASES names no folder with real scans.")
    image = nib.load(Path(folder) / name / f"{role}.nii.gz")
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("name", ["isles22_0001", "isles22_0009", "control_dwi"])
def test_real_cases_are_read_right_in_every_unit_and_order(name):
    dwi, adc = real(name, "dwi"), real(name, "adc")
    for unit, factor in UNITS.items():
        other = (adc[0] / factor, adc[1])
        findings = check_inputs({"dwi": dwi, "adc": other})
        assert [f for f in findings if f.severity == "error"] == []
        assert next(f for f in findings if f.code == "adc_unit").numbers["factor"] == factor, unit
        assert "dwi_adc_swapped" in codes(check_inputs({"dwi": other, "adc": dwi}))
    assert "dwi_equals_adc" in codes(check_inputs({"dwi": dwi, "adc": dwi}))


def test_the_b_value_of_the_real_control_is_found():
    findings = check_inputs({role: real("control_dwi", role) for role in ("dwi", "adc", "b0")}, stated_b=1000)
    assert next(f for f in findings if f.code == "b_value").numbers["b_estimated"] == pytest.approx(1000, abs=20)


def test_a_real_t1_has_no_finding():
    assert check_inputs({"t1": real("control_t1", "t1")}) == []
