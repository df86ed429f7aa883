"""The synthetic patient that comes with StrokeSeg is complete, small, plausible and without header texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[2] / "Resources" / "Samples" / "synthetic-patient"
Images = dict[str, Any]
Arrays = dict[str, NDArray[np.float32]]
Description = dict[str, Any]

IMAGES = ("dwi", "b0", "adc", "lesions", "t1")


@pytest.fixture(scope="module")
def images() -> Images:
    return {name: nib.load(FOLDER / f"{name}.nii.gz") for name in IMAGES}


@pytest.fixture(scope="module")
def arrays(images: Images) -> Arrays:
    return {name: np.asarray(image.dataobj, dtype=np.float32) for name, image in images.items()}


@pytest.fixture(scope="module")
def description() -> Description:
    content: Description = json.loads((FOLDER / "sample.json").read_text(encoding="utf-8"))
    return content


def test_the_folder_holds_the_images_and_their_description_and_nothing_else() -> None:
    assert {p.name for p in FOLDER.iterdir()} == {f"{name}.nii.gz" for name in IMAGES} | {"sample.json"}


def test_all_files_together_stay_below_four_megabytes() -> None:
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) <= 4_000_000


def test_dwi_b0_adc_and_lesions_lie_on_one_oblique_las_grid(images: Images) -> None:
    dwi = images["dwi"]
    for name in ("b0", "adc", "lesions"):
        assert images[name].shape == dwi.shape
        np.testing.assert_array_equal(images[name].affine, dwi.affine)
    assert nib.aff2axcodes(dwi.affine) == ("L", "A", "S")
    np.testing.assert_allclose(dwi.header.get_zooms(), (1.8, 1.8, 3.0), atol=1e-5)
    assert abs(dwi.affine[1, 2]) > 0.1
    assert nib.aff2axcodes(images["t1"].affine) == ("R", "A", "S")
    np.testing.assert_allclose(images["t1"].header.get_zooms(), (1.0, 1.0, 1.0), atol=1e-5)


def test_qform_and_sform_say_the_same(images: Images) -> None:
    for image in images.values():
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
        assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)


def test_headers_carry_no_text(images: Images) -> None:
    for image in images.values():
        assert not image.header.extensions
        for field in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
            assert image.header[field].item() == b""


def test_the_brain_does_not_touch_the_border_of_its_grid(arrays: Arrays) -> None:
    for array in arrays.values():
        for axis in range(3):
            assert not np.take(array, (0, -1), axis=axis).any()


def test_volumes_and_places_in_the_description_are_those_of_the_mask(
    images: Images, arrays: Arrays, description: Description
) -> None:
    voxel_ml = abs(np.linalg.det(images["lesions"].affine[:3, :3])) / 1000
    index = np.argwhere(arrays["lesions"] > 0)
    rows = description["lesions"]
    assert set(np.unique(arrays["lesions"])) == {0, 1}
    assert abs(len(index) * voxel_ml - description["lesion_volume_ml"]) <= voxel_ml
    assert sum(row["voxels"] for row in rows) == len(index)
    for row in rows:
        assert abs(row["voxels"] * voxel_ml - row["volume_ml"]) <= voxel_ml
    centroid = apply_affine(images["lesions"].affine, index.mean(axis=0))
    weighted = np.average([row["centroid_ras_mm"] for row in rows], axis=0, weights=[row["voxels"] for row in rows])
    np.testing.assert_allclose(weighted, centroid, atol=0.02)


def test_one_large_right_infarct_small_emboli_and_one_left_cerebellar_infarct(
    arrays: Arrays, images: Images, description: Description
) -> None:
    large, *emboli, cerebellar = description["lesions"]
    brain = apply_affine(images["dwi"].affine, np.argwhere(arrays["adc"] > 0))
    middle, lower = np.median(brain[:, 0]), np.quantile(brain[:, 2], 0.2)
    assert 15 <= large["volume_ml"] <= 25
    assert large["centroid_ras_mm"][0] > max(0, middle + 20)
    assert len(emboli) >= 2
    for row in emboli:
        assert 0.15 <= row["volume_ml"] <= 0.8
        assert row["centroid_ras_mm"][0] > max(0, middle)
    assert 1 <= cerebellar["volume_ml"] <= 2
    assert cerebellar["centroid_ras_mm"][0] < min(0, middle)
    assert cerebellar["centroid_ras_mm"][2] < lower


def test_diffusivities_are_those_of_tissue_and_of_fluid(arrays: Arrays) -> None:
    healthy = arrays["adc"][(arrays["adc"] > 0) & (arrays["lesions"] == 0)]
    counts, edges = np.histogram(healthy, bins=np.arange(0.3, 3.5, 0.02))
    # Helenius 2002: white 0.70, grey 0.89; free water at 37 °C: 3.
    assert 0.68 < edges[counts.argmax()] < 0.90
    assert 2.7 < np.quantile(healthy, 0.99) < 3.6
    assert 0.15 < np.mean(healthy > 1.6) < 0.35


def test_acute_lesions_are_bright_on_dwi_and_dark_on_adc(arrays: Arrays) -> None:
    lesion = arrays["lesions"] > 0
    brain_median = np.median(arrays["dwi"][arrays["adc"] > 0])
    assert arrays["adc"][lesion].mean() < 0.7
    assert arrays["dwi"][lesion].mean() / brain_median > 1.3


def test_background_is_zero(arrays: Arrays) -> None:
    outside = arrays["b0"] == 0
    assert outside.mean() > 0.5
    for name in ("dwi", "adc", "lesions"):
        assert not arrays[name][outside].any()


def test_t1_and_dwi_show_the_same_brain_at_the_same_place(images: Images, arrays: Arrays) -> None:
    def share_inside(source: str, target: str) -> tuple[float, float]:
        """Volume (mm³) of one brain that lies in the other, and of the brain itself."""
        index = np.argwhere(arrays[source] > 0)
        world = apply_affine(images[source].affine, index)
        there = np.rint(apply_affine(np.linalg.inv(images[target].affine), world)).astype(int)
        inside = np.all((there >= 0) & (there < images[target].shape), axis=1)
        voxel_mm3 = abs(np.linalg.det(images[source].affine[:3, :3]))
        in_both = int((arrays[target][tuple(there[inside].T)] > 0).sum())
        return in_both * voxel_mm3, len(index) * voxel_mm3

    both, dwi_brain = share_inside("dwi", "t1")
    _, t1_brain = share_inside("t1", "dwi")
    assert 2 * both / (dwi_brain + t1_brain) > 0.85


def test_the_description_says_that_nobody_was_scanned_and_how_to_make_it_again(description: Description) -> None:
    assert description["statement"].startswith("synthetic: made from the MNI ICBM152 2009a template")
    assert description["command"].startswith("strokeseg-train synthesize --sample")
    assert description["b_value_s_per_mm2"] == 1000
    assert "McConnell Brain Imaging Centre" in description["template_notice"]
