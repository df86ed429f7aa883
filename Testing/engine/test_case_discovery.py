"""Cases are found in the layouts of the world; what is ambiguous is refused with the choices."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from strokeseg.case import Case, discover
from strokeseg.errors import InputError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(root, case):
    """Role to path below `root`, the reference among them."""
    paths = {**case.files, "reference": case.reference}
    return {role: path.relative_to(root).as_posix() for role, path in paths.items() if path is not None}


def test_one_flat_folder_is_one_case(tmp_path):
    root = tmp_path / "case 7"
    touch(root, "dwi_adc.nii.gz", "DWI b1000.nii", "T2-FLAIR.nrrd", "b0.mha", "Lesion.nii.gz", "brain_mask.nii.gz")
    touch(root, "dwi.json", "DWI b1000.bval", ".hidden_dwi.nii.gz", "._dwi.nii.gz", "notes.txt", "t2.nii.gz")
    (case,) = discover(root)
    assert case.name == "case_7"
    assert case.layout == "folder"
    assert found(root, case) == {
        "dwi": "DWI b1000.nii",
        "adc": "dwi_adc.nii.gz",
        "flair": "T2-FLAIR.nrrd",
        "b0": "b0.mha",
        "brain_mask": "brain_mask.nii.gz",
        "reference": "Lesion.nii.gz",
    }
    assert list(case.files) == ["dwi", "adc", "flair", "b0", "brain_mask"]


def test_found_files_are_read_without_the_reference(tmp_path):
    image = nib.Nifti1Image(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.eye(4))
    for name in ("dwi", "adc", "mask"):
        nib.save(image, tmp_path / f"{name}.nii.gz")
    (files,) = discover(tmp_path)
    case = Case.from_files(**files.files, name=files.name)
    assert case.roles == ("dwi", "adc")
    assert files.reference == tmp_path / "mask.nii.gz"


def test_a_folder_of_folders_is_a_sorted_list_of_cases(tmp_path):
    touch(tmp_path, "b/t1.nii.gz", "a/dwi.nii.gz", "a/adc.nii.gz", "c/readme.txt", "d/mask.nii.gz", "x/y/flair.nii")
    assert [c.name for c in discover(tmp_path)] == ["a", "b", "y"]


def test_cases_of_the_same_name_get_different_names(tmp_path):
    touch(tmp_path, "site1/p1/t1.nii", "site2/P1/t1.nii", "site3/p1/t1.nii")
    names = [c.name for c in discover(tmp_path)]
    assert len({n.lower() for n in names}) == 3
    assert names == ["P1", "p1-2", "p1-3"]


def test_isles22_as_on_zenodo(tmp_path):
    for n in ("0002", "0001"):
        stem = f"sub-strokecase{n}_ses-0001"
        scan = f"sub-strokecase{n}/ses-0001"
        touch(tmp_path, f"{scan}/dwi/{stem}_dwi.nii.gz", f"{scan}/dwi/{stem}_adc.nii.gz", f"{scan}/dwi/{stem}_dwi.json")
        touch(tmp_path, f"{scan}/anat/{stem}_FLAIR.nii.gz", f"derivatives/{scan}/{stem}_msk.nii.gz")
    first, second = discover(tmp_path)
    assert (first.name, second.name) == ("sub-strokecase0001_ses-0001", "sub-strokecase0002_ses-0001")
    assert first.layout == "isles22"
    assert found(tmp_path, first) == {
        "dwi": "sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz",
        "adc": "sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_adc.nii.gz",
        "flair": "sub-strokecase0001/ses-0001/anat/sub-strokecase0001_ses-0001_FLAIR.nii.gz",
        "reference": "derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz",
    }


def test_isles22_mirror_with_folders_called_nii(tmp_path):
    stem = "sub-strokecase0001_ses-0001"
    scan = "ISLES-2022/sub-strokecase0001/ses-0001"
    touch(tmp_path, f"{scan}/dwi/{stem}_dwi.nii/0.nii", f"{scan}/dwi/{stem}_adc.nii/image.nii")
    touch(tmp_path, f"{scan}/anat/{stem}_FLAIR.nii/{stem}_FLAIR.nii")
    touch(tmp_path, f"ISLES-2022/derivatives/sub-strokecase0001/ses-0001/{stem}_msk.nii/x_dwi_registered.nii")
    (case,) = discover(tmp_path)
    assert (case.name, case.layout) == (stem, "isles22")
    assert found(tmp_path, case) == {
        "dwi": f"{scan}/dwi/{stem}_dwi.nii/0.nii",
        "adc": f"{scan}/dwi/{stem}_adc.nii/image.nii",
        "flair": f"{scan}/anat/{stem}_FLAIR.nii/{stem}_FLAIR.nii",
        "reference": f"ISLES-2022/derivatives/sub-strokecase0001/ses-0001/{stem}_msk.nii/x_dwi_registered.nii",
    }


def test_bids_sessions_stay_apart_and_raw_images_win_over_derived_ones(tmp_path):
    touch(tmp_path, "sub-01/ses-1/dwi/sub-01_ses-1_dwi.nii.gz", "sub-01/ses-1/dwi/sub-01_ses-1_desc-adc_dwi.nii.gz")
    touch(tmp_path, "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    touch(tmp_path, "derivatives/prep/sub-02/anat/sub-02_space-MNI_T1w.nii.gz")
    touch(tmp_path, "derivatives/prep/sub-02/anat/sub-02_desc-brain_mask.nii.gz")
    touch(tmp_path, "derivatives/lesions/sub-02/anat/sub-02_label-lesion_mask.nii.gz")
    one, two, other = discover(tmp_path)
    assert (one.name, two.name, other.name) == ("sub-01_ses-1", "sub-01_ses-2", "sub-02")
    assert list(one.files) == ["dwi", "adc"]
    assert list(two.files) == ["t1"]
    assert other.layout == "bids"
    assert found(tmp_path, other) == {
        "t1": "sub-02/anat/sub-02_T1w.nii.gz",
        "brain_mask": "derivatives/prep/sub-02/anat/sub-02_desc-brain_mask.nii.gz",
        "reference": "derivatives/lesions/sub-02/anat/sub-02_label-lesion_mask.nii.gz",
    }
    assert other.notes == ("The T1 image under 'derivatives' was left out in favour of the raw one.",)


def test_a_mask_without_session_joins_the_only_session(tmp_path):
    touch(tmp_path, "sub-01/ses-1/dwi/sub-01_ses-1_dwi.nii.gz", "derivatives/m/sub-01/sub-01_label-lesion_mask.nii.gz")
    (case,) = discover(tmp_path)
    assert case.reference == tmp_path / "derivatives/m/sub-01/sub-01_label-lesion_mask.nii.gz"


def test_atlas_r1_has_a_main_mask_and_masks_of_further_lesions(tmp_path):
    touch(tmp_path, *(f"Site1/031769/t01/031769_{x}_stx.nii.gz" for x in ("t1w_deface", "LesionSmooth")))
    touch(tmp_path, *(f"Site1/031769/t01/031769_LesionSmooth_{n}_stx.nii.gz" for n in (2, 1)))
    touch(tmp_path, "c0003/c0003s0002t01/c0003s0002t01_t1w_stx.nii.gz")
    touch(tmp_path, "c0003/c0003s0002t01/c0003s0002t01_LesionSmooth_stx.nii.gz")
    old, new = discover(tmp_path)
    assert (old.name, old.layout) == ("031769_t01", "atlas-r1")
    assert old.files == {"t1": tmp_path / "Site1/031769/t01/031769_t1w_deface_stx.nii.gz"}
    assert old.reference.name == "031769_LesionSmooth_stx.nii.gz"
    assert [p.name for p in old.extra_references] == [f"031769_LesionSmooth_{n}_stx.nii.gz" for n in (1, 2)]
    assert (new.name, new.layout, new.extra_references) == ("c0003s0002t01", "atlas-r1", ())


def test_atlas_r2(tmp_path):
    folder = "Training/R001/sub-r001s001/ses-1/anat"
    stem = "sub-r001s001_ses-1_space-MNI152NLin2009aSym"
    touch(tmp_path, f"{folder}/{stem}_T1w.nii.gz", f"{folder}/{stem}_label-L_desc-T1lesion_mask.nii.gz")
    (case,) = discover(tmp_path)
    assert (case.name, case.layout) == ("sub-r001s001_ses-1", "atlas-r2")
    assert list(case.files) == ["t1"]
    assert case.reference.name == f"{stem}_label-L_desc-T1lesion_mask.nii.gz"


def test_dicom_folders_are_named_by_their_folder(tmp_path):
    touch(tmp_path, "p/DWI_TRACEW/1.dcm", "p/DWI_TRACEW/2.dcm", "p/DWI_ADC/1.dcm")
    (case,) = discover(tmp_path)
    assert case.name == "p"
    assert case.files == {"dwi": tmp_path / "p/DWI_TRACEW", "adc": tmp_path / "p/DWI_ADC"}


def test_two_files_for_a_role_are_refused_with_both_names(tmp_path):
    touch(tmp_path, "dwi.nii.gz", "dwi_b1000.nii.gz", "adc.nii.gz")
    with pytest.raises(InputError) as caught:
        discover(tmp_path)
    assert "2 files for the role DWI: 'dwi.nii.gz', 'dwi_b1000.nii.gz'" in caught.value.cause


def test_a_name_of_two_roles_is_refused_with_the_choices(tmp_path):
    touch(tmp_path, "T1_FLAIR.nii.gz")
    with pytest.raises(InputError, match="may be T1 or FLAIR"):
        discover(tmp_path)


def test_predictions_never_pass_for_references(tmp_path):
    touch(tmp_path, "dwi.nii.gz", "prediction_mask.nii.gz", "lesion_probability.nii.gz")
    touch(tmp_path, "out/summary.json", "out/lesion_mask.nii.gz", "out/dwi.nii.gz")
    (case,) = discover(tmp_path)
    assert case.reference is None
    assert case.notes == ("The folder 'out' holds results of StrokeSeg and was left out.",)


def test_nothing_found_says_what_was_seen(tmp_path):
    touch(tmp_path, "scan.nii.gz", "mask.nii.gz", "readme.md")
    with pytest.raises(InputError) as caught:
        discover(tmp_path)
    assert "Seen were: mask.nii.gz, readme.md, scan.nii.gz." in caught.value.cause
    with pytest.raises(InputError, match="not found"):
        discover(tmp_path / "absent")
    with pytest.raises(InputError, match="this is a file"):
        discover(tmp_path / "readme.md")


def test_loops_of_links_end_and_linked_cases_are_found_once(tmp_path):
    data, store = tmp_path / "data", tmp_path / "store"
    touch(data, "a/dwi.nii.gz")
    touch(store, "b/dwi.nii.gz")
    (data / "a" / "loop").symlink_to(data, target_is_directory=True)
    (data / "b").symlink_to(store / "b", target_is_directory=True)
    (data / "0_again").symlink_to(data / "a", target_is_directory=True)
    (data / "a" / "adc.nii.gz").symlink_to(data / "gone.nii.gz")
    cases = discover(data)
    assert [(c.name, list(c.files)) for c in cases] == [("a", ["dwi"]), ("b", ["dwi"])]
    assert discover(data) == cases
