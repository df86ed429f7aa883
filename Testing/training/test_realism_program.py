"""The numbers of looks: what is planted in a simulated brain is measured, and a range covers what lies in it."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

HERE = Path(__file__).parent
# The programs are no package: their parts lie beside them.
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]

import ellipsoid_brain  # noqa: E402
import realism  # noqa: E402
from _looks import measure  # noqa: E402
from _scans import scans_of  # noqa: E402


def changed(scan, **images):
    """The patient with other images: a function of the image for each role."""
    new = {role: image.copy() for role, image in scan.images.items()}
    for role, change in images.items():
        new[role] = np.where(scan.brain, change(new[role]), 0).astype(np.float32)
    return replace(scan, images=new)


@pytest.fixture(scope="module")
def brain():
    return ellipsoid_brain.patient()


@pytest.fixture(scope="module")
def even(brain):
    """The numbers of a brain without anything in it."""
    return measure(brain)


def test_an_even_brain_has_the_numbers_of_an_even_brain(even, brain):
    assert even["brain: volume ml"] == pytest.approx(brain.brain.sum() * 0.064)
    assert even["brain: fluid % (ADC > 1.6)"] == 0.0
    assert even["tissue: DWI p5"] == even["tissue: DWI p99"] == pytest.approx(1.0)
    assert even["tissue: ADC p50"] == pytest.approx(ellipsoid_brain.ADC)
    assert even["regions: brain stem/cerebrum ADC"] == pytest.approx(1.0)
    assert even["noise: DWI in the slice"] == 0.0
    assert even["asymmetry: DWI |log ratio| p99"] == pytest.approx(0.0, abs=1e-5)
    assert even["bright voxels: % of the brain (> 1.5)"] == 0.0
    assert np.isnan(even["lesion: DWI p50"])


def test_a_bright_hind_brain_is_measured_by_its_factor(brain):
    _, y, z = ellipsoid_brain.places_mm(brain.grid)
    hind = (y < -5) & (z < -15)
    noise = np.random.default_rng(3).normal(1.0, 0.03, hind.shape)
    scan = changed(
        brain, dwi=lambda i: i * np.where(hind, 1.4, 1.0) * noise, adc=lambda i: i * np.where(hind, 0.9, 1.0)
    )
    numbers = measure(scan)
    assert numbers["regions: cerebellum/cerebrum DWI"] == pytest.approx(1.4, rel=0.02)
    assert numbers["regions: cerebellum/cerebrum ADC"] == pytest.approx(0.9, rel=0.02)


def test_a_bright_stem_is_not_taken_for_the_cerebellum(brain):
    x, y, z = ellipsoid_brain.places_mm(brain.grid)
    stem = (np.abs(x) < 12) & (y > -22) & (y < 12) & (z < -10)
    numbers = measure(changed(brain, dwi=lambda i: i * np.where(stem, 1.3, 1.0)))
    assert numbers["regions: brain stem/cerebrum DWI"] == pytest.approx(1.3, rel=0.02)
    assert numbers["regions: cerebellum/cerebrum DWI"] == pytest.approx(1.0, rel=0.02)


def test_regions_follow_the_midplane_and_not_the_middle_of_the_world():
    scan = ellipsoid_brain.patient(shift_mm=12.0)
    x, _, _ = ellipsoid_brain.places_mm(scan.grid)
    # Only the left hemisphere is bright; a plane at the world's origin would call a part of it right.
    numbers = measure(changed(scan, dwi=lambda i: i * np.where(x < 12.0, 1.2, 1.0)))
    assert numbers["shading: DWI right/left"] == pytest.approx(1 / 1.2, rel=1e-3)
    assert numbers["asymmetry: DWI |log ratio| p50"] == pytest.approx(np.log(1.2), rel=0.02)


def test_fluid_and_its_signal_are_shares_of_the_brain(brain):
    wet = np.zeros(brain.brain.size, bool)
    inside = np.flatnonzero(brain.brain)
    wet[np.random.default_rng(0).permutation(inside)[: len(inside) // 4]] = True
    wet = wet.reshape(brain.brain.shape)
    scan = changed(brain, dwi=lambda i: np.where(wet, 0.4 * i, i), adc=lambda i: np.where(wet, 2.8, i))
    numbers = measure(scan)
    assert numbers["brain: fluid % (ADC > 1.6)"] == pytest.approx(25.0, abs=0.01)
    assert numbers["tissue: fluid DWI p50"] == pytest.approx(0.4)
    assert numbers["tissue: fluid ADC p50"] == pytest.approx(2.8)


@pytest.mark.parametrize("sd", [0.02, 0.06])
def test_white_noise_is_measured_by_its_standard_deviation(brain, sd):
    noise = np.random.default_rng(1).normal(1.0, sd, brain.brain.shape)
    numbers = measure(changed(brain, dwi=lambda i: i * noise))
    assert numbers["noise: DWI in the slice"] == pytest.approx(sd, rel=0.05)
    assert numbers["noise: DWI across/in"] == pytest.approx(1.0, abs=0.07)
    # Nothing is correlated: near and far differ alike.
    assert numbers["noise: DWI steepness 2/8 mm"] == pytest.approx(1.0, abs=0.05)


def test_noise_that_was_interpolated_across_slices_is_smoother_there_and_blurred_noise_is_steep(brain):
    rough = np.random.default_rng(2).normal(0.0, 0.05, brain.brain.shape)
    across = ndimage.uniform_filter1d(rough, 2, axis=2)
    numbers = measure(changed(brain, dwi=lambda i: i * (1 + across)))
    # The mean of two neighbours: their second difference has the variance (1+1+1+1)/4 of 6.
    assert numbers["noise: DWI across/in"] == pytest.approx(np.sqrt((4 / 4) / 6) / np.sqrt(1 / 2), rel=0.08)
    blurred = ndimage.gaussian_filter(rough, 1.5)
    assert measure(changed(brain, dwi=lambda i: i * (1 + blurred)))["noise: DWI steepness 2/8 mm"] < 0.7


def test_bright_voxels_are_counted_by_fifths_of_the_height(brain):
    # Voxels lie at -66, -62, ... 66 mm: the lowest fifth ends at -39.6 mm, the third one lies within 13.2 mm.
    z = ellipsoid_brain.places_mm(brain.grid)[2]
    planted = np.zeros_like(brain.brain)
    low, middle = np.argwhere(brain.brain & (z < -40)), np.argwhere(brain.brain & (np.abs(z) < 10))
    planted[tuple(low[100:150].T)] = planted[tuple(middle[500:520].T)] = True
    numbers = measure(changed(brain, dwi=lambda i: np.where(planted, 1.8 * i, i)))
    total = int(brain.brain.sum())
    lowest, third = (int((brain.brain & (z > a) & (z < b)).sum()) for a, b in ((-71, -40), (-13, 13)))
    assert numbers["bright voxels: % of the brain (> 1.5)"] == pytest.approx(100 * 70 / total)
    assert numbers["bright voxels: % of the lowest fifth"] == pytest.approx(100 * 50 / lowest)
    assert numbers["bright voxels: % of the third fifth"] == pytest.approx(100 * 20 / third)
    assert numbers["bright voxels: % of the highest fifth"] == 0.0


def test_the_edge_profile_follows_the_depth(brain):
    # The outermost voxels are up to 4 mm from the outside.
    rim = brain.brain & ~ndimage.binary_erosion(brain.brain)
    numbers = measure(changed(brain, dwi=lambda i: np.where(rim, 0.5 * i, i), adc=lambda i: np.where(rim, 2.0, i)))
    assert numbers["edge: DWI 2.5-5 mm"] == pytest.approx(0.5)
    assert numbers["edge: ADC 2.5-5 mm"] == pytest.approx(2.0)
    assert numbers["edge: DWI 8-12 mm"] == pytest.approx(1.0)


def test_a_slab_says_nothing_about_heights_and_regions_but_about_the_rest():
    slab = ellipsoid_brain.patient(slab_mm=(-30.0, 36.0))
    rim = np.zeros_like(slab.brain)
    for k in range(slab.brain.shape[2]):
        rim[:, :, k] = slab.brain[:, :, k] & ~ndimage.binary_erosion(slab.brain[:, :, k])
    numbers = measure(changed(slab, dwi=lambda i: np.where(rim, 0.5 * i, i)))
    for name in ("brain: volume ml", "regions: cerebellum/cerebrum DWI", "bright voxels: % of the lowest fifth"):
        assert np.isnan(numbers[name]), name
    assert numbers["tissue: ADC p50"] == pytest.approx(ellipsoid_brain.ADC)
    # The ends of the slab are no surface of the brain.
    assert numbers["edge: DWI 2.5-5 mm"] == pytest.approx(0.5)
    shown = realism.table([], {"slab": numbers})
    assert [line.split() for line in shown.splitlines() if "volume ml" in line] == [
        ["volume", "ml", "-", "-", "-", "-"]
    ]


def lesion_at(scan, radius_mm, centre_mm=(30.0, 10.0, 20.0)):
    return (
        sum((p - c) ** 2 for p, c in zip(ellipsoid_brain.places_mm(scan.grid), centre_mm, strict=True)) <= radius_mm**2
    )


def test_contrast_and_components_of_a_lesion():
    scan = ellipsoid_brain.patient(2.0)
    large, small = lesion_at(scan, 10.0), lesion_at(scan, 2.1, (-30.0, 10.0, 20.0))
    both = large | small
    scan = replace(scan, lesion=both)
    scan = changed(scan, dwi=lambda i: np.where(both, 2.0 * i, i), adc=lambda i: np.where(both, 0.5, i))
    numbers = measure(scan)
    assert numbers["lesion: components"] == 2
    assert numbers["lesion: ml"] == pytest.approx(both.sum() * 0.008)
    assert numbers["lesion: % of components < 0.1 ml"] == numbers["lesion: % of components > 1 ml"] == 50.0
    assert numbers["lesion: DWI over the tissue around it"] == pytest.approx(2.0)
    assert numbers["lesion: ADC p50"] == pytest.approx(0.5)
    assert numbers["lesion: |DWI log mirror ratio| p50"] > 0.3
    # The lesion is left out of everything else.
    assert numbers["bright voxels: % of the brain (> 1.5)"] == 0.0


def test_the_width_of_a_lesions_edge_grows_with_its_blur():
    scan = ellipsoid_brain.patient(2.0)
    lesion = lesion_at(scan, 14.0)
    widths = []
    for sigma_mm in (0.0, 2.0):
        soft = 1.0 + ndimage.gaussian_filter(lesion.astype(np.float64), sigma_mm / 2.0)
        widths.append(
            measure(changed(replace(scan, lesion=lesion), dwi=lambda i, s=soft: i * s))["lesion: edge width mm"]
        )
    # A step between neighbouring voxels is one voxel wide; a Gaussian edge is sigma times the root of 2 pi.
    assert widths[0] == pytest.approx(2.0, abs=0.1)
    assert widths[1] == pytest.approx(2.0 * np.sqrt(2 * np.pi), rel=0.15)


def test_a_number_is_covered_where_it_lies_between_the_5th_and_95th_percentile():
    synthetic = [{"a: x": float(k), "a: y": float("nan")} for k in range(101)]
    verdicts = [realism.cover(synthetic, {"a: x": v})["a: x"].verdict for v in (4.9, 5.0, 95.0, 95.1, float("nan"))]
    assert verdicts == ["below", "in", "in", "above", "-"]
    assert realism.cover(synthetic, {"a: y": 1.0})["a: y"].verdict == "-"
    text = realism.table(synthetic, {"one": {"a: x": 50.0, "a: y": 1.0}, "two": {"a: x": 200.0, "a: y": 1.0}})
    assert "one: 1 of 1 numbers COVERED" in text
    assert "two: 0 of 1 numbers COVERED\n  above: a: x" in text


def test_a_sample_is_measured_as_the_same_patient_from_files_is(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="samples are tensors, and torch is not installed")
    from strokeseg_training.sample import Sample

    made = ellipsoid_brain.patient(2.0)
    _, _, z = ellipsoid_brain.places_mm(made.grid)
    lesion = lesion_at(made, 8.0)
    # Even images look like label maps and would be refused.
    noise = np.random.default_rng(5).normal(1.0, 0.01, lesion.shape)
    made = changed(
        replace(made, lesion=lesion),
        dwi=lambda i: i * np.where(lesion, 1.9, np.where(z < -15, 1.2, 1.0)) * noise,
        adc=lambda i: np.where(lesion, 0.5, i) * noise,
    )
    sample = Sample(
        images={role: torch.from_numpy(image)[None] for role, image in made.images.items()},
        brain=torch.from_numpy(made.brain)[None],
        lesion=torch.from_numpy(lesion.astype(np.float32))[None],
        tissue=torch.zeros((1, *made.grid.shape), dtype=torch.uint8),
        midplane=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        spacing_mm=(2.0, 2.0, 2.0),
        seeds=(7,),
    )
    (scan,) = scans_of(sample)
    assert scan.name == "seed 7"
    expected = measure(scan)

    folder = tmp_path / "cases" / "patient"
    folder.mkdir(parents=True)
    for name, array in (("dwi", made.images["dwi"]), ("adc", made.images["adc"]), ("mask", lesion.astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(array, made.grid.affine), folder / f"{name}.nii.gz")
    assert realism.main(["--real", str(tmp_path / "cases"), "--json", str(tmp_path / "numbers.json")]) == 0
    assert "patient: 0 of 0 numbers COVERED" in capsys.readouterr().out
    written = json.loads((tmp_path / "numbers.json").read_text())["real"]["patient"]
    assert set(written) == set(expected)
    for name in ("brain: volume ml", "regions: cerebellum/cerebrum DWI", "lesion: ml", "lesion: DWI p50"):
        assert written[name] == pytest.approx(expected[name], rel=0.01), name
    # No picture of a patient unless it is asked for.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cases", "numbers.json"]


def test_sheets_show_every_patient_in_slices_of_one_size(brain, tmp_path):
    slab = ellipsoid_brain.patient(slab_mm=(-20.0, 36.0))
    files = realism.save_sheets(tmp_path / "new", [brain, slab], "name", regions=True)
    assert [f.name for f in files] == ["name-01.png"]
    sizes = {picture.shape for scan in (brain, slab) for _, picture in realism.sheet_rows(scan)}
    assert len(sizes) == 1
    # The lowest of the six axial slices of an even brain shows tissue in its middle and air at its corner.
    picture = realism.sheet_rows(brain)[0][1]
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[picture.shape[0] // 2, picture.shape[1] // 18, 0] == round(255 / 2.5)


def test_few_samples_are_said_to_be_few():
    text = realism.table([{"a: x": 1.0}], {"one": {"a: x": 1.0}})
    assert "Only 1 synthetic patient(s)" in text


def test_nothing_to_measure_is_said_in_words(tmp_path, capsys):
    assert realism.main([]) == 3
    assert "There is nothing to measure." in capsys.readouterr().err


@pytest.mark.skipif(
    "STROKESEG_CASES" not in os.environ, reason="the folder of real scans is not named (STROKESEG_CASES)"
)
def test_real_scans_have_the_numbers_that_are_known_of_them():
    from _scans import read_scans

    scans, left_out = read_scans([Path(os.environ["STROKESEG_CASES"])])
    numbers = {scan.name: measure(scan) for scan in scans}
    assert any("control_t1" in sentence for sentence in left_out)
    assert np.isnan(numbers["control_dwi"]["regions: cerebellum/cerebrum DWI"])
    for name in ("isles22_0001", "isles22_0009"):
        # What the field says of every brain: the cerebellum is brighter on DWI and lower in ADC.
        assert numbers[name]["regions: cerebellum/cerebrum DWI"] > 1.1
        assert numbers[name]["regions: cerebellum/cerebrum ADC"] < 1.0
    assert numbers["isles22_0001"]["lesion: ml"] == pytest.approx(6.68, abs=0.01)
    assert numbers["isles22_0009"]["lesion: components"] == 18
