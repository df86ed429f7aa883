"""Cases are read by role, and the reference has no place in them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from strokeseg.case import Case, roles_in_name, safe_name
from strokeseg.errors import InputError
from strokeseg.volume import Volume

AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


def write(path, array):
    nib.save(nib.Nifti1Image(np.asarray(array, np.float32), AFFINE), path)
    return path


def ramp(shape=(4, 5, 6)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_files_and_volumes_become_a_case_by_role(tmp_path):
    t1 = Volume(ramp(), AFFINE)
    case = Case.from_files(adc=write(tmp_path / "a.nii.gz", ramp() / 100), dwi=write(tmp_path / "d.nii", ramp()), t1=t1)
    assert case.roles == ("dwi", "adc", "t1")
    assert case.volumes["t1"] is t1
    np.testing.assert_array_equal(case.volumes["dwi"].array, ramp())
    np.testing.assert_allclose(case.volumes["adc"].array, ramp() / 100, rtol=1e-6)
    np.testing.assert_array_equal(case.volumes["adc"].affine, AFFINE)
    assert case.name == ""
    assert case.brain_mask is None


def test_brain_mask_is_kept_beside_the_images(tmp_path):
    case = Case.from_files(
        t1=Volume(ramp(), AFFINE), brain_mask=write(tmp_path / "m.nii.gz", ramp() > 50), name="sub-01"
    )
    assert case.roles == ("t1",)
    assert int(case.brain_mask.array.sum()) == 69  # 120 voxels, those numbered 51 to 119
    assert case.name == "sub-01"


def test_a_reference_is_refused():
    with pytest.raises(ValueError, match="no such role: reference"):
        Case({"dwi": Volume(ramp(), AFFINE), "reference": Volume(ramp(), AFFINE)})
    with pytest.raises(TypeError):
        Case.from_files(dwi=Volume(ramp(), AFFINE), reference=Volume(ramp(), AFFINE))


def test_nothing_given_is_an_error_that_names_the_roles():
    with pytest.raises(InputError) as caught:
        Case.from_files(brain_mask=Volume(ramp(), AFFINE))
    assert "DWI, ADC, T1, FLAIR" in caught.value.cause
    assert "Only a brain mask" in caught.value.cause


def test_b0_is_taken_from_a_four_dimensional_dwi(tmp_path):
    path = write(tmp_path / "dwi.nii.gz", np.stack([ramp() + 1000, ramp() + 1], axis=-1))
    (tmp_path / "dwi.bval").write_text("0 1000\n")
    case = Case.from_files(dwi=path)
    assert case.roles == ("dwi", "b0")
    np.testing.assert_allclose(case.volumes["dwi"].array, ramp() + 1, rtol=1e-5)
    np.testing.assert_allclose(case.volumes["b0"].array, ramp() + 1000, rtol=1e-5)
    assert any("taken from the file of the DWI" in note for note in case.volumes["b0"].notes)


def test_a_named_b0_wins_over_the_one_inside_the_dwi(tmp_path):
    path = write(tmp_path / "dwi.nii.gz", np.stack([ramp() + 1000, ramp() + 1], axis=-1))
    (tmp_path / "dwi.bval").write_text("0 1000\n")
    case = Case.from_files(dwi=path, b0=Volume(ramp() + 7, AFFINE))
    np.testing.assert_array_equal(case.volumes["b0"].array, ramp() + 7)


def test_a_three_dimensional_dwi_gives_no_b0(tmp_path):
    path = write(tmp_path / "dwi.nii.gz", ramp())
    (tmp_path / "dwi.bval").write_text("1000\n")
    assert Case.from_files(dwi=path).roles == ("dwi",)


def test_the_first_damaged_role_is_reported_whatever_the_order(tmp_path):
    broken = tmp_path / "broken_t1.nii.gz"
    broken.write_text("no image")
    good = write(tmp_path / "dwi.nii.gz", ramp())
    with pytest.raises(InputError, match="missing_adc"):
        Case.from_files(flair=broken, t1=broken, adc=tmp_path / "missing_adc.nii.gz", dwi=good)


def test_the_shell_of_a_four_dimensional_dwi_can_be_chosen(tmp_path):
    path = write(tmp_path / "dwi.nii.gz", np.stack([ramp() + 900, ramp() + 50, ramp() + 5], axis=-1))
    (tmp_path / "dwi.bval").write_text("0 1000 2000\n")
    case = Case.from_files(dwi=path, b_value=2000)
    np.testing.assert_allclose(case.volumes["dwi"].array, ramp() + 5, rtol=1e-5)
    assert case.volumes["dwi"].b_value == 2000
    np.testing.assert_allclose(case.volumes["b0"].array, ramp() + 900, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("dwi", ("dwi",)),
        ("sub-01_ses-02_acq-b1000_dwi", ("dwi",)),
        ("ep2d_diff_3scan_trace_p2_TRACEW", ("dwi",)),
        ("ep2d_diff_3scan_trace_p2_ADC", ("adc",)),
        ("isoDWI", ("dwi",)),
        ("DWI b=1000", ("dwi",)),
        ("dwi_b0_b1000", ("dwi",)),
        ("dwi_adc", ("adc",)),
        ("dADC map", ("adc",)),
        ("Apparent Diffusion Coefficient (mm2-s)", ("adc",)),
        ("eADC", ()),
        ("dwi_b0", ("b0",)),
        ("b=0", ("b0",)),
        ("S0", ("b0",)),
        ("B0_map", ()),
        ("sub-adc_T1w", ("t1",)),
        ("t1_mprage_sag", ("t1",)),
        ("Sag MP2RAGE UNI", ("t1",)),
        ("mp2rage_inv1", ()),
        ("Ax.FSPGR", ("t1",)),
        ("T2_FLAIR", ("flair",)),
        ("flair_space-dwi", ("flair",)),
        ("T1_FLAIR", ("t1", "flair")),
        ("t2w", ()),
        ("dwi_msk", ("reference",)),
        ("label-L_desc-T1lesion_mask", ("reference",)),
        ("c0003s0002t01_LesionSmooth_stx", ("reference",)),
        ("dwi_seg", ("reference",)),
        ("t1_brain", ("t1",)),
        ("t1_brain_mask", ("brain_mask",)),
        ("BrainMask", ("brain_mask",)),
        ("brain_lesion_mask", ("reference",)),
        ("lesion_probability", ()),
        ("csf_mask", ()),
        ("sub-01_dseg", ()),
    ],
)
def test_names_tell_roles(name, roles):
    assert roles_in_name(name) == roles


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sub-01_ses-0001", "sub-01_ses-0001"),
        ("Müller, Karl/2", "Müller_Karl_2"),
        ("患者 一", "患者_一"),
        ("..", ""),
        ("con.nii", "_con.nii"),
        ("x" * 100, "x" * 80),
    ],
)
def test_names_of_cases_are_safe_for_files(text, name):
    assert safe_name(text) == name
