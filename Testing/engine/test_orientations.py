"""All 48 ways to store the same scans, on disk, give the same lesions in the patient."""

from __future__ import annotations

import io
import os
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import stroke_phantom as phantom
from matplotlib.image import imread
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg import Case, Segmentation, segment
from strokeseg.report import title_lines
from strokeseg.report.layout import Label, Layout, Tile
from strokeseg.report.overlay import plan_overlay
from strokeseg.report.plane import axial_cut, to_canonical
from strokeseg.report.scene import Scene, compose_scene

NUMBERS = range(48)
SOME = NUMBERS if os.environ.get("STROKESEG_SOAK") else sorted(random.Random(48).sample(NUMBERS, 8))
MODEL = "adc-threshold"


@dataclass(frozen=True)
class Stored:
    """The patient's files and what was found in them."""

    files: dict[str, Path]
    result: Segmentation


@lru_cache(maxsize=1)
def patient() -> Any:
    return phantom.stroke_phantom()


def segmented(folder: Path, dwi: int, adc: int) -> Stored:
    """The patient with DWI and ADC stored in the orientations of these numbers, segmented from the files."""
    scans = patient()
    files = {
        role: phantom.save_nifti(folder / f"{role}.nii", getattr(scans, role), scans.affine, phantom.ALL_48[number])
        for role, number in (("dwi", dwi), ("adc", adc))
    }
    return Stored(files, segment(Case.from_files(**files), model=MODEL))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """The patient as the phantom gives it."""
    return segmented(tmp_path_factory.mktemp("plain"), 0, 0)


def assert_same_lesions(result: Segmentation, expected: Segmentation) -> None:
    assert len(result.lesions) == len(expected.lesions)
    for seen, wanted in zip(result.lesions, expected.lesions, strict=True):
        assert abs(seen.voxels - wanted.voxels) <= 1
        assert seen.volume_ml == pytest.approx(wanted.volume_ml, abs=expected.grid.voxel_ml * 1.001)
        np.testing.assert_allclose(seen.centroid_ras_mm, wanted.centroid_ras_mm, atol=0.1)
        assert (seen.label, seen.side, seen.hint) == (wanted.label, wanted.side, wanted.hint)
    assert result.volume_ml == pytest.approx(expected.volume_ml, abs=expected.grid.voxel_ml * 1.001)


def assert_on_the_grid_of(written: Path, scan: Path) -> None:
    mask, dwi = nib.load(written), nib.load(scan)
    assert mask.shape == dwi.shape
    np.testing.assert_array_equal(mask.affine, dwi.affine)
    for row in ("srow_x", "srow_y", "srow_z"):
        assert mask.header[row].tobytes() == dwi.header[row].tobytes()
    np.testing.assert_allclose(mask.get_qform(), dwi.affine, atol=1e-3)


def scene_of(result: Segmentation) -> Scene:
    return compose_scene(
        result.images["dwi"],
        result.affine,
        result.mask,
        probability=result.probability,
        brain=result.brain,
        second=(result.images["adc"], "ADC"),
    )


def letters_of(layout: Layout, tile: Tile) -> dict[str, Label]:
    """The letters that stand on a tile."""
    width, height = layout.tile_size
    return {
        letter.text: letter
        for letter in layout.letters
        if tile.x <= letter.x <= tile.x + width and tile.y <= letter.y <= tile.y + height
    }


