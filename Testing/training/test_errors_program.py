"""The error analysis: what is planted where is reported there, in the millilitres that were planted."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from strokeseg.models import ModelStore
from strokeseg.resources import resource_path

HERE = Path(__file__).parent
# The programs are no package: their parts lie beside them.
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]

import diffusion_phantom  # noqa: E402
import ellipsoid_brain  # noqa: E402
import errors  # noqa: E402
from _causes import Component, cause_of_false, cause_of_missed  # noqa: E402
from _error_bins import OUTSIDE, RIM, Compared  # noqa: E402

ML = 0.064  # a voxel of 4 mm
# The ellipsoid is 140 mm high around 0: the lower two fifths end at -14 mm.
LOW, HIGH = (30.0, -20.0, -30.0), (-30.0, 20.0, 30.0)


def block(scan, centre_mm, size=(2, 2, 2)):
    """A box of voxels around a place."""
    start = np.rint(scan.grid.to_voxel(centre_mm)).astype(int)
    mask = np.zeros(scan.grid.shape, bool)
    mask[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = True
    return mask


def analysed(found, reference=None, **changes):
    scan = replace(ellipsoid_brain.patient(), lesion=reference, **changes)
    return errors.analyse(Compared(scan, found))


@pytest.fixture(scope="module")
def brain():
    return ellipsoid_brain.patient()


def filled(bins):
    """The bins that hold anything."""
    return {kind: {n: pytest.approx(v) for n, v in values.items() if v} for kind, values in bins.items()}


def test_a_false_positive_low_in_the_brain_is_reported_there_with_its_volume(brain):
    case = analysed(block(brain, LOW, (2, 2, 3)) | block(brain, HIGH, (1, 1, 2)), np.zeros_like(brain.brain))
    assert case.lower_two_fifths_ml == pytest.approx(12 * ML)
    assert case.metrics.false_positive_ml == pytest.approx(14 * ML)
    bins = filled(case.false_bins)
    assert bins["height"] == {"second fifth": 12 * ML, "fourth fifth": 2 * ML}
    assert bins["side"] == {"right": 12 * ML, "left": 2 * ML}
    # 12 voxels are 0.768 ml, 2 are 0.128 ml.
    assert bins["size of the component"] == {"0.1-1 ml": 14 * ML}
    assert [c.ml for c in case.false_components] == pytest.approx([12 * ML, 2 * ML])
    text = errors.report(case, largest=5)
    assert "false positives 0.896 ml in 2 components of their own; in the lower two fifths 0.768 ml" in text


def test_without_reference_everything_found_is_false(brain):
    case = analysed(block(brain, HIGH))
    assert not case.has_reference
    assert case.metrics.false_positive_ml == pytest.approx(8 * ML)
    assert "no reference: everything found is false" in errors.report(case, largest=0)


def test_misses_are_sorted_into_untouched_lesions_by_size_and_the_rim_of_found_ones(brain):
    # One voxel (0.064 ml), a block of 8 (0.512) and a block of 27 (1.728 ml), of which one voxel is found.
    small, middle, large = (
        block(brain, HIGH, (1, 1, 1)), block(brain, LOW), block(brain, (20.0, 40.0, 30.0), (3, 3, 3))
    )  # fmt: skip
    found = block(brain, (20.0, 40.0, 30.0), (1, 1, 1))
    case = analysed(found, small | middle | large)
    assert filled(case.missed_bins)["size of the component"] == {"<0.1 ml": ML, "0.1-1 ml": 8 * ML, RIM: 26 * ML}
    assert [(r.found, r.lesions) for r in case.metrics.recall_by_size] == [(0, 1), (0, 1), (1, 1)]
    assert [c.ml for c in case.missed_components] == pytest.approx([8 * ML, ML])
    assert not case.false_components
    assert "lesions found: <0.1 ml: 0 of 1, 0.1-1 ml: 0 of 1, >1 ml: 1 of 1" in errors.report(case, largest=1)


def test_errors_are_sorted_by_their_contrast_and_tissue(brain):
    bright, wet = block(brain, HIGH), block(brain, LOW, (1, 1, 2))
    images = {role: image.copy() for role, image in brain.images.items()}
    images["dwi"][bright], images["adc"][bright] = 1.7 * ellipsoid_brain.DWI, 0.5
    images["adc"][wet] = 1.4
    case = analysed(bright, wet, images=images)
    assert filled(case.false_bins)["contrast"] == {"1.5-2, 0.3-0.62": 8 * ML}
    assert filled(case.false_bins)["tissue"] == {"tissue (ADC <1.2)": 8 * ML}
    assert filled(case.missed_bins)["contrast"] == {"1.0-1.2, >1.2": 2 * ML}
    assert filled(case.missed_bins)["tissue"] == {"partly fluid (1.2-1.6)": 2 * ML}
    (false,), (missed,) = case.false_components, case.missed_components
    assert (false.dwi, false.adc, missed.adc) == pytest.approx((1.7, 0.5, 1.4))
    assert "mixed with fluid" in cause_of_missed(missed)


def test_a_tissue_map_of_the_model_is_preferred(brain):
    tissue = np.full(brain.grid.shape, 2, np.uint8)
    case = errors.analyse(Compared(brain, block(brain, HIGH), tissue))
    assert filled(case.false_bins)["tissue"] == {"white": 8 * ML}


def test_regions_lie_where_cerebellum_and_stem_are_and_depth_is_that_under_the_edge(brain):
    # Template mm on an ellipsoid of the template's size: cerebellum low and behind, stem low at the middle.
    for centre, name in (((24.0, -44.0, -40.0), "cerebellum"), ((0.0, -8.0, -40.0), "brain stem"), (HIGH, "cerebrum")):
        case = analysed(block(brain, centre, (1, 1, 1)))
        assert filled(case.false_bins)["region"] == {name: ML}
    # The middle of the brain is more than 20 mm deep; at its lowest point the outermost voxel is 4 mm from outside.
    assert filled(analysed(block(brain, (0, 0, 0), (1, 1, 1))).false_bins)["distance to the edge"] == {">20 mm": ML}
    lowest = analysed(block(brain, (0.0, 0.0, -68.0), (1, 1, 1))).false_bins
    assert filled(lowest)["distance to the edge"] == {"3-6 mm": ML}


def test_missed_lesion_outside_the_brain_mask_is_told_apart(brain):
    outside = block(brain, (0.0, 86.0, 0.0), (1, 1, 2))
    assert not (outside & brain.brain).any()
    case = analysed(np.zeros_like(outside), outside | block(brain, HIGH))
    assert case.missed_bins["distance to the edge"][OUTSIDE] == pytest.approx(2 * ML)
    assert "outside the brain mask" in cause_of_missed(case.missed_components[1])


def test_a_slab_has_neither_heights_nor_regions():
    slab = ellipsoid_brain.patient(slab_mm=(-20.0, 36.0))
    case = errors.analyse(Compared(slab, block(slab, (20.0, 0.0, 0.0))))
    assert case.lower_two_fifths_ml is None
    assert set(case.false_bins) == {"distance to the edge", "side", "size of the component", "tissue", "contrast"}
    assert case.metrics.false_positive_ml == pytest.approx(8 * ML)
    assert "in the lower two fifths -" in errors.report(case, largest=5)


def test_a_scan_without_diffusion_is_analysed_and_drawn_without_contrast(brain, tmp_path):
    found = block(brain, HIGH)
    compared = Compared(replace(brain, images={"t1": brain.images["dwi"]}), found)
    case = errors.analyse(compared)
    assert set(case.false_bins) == {"distance to the edge", "side", "size of the component", "height", "region"}
    assert "DWI" not in errors.report(case, largest=5)
    assert errors.draw(tmp_path, compared, case) == tmp_path / "phantom-errors.png"


def test_pooled_bins_are_sums(brain):
    cases = [analysed(block(brain, LOW)), analysed(block(brain, HIGH, (1, 1, 1)))]
    sums = errors.pooled([c.false_bins for c in cases])
    assert filled(sums)["height"] == {"second fifth": 8 * ML, "fourth fifth": ML}
    text = errors.pooled_report(cases)
    assert "without lesion (2): mean false positives 0.288 ml" in text
    assert "lower two fifths: 0.512 ml false positives, at most 0.512 ml in a case" in text


PLAIN = Component(
    ml=0.5, height=0.6, frontness=0.5, depth_mm=15.0, off_middle=0.4, region="cerebrum", side="left", dwi=1.6,
    adc=0.7, mirror=0.4, outside=0.0, slice=30,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region": "cerebellum", "height": 0.2, "dwi": 1.4, "adc": 0.72}, "bright cerebellum"),
        ({"height": 0.3, "off_middle": 0.8, "dwi": 3.0, "adc": 0.9}, "ear canals"),
        ({"mirror": 0.02, "dwi": 1.5, "adc": 0.75}, "bright on both sides"),
        ({"depth_mm": 2.0}, "rim of the mask"),
        ({"adc": 1.05}, "late lesions"),
        ({"adc": 1.5}, "T2 shine-through"),
        ({"adc": 0.1}, "signal void"),
        ({"ml": 0.03}, "a speck"),
        ({}, "no rule fits"),
        ({"region": "-", "height": float("nan"), "dwi": float("nan"), "adc": float("nan")}, "no rule fits"),
    ],
)
def test_a_false_component_names_the_property_it_speaks_of(changes, words):
    assert words in cause_of_false(replace(PLAIN, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outside": 0.6}, "outside the brain mask"),
        ({"dwi": 1.4, "adc": 0.95}, "weak and soft"),
        ({"ml": 0.08}, "small embolus"),
        ({"dwi": 1.05}, "barely visible"),
        ({"mirror": 0.0}, "bilateral"),
        ({"region": "brain stem"}, "hind-brain lesion"),
        ({"depth_mm": 3.0}, "cortex at the edge"),
        ({}, "no rule fits"),
    ],
)
def test_a_missed_lesion_names_the_property_it_speaks_of(changes, words):
    assert words in cause_of_missed(replace(PLAIN, **changes))


def write_case(folder, *, orientation):
    """A simulated patient with one infarct of which the rule finds a part, and a reference, stored as asked."""
    made = diffusion_phantom.patient(infarcts=[diffusion_phantom.Infarct((30.0, 10.0, 10.0), 14.0)], noise=0.02)
    infarct = np.linalg.norm(
        made.grid.to_world(np.argwhere(np.ones(made.grid.shape))) - (30.0, 10.0, 10.0), axis=1
    ).reshape(made.grid.shape)
    folder.mkdir(parents=True)
    for name, array in (("dwi", made.dwi), ("adc", made.adc), ("mask", (infarct < 16.0).astype(np.uint8))):
        image = nibabel.Nifti1Image(array, made.grid.affine)
        transform = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(orientation)
        )
        nibabel.save(image.as_reoriented(transform), folder / f"{name}.nii.gz")


def test_the_program_runs_the_engine_and_gives_the_same_whatever_the_storage_order(tmp_path, capsys):
    results = []
    for orientation in ("RAS", "LPI"):
        write_case(tmp_path / orientation / "case", orientation=orientation)
        target = tmp_path / f"{orientation}.json"
        assert errors.main(["adc-threshold", str(tmp_path / orientation), "--json", str(target)]) == 0
        results.append(json.loads(target.read_text())["cases"][0])
    first, second = results
    assert first["metrics"]["dice"] > 0.3
    assert first["metrics"]["true_positive_voxels"] == second["metrics"]["true_positive_voxels"] > 0
    assert first["missed_ml_by"]["side"]["right"] > 0
    for kind, values in first["missed_ml_by"].items():
        assert second["missed_ml_by"][kind] == pytest.approx(values), kind
    assert "Dice" in capsys.readouterr().out
    # A picture is a picture of a patient: none without being asked.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LPI", "LPI.json", "RAS", "RAS.json"]
    pictures = tmp_path / "pictures"
    assert errors.main(["adc-threshold", str(tmp_path / "RAS"), "--pictures", str(pictures)]) == 0
    assert [p.name for p in pictures.iterdir()] == ["case-errors.png"]


def test_a_model_folder_is_used_even_where_its_name_is_installed(tmp_path):
    shutil.copytree(resource_path("Models", "adc-threshold"), tmp_path / "candidate")
    card = json.loads((tmp_path / "candidate" / "card.json").read_text())
    (tmp_path / "candidate" / "card.json").write_text(json.dumps({**card, "title": "the candidate"}))
    with errors.at_hand(str(tmp_path / "candidate")) as name:
        assert ModelStore().card(name).title == "the candidate"
    assert ModelStore().card("adc-threshold").title == card["title"]
    with errors.at_hand("adc-threshold") as name:
        assert name == "adc-threshold"


def test_a_folder_without_usable_case_is_an_error_in_words(tmp_path, capsys):
    assert errors.main(["adc-threshold", str(tmp_path / "absent")]) == 3
    assert "was not found" in capsys.readouterr().err


@pytest.mark.skipif(
    "STROKESEG_CASES" not in os.environ, reason="the folder of real scans is not named (STROKESEG_CASES)"
)
def test_the_healthy_slab_is_analysed_without_heights(capsys):
    assert errors.main(["adc-threshold", str(Path(os.environ["STROKESEG_CASES"]) / "control_dwi")]) == 0
    said = capsys.readouterr().out
    assert "no reference: everything found is false" in said
    assert "in the lower two fifths -" in said
