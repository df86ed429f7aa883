"""The program that makes the synthetic patient: its physics on phantoms, and that it makes the shipped patient."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from strokeseg.errors import InputError
from strokeseg.volume.grid import Grid
from strokeseg_training import sample_anatomy, sample_patient, sample_physics

FOLDER = Path(__file__).parents[2] / "Resources" / "Samples" / "synthetic-patient"


def uniform_head(grey: float = 0.0, white: float = 0.0, csf: float = 0.0) -> sample_anatomy.Anatomy:
    """A block of one mixture whose template coordinates lie far above the brain, where no artefact reaches."""
    shape = (24, 26, 28)
    x, y, z = (np.arange(300, 300 + n, dtype=np.float32) for n in shape)
    coordinates = (x[:, None, None], y[None, :, None], z[None, None, :])
    return sample_anatomy.Anatomy(
        grey=np.full(shape, grey, np.float32),
        white=np.full(shape, white, np.float32),
        csf=np.full(shape, csf, np.float32),
        brain=np.ones(shape, dtype=np.bool_),
        mni_mm=coordinates,
        affine=np.eye(4),
    )


def no_change(shape: tuple[int, int, int]) -> sample_physics.TissueChange:
    return sample_physics.TissueChange(*(np.ones(shape, np.float32) for _ in range(3)))


def test_fluid_has_the_signal_ratio_of_free_water() -> None:
    head = uniform_head(csf=1.0)
    s0, sb = sample_physics.diffusion_signals(head, no_change(head.shape), np.random.default_rng(0))
    np.testing.assert_allclose(np.log(s0 / sb), 3.05, rtol=1e-4)


def test_an_infarct_lowers_adc_by_its_factor_and_lengthens_t2() -> None:
    head = uniform_head(white=1.0)
    ill = replace(
        no_change(head.shape),
        diffusivity=np.full(head.shape, 0.5, np.float32),
        t2=np.full(head.shape, 1.25, np.float32),
    )
    healthy_s0, healthy_sb = sample_physics.diffusion_signals(head, no_change(head.shape), np.random.default_rng(0))
    s0, sb = sample_physics.diffusion_signals(head, ill, np.random.default_rng(0))
    np.testing.assert_allclose(np.log(s0 / sb) / np.log(healthy_s0 / healthy_sb), 0.5, rtol=1e-3)
    # exp(TE / T2 * (1 - 1 / 1.25)) with TE 82 ms and T2 74 ms.
    np.testing.assert_allclose(s0 / healthy_s0, math.exp(82 / 74 * 0.2), rtol=1e-3)


def test_white_matter_is_brighter_than_grey_matter_on_t1_and_fluid_is_darkest() -> None:
    heads = (uniform_head(white=1.0), uniform_head(grey=1.0), uniform_head(csf=1.0))
    means = [sample_physics.t1_signal(h, no_change(h.shape), np.random.default_rng(0)).mean() for h in heads]
    assert means[0] > 1.2 * means[1] > 2 * means[2]


def test_noise_without_signal_has_the_mean_of_a_rayleigh_distribution() -> None:
    magnitude = sample_physics.rician(np.zeros((60, 60, 60), np.float32), 2.0, np.random.default_rng(1))
    assert magnitude.mean() == pytest.approx(2.0 * math.sqrt(math.pi / 2), rel=0.01)


def test_a_voxel_half_in_tissue_has_half_the_signal() -> None:
    field = np.zeros((20, 20, 20), np.float32)
    field[10:] = 1.0
    # Voxels of 4 mm; the third reaches from x = 7.5 to x = 11.5: voxels 8 to 11 of the lattice, two of them filled.
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = 1.5
    sampled = sample_physics.slice_sample(field, np.eye(4), Grid((4, 4, 4), affine), (4, 4, 4))
    np.testing.assert_allclose(sampled[:, 1, 1], (0.0, 0.0, 0.5, 1.0), atol=1e-6)


def test_a_random_field_is_standardised_smooth_and_repeatable() -> None:
    field = sample_anatomy.smooth_field(np.random.default_rng(3), (40, 44, 48), 12.0)
    again = sample_anatomy.smooth_field(np.random.default_rng(3), (40, 44, 48), 12.0)
    assert field.mean() == pytest.approx(0.0, abs=1e-3)
    assert field.std() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(np.diff(field, axis=0)).max() < 1.0
    np.testing.assert_array_equal(field, again)


def test_a_tilted_grid_has_its_middle_where_it_was_asked_for() -> None:
    grid = sample_patient.tilted_grid((5, 7, 9), np.diag([-2.0, 2.0, 3.0]), (10.0, 0.0, 0.0), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(grid.to_world((2, 3, 4)), (1, 2, 3), atol=1e-5)
    np.testing.assert_allclose(grid.spacing_mm, (2, 2, 3), atol=1e-6)
    assert grid.orientation == "LAS"


def small_patient() -> sample_patient.SamplePatient:
    ramp = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    return sample_patient.SamplePatient(
        dwi=ramp,
        b0=ramp,
        adc=ramp,
        lesions=(ramp > 50).astype(np.uint8),
        t1=ramp,
        affine=np.diag([-2.0, 2.0, 3.0, 1.0]),
        t1_affine=np.eye(4),
        description={"seed": 1},
    )


def test_the_same_patient_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        sample_patient.write_sample(small_patient(), tmp_path / name)
    files = sorted((tmp_path / "first").iterdir())
    assert len(files) == 6
    for path in files:
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_stored_adc_steps_are_read_back_in_units_of_diffusivity(tmp_path: Path) -> None:
    sample_patient.write_sample(small_patient(), tmp_path)
    adc = nib.load(tmp_path / "adc.nii.gz")
    assert adc.get_fdata()[2, 3, 4] == pytest.approx(59 * 0.005)
    assert adc.get_data_dtype() == np.int16


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        sample_patient.write_sample(small_patient(), tmp_path / "file")


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="-1"):
        sample_patient.make_sample(-1)


@pytest.fixture(scope="module")
def patient() -> sample_patient.SamplePatient:
    pytest.importorskip("nilearn", reason="the synthetic patient cannot be made again: nilearn is not installed")
    return sample_patient.make_sample(json.loads((FOLDER / "sample.json").read_text(encoding="utf-8"))["seed"])


def test_the_recorded_seed_makes_the_shipped_patient_again(patient: sample_patient.SamplePatient) -> None:
    # Not byte for byte: exponentials and matrix products differ in the last bit between processors, which now and then
    # moves a rounded value by one step.
    for name in ("dwi", "b0", "adc", "t1", "lesions"):
        shipped = np.asarray(nib.load(FOLDER / f"{name}.nii.gz").dataobj.get_unscaled(), dtype=np.int32)
        made = getattr(patient, name).astype(np.int32)
        different = np.abs(made - shipped)
        assert np.mean(different > 0) < 1e-3, name
        assert np.quantile(different, 0.9999) <= 1, name
    shipped_rows = json.loads((FOLDER / "sample.json").read_text(encoding="utf-8"))["lesions"]
    for made_row, shipped_row in zip(patient.description["lesions"], shipped_rows, strict=True):
        assert made_row["name"] == shipped_row["name"]
        assert abs(made_row["voxels"] - shipped_row["voxels"]) <= 2


def test_b0_follows_from_dwi_and_adc(patient: sample_patient.SamplePatient) -> None:
    measured = (patient.adc > 0) & (patient.dwi > 0)
    assert measured.sum() > 100_000
    predicted = patient.dwi[measured] * np.exp(patient.adc[measured] * sample_patient.ADC_STEP)
    assert np.abs(predicted - patient.b0[measured]).max() < sample_patient.DWI_COUNTS_PER_NOISE