def lesion_cells(result: Segmentation, scene: Scene, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """One drawn slice: the picture's cells (row, column) in the large lesion, on the right, and in all others."""
    labels, _ = ndimage.label(result.mask, np.ones((3, 3, 3)))
    large = np.bincount(labels.ravel())[1:].argmax() + 1
    turned = axial_cut(to_canonical(labels, result.affine)[0], index, scene.box)
    return turned == large, (turned > 0) & (turned != large)


def assert_right_is_left_of_the_picture(result: Segmentation) -> None:
    scene = scene_of(result)
    layout = plan_overlay(scene)
    middle = scene.cells[0] / 2
    for tile in layout.tiles:
        letters = letters_of(layout, tile)
        assert letters["R"].x < tile.image_x < tile.image_x + layout.image_size[0] < letters["L"].x
    drawn_right = drawn_left = 0
    for index in scene.indices:
        right, left = lesion_cells(result, scene, index)
        assert not right[:, int(middle) :].any()
        assert not left[:, : int(middle)].any()
        drawn_right, drawn_left = drawn_right + int(right.sum()), drawn_left + int(left.sum())
    assert drawn_right > 200
    assert drawn_left > 20


def test_the_patient_has_a_large_infarct_on_the_right_and_a_small_one_on_the_left(plain: Stored) -> None:
    large, small = plain.result.lesions
    assert (large.side, small.side) == ("right", "left")
    for lesion, (centre, _), truth in (
        (large, phantom.RIGHT_INFARCT, patient().right),
        (small, phantom.LEFT_INFARCT, patient().left),
    ):
        np.testing.assert_allclose(lesion.centroid_ras_mm, phantom.to_world(centre), atol=1.0)
        found = plain.result.mask[truth]
        assert found.mean() > 0.95
    grid = plain.result.grid
    assert grid.spacing_mm == pytest.approx((3.0, 3.5, 5.0), abs=1e-5)
    assert np.abs(grid.directions).max() < 0.995  # no axis runs along R, A or S


def test_there_are_48_orientations_and_each_leaves_the_voxels_in_their_place() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    stored = [phantom.stored_as(array, patient().affine, o) for o in phantom.ALL_48]
    assert len({(a.shape, a.tobytes()) for a, _ in stored}) == 48
    for turned, affine in stored:
        index = np.argwhere(turned == 23.0)[0]
        np.testing.assert_allclose(affine @ [*index, 1], patient().affine @ [1, 2, 3, 1], atol=1e-9)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_orientation_gives_the_same_lesions_in_the_patient(
    number: int, plain: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = segmented(tmp_path, number, number)
    assert_same_lesions(stored.result, plain.result)
    expected, _ = phantom.stored_as(plain.result.mask, plain.result.affine, phantom.ALL_48[number])
    assert (stored.result.mask != expected).sum() <= 1

    monkeypatch.setattr(Segmentation, "overlay", lambda self: b"no picture here")  # it has its own test below
    written = stored.result.save(tmp_path / "result")
    for name in ("lesion_mask.nii.gz", "lesion_probability.nii.gz"):
        assert_on_the_grid_of(written[name], stored.files["dwi"])
    np.testing.assert_array_equal(np.asarray(nib.load(written["lesion_mask.nii.gz"]).dataobj), stored.result.mask)
    assert_right_is_left_of_the_picture(stored.result)


@pytest.mark.parametrize("number", SOME)
def test_adc_that_is_stored_in_another_orientation_than_the_dwi_changes_nothing(
    number: int, plain: Stored, tmp_path: Path
) -> None:
    other = (11 * number + 17) % 48
    assert other != number
    stored = segmented(tmp_path, number, other)
    assert_same_lesions(stored.result, plain.result)
    seen = {i["role"]: i["orientation"] for i in stored.result.summary["inputs"]}
    assert seen["dwi"] != seen["adc"]


@pytest.mark.parametrize("number", SOME)
def test_the_picture_shows_the_right_infarct_on_the_viewers_left_in_every_orientation(
    number: int, plain: Stored, tmp_path: Path
) -> None:
    result = segmented(tmp_path, number, number).result
    scene = scene_of(result)
    layout = plan_overlay(scene, title_lines=title_lines(result.summary))
    picture = imread(io.BytesIO(result.overlay()), format="png")[:, :, :3]
    assert picture.shape[:2] == (layout.height, layout.width)
    width, height = layout.image_size
    for tile in layout.tiles:
        image = picture[tile.image_y : tile.image_y + height, tile.image_x : tile.image_x + width]
        coloured = image[:, :, 0] - image[:, :, 2] > 0.35
        right, left = lesion_cells(result, scene, scene.indices[tile.position])
        assert coloured[:, : width // 2].any() == right.any()
        assert coloured[:, width // 2 :].any() == left.any()
        assert letters_of(layout, tile)["R"].x < tile.image_x
    # Whatever the order of the axes, it is one picture; a few pixels may round the other way.
    expected = imread(io.BytesIO(plain.result.overlay()), format="png")[:, :, :3]
    assert (np.abs(picture - expected).max(axis=2) > 2 / 255).mean() < 1e-3
