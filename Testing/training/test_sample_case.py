"""The sample patient: its scan on phantoms, its description, its files, and the design that comes with the program."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch", reason="the generator needs torch, which is not installed")

from strokeseg.errors import InputError
from strokeseg.volume.grid import Grid
from strokeseg_training.generator.scene import Scene
from strokeseg_training.sample_case import SampleCase, describe, write_sample_case
from strokeseg_training.sample_design import load_design
from strokeseg_training.sample_scan import rician, slice_sample, stripped, tilted_grid


def test_a_voxel_half_in_tissue_has_half_the_signal():
    field = np.zeros((20, 20, 20), np.float32)
    field[10:] = 1.0
    # Voxels of 4 mm; the third reaches from x = 7.5 to x = 11.5: voxels 8 to 11 of the lattice, two of them filled.
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = 1.5
    sampled = slice_sample(field, Grid(field.shape, np.eye(4)), Grid((4, 4, 4), affine), (4, 4, 4))
    np.testing.assert_allclose(sampled[:, 1, 1], (0.0, 0.0, 0.5, 1.0), atol=1e-6)


def test_noise_without_signal_has_the_mean_of_a_rayleigh_distribution():
    magnitude = rician(np.zeros((60, 60, 60), np.float32), 2.0, np.random.default_rng(1))
    assert magnitude.mean() == pytest.approx(2.0 * math.sqrt(math.pi / 2), rel=0.01)


def test_a_tilted_grid_has_its_middle_where_it_was_asked_for():
    grid = tilted_grid((5, 7, 9), np.diag([-2.0, 2.0, 3.0]), (10.0, 0.0, 0.0), (1.0, 2.0, 3.0))
    np.testing.assert_allclose(grid.to_world((2, 3, 4)), (1, 2, 3), atol=1e-5)
    np.testing.assert_allclose(grid.spacing_mm, (2, 2, 3), atol=1e-6)
    assert grid.orientation == "LAS"
    # 10 degrees about x: the step along z leans back by sin 10° of 3 mm.
    assert grid.affine[1, 2] == pytest.approx(-3.0 * math.sin(math.radians(10.0)), abs=1e-6)


def test_the_stripped_brain_is_its_largest_piece():
    fraction = np.zeros((24, 24, 24), np.float32)
    fraction[4:16, 4:16, 4:16] = 1.0
    fraction[19:22, 19:22, 19:22] = 1.0
    mask = stripped(fraction)
    assert mask[10, 10, 10]
    assert not mask[18:, 18:, 18:].any()


@pytest.fixture(scope="module")
def design():
    return load_design()


def test_every_infarct_of_the_design_has_its_own_name(design):
    assert len(design.names) == len(set(design.names)) == len(design.scene.lesions.parts) == 5
    assert not design.scene.lesions.showers
    sides = [part.side for part in design.scene.lesions.parts]
    assert sides == [1, 1, 1, 1, -1]
    assert design.scene.physics.b_value == 1.0


def test_the_description_counts_places_and_keeps_the_scene(design):
    grid = Grid((10, 10, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    owner = np.zeros(grid.shape, np.uint8)
    owner[1:3, 1:3, 1:3] = 1  # 8 voxels of 8 mm³ around (3, 3, 3) mm
    for number in range(2, 6):
        owner[number, 8, 8] = number
    told = describe(design, owner, grid)
    assert told["lesions"][0]["voxels"] == 8
    assert told["lesions"][0]["volume_ml"] == 0.064
    assert told["lesions"][0]["centroid_ras_mm"] == [3.0, 3.0, 3.0]
    assert told["lesion_volume_ml"] == 0.096
    assert told["statement"].startswith("synthetic: made from the MNI ICBM152 2009a template")
    assert "McConnell Brain Imaging Centre" in told["template_notice"]
    assert told["command"].startswith("strokeseg-train synthesize --sample")
    assert told["b_value_s_per_mm2"] == 1000
    assert Scene.from_json(json.dumps(told["scene"])) == design.scene


def test_an_infarct_that_fills_no_voxel_is_named(design):
    with pytest.raises(InputError, match=design.names[0]):
        describe(design, np.zeros((4, 4, 4), np.uint8), Grid((4, 4, 4), np.eye(4)))


def small_case() -> SampleCase:
    ramp = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    return SampleCase(
        dwi=ramp,
        b0=ramp,
        adc=(ramp * 0.005).astype(np.float32),
        lesions=(ramp > 50).astype(np.uint8),
        t1=ramp,
        affine=np.diag([-2.0, 2.0, 3.0, 1.0]),
        t1_affine=np.eye(4),
        description={"seed": 1},
    )


def test_the_same_patient_is_written_as_the_same_bytes(tmp_path: Path):
    for name in ("first", "second"):
        write_sample_case(small_case(), tmp_path / name)
    files = sorted((tmp_path / "first").iterdir())
    names = ["adc.nii.gz", "b0.nii.gz", "dwi.nii.gz", "lesions.nii.gz", "sample.json", "t1.nii.gz"]
    assert [p.name for p in files] == names
    for path in files:
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    np.testing.assert_array_equal(nib.load(tmp_path / "first" / "dwi.nii.gz").affine, small_case().affine)
    assert nib.load(tmp_path / "first" / "adc.nii.gz").get_fdata()[2, 3, 4] == pytest.approx(59 * 0.005)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        write_sample_case(replace(small_case()), tmp_path / "file")
