"""Layouts of data sets: whose file is whose, what is missing, and who examined whom. Files are empty: names decide."""

from __future__ import annotations

import pytest

pytest.importorskip("pydantic", reason="recipes need pydantic, which is not installed")

from strokeseg.errors import InputError
from strokeseg_training.datasets import UnusablePatients, find_patients, without
from strokeseg_training.datasets.atlas_r1 import FURTHER_MASKS, MAIN_MASKS
from strokeseg_training.layouts import participants, place_case
from strokeseg_training.recipe_data import Datasets

MAIN_AND_SUB = [
    {"name": "main", "masks": MAIN_MASKS},
    {"name": "sub", "masks": FURTHER_MASKS, "required": False, "merge": True},
]


def touch(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def isles(number, *, mask=True):
    stem = f"sub-strokecase{number:04d}"
    files = [f"{stem}/ses-0001/dwi/{stem}_ses-0001_{role}.nii.gz" for role in ("dwi", "adc")]
    return [*files, f"derivatives/{stem}/ses-0001/{stem}_ses-0001_msk.nii.gz"] if mask else files


def data(layout="isles22", classes=({"name": "lesion"},), **more):
    return Datasets(layout=layout, classes=classes, **more)


def told(found):
    return sorted(str(p) for p in found.problems)


def names(found, patient=0):
    one = found.patients[patient]
    images = {role: path.name for role, path in one.images.items()}
    return images, {kind: [p.name for p in paths] for kind, paths in one.masks.items()}


def test_isles22_has_images_mask_and_one_person_an_examination(tmp_path):
    touch(tmp_path, *isles(2), *isles(1))
    found = find_patients(tmp_path, data(), ["dwi", "adc"])
    assert [(p.id, p.person, p.centre) for p in found.patients] == [
        (f"sub-strokecase000{n}_ses-0001", f"sub-strokecase000{n}", "") for n in (1, 2)
    ]
    stem = "sub-strokecase0001_ses-0001"
    assert names(found) == (
        {"dwi": f"{stem}_dwi.nii.gz", "adc": f"{stem}_adc.nii.gz"}, {"lesion": [f"{stem}_msk.nii.gz"]},
    )  # fmt: skip
    assert told(found) == []


@pytest.mark.parametrize("mask_in_folder", [True, False])
def test_in_the_mirror_the_name_of_the_folder_counts(tmp_path, mask_in_folder):
    place = place_case("isles22-kaggle", "dwi-adc", 7)
    mask = place.mask if mask_in_folder else place.mask.rsplit("/", 1)[0]
    # The file in it may be called anything.
    dwi = place.images["dwi"].rsplit("/", 1)[0] + "/Result_12.nii"
    touch(tmp_path, dwi, mask)
    found = find_patients(tmp_path, data(), ["dwi"])
    assert told(found) == []
    assert found.patients[0].images["dwi"] == tmp_path / dwi
    assert found.patients[0].masks["lesion"] == (tmp_path / mask,)


def test_a_folder_of_the_mirror_that_does_not_hold_one_file_is_missed_by_name(tmp_path):
    place = place_case("isles22-kaggle", "dwi-adc", 7)
    touch(tmp_path, place.images["dwi"], place.mask)
    (tmp_path / place.mask).unlink()
    touch(tmp_path, place.images["dwi"].replace("_dwi.nii/", "_dwi.nii/second_"))
    found = find_patients(tmp_path, data(), ["dwi"])
    assert found.patients == ()
    assert told(found) == [
        "sub-strokecase0007_ses-0001: A mask is missing: the folder 'sub-strokecase0007_ses-0001_msk.nii' holds no "
        "NIfTI file instead of one.",
        "sub-strokecase0007_ses-0001: The DWI is missing: the folder 'sub-strokecase0007_ses-0001_dwi.nii' holds 2 "
        "NIfTI files instead of one.",
    ]


def test_everything_that_is_missing_is_said_at_once_with_the_command_to_go_on(tmp_path):
    touch(tmp_path, *isles(1), *isles(2, mask=False), *isles(3)[1:])
    (tmp_path / "sub-strokecase0004").mkdir()
    found = find_patients(tmp_path, data(), ["dwi", "adc"])
    assert [p.id for p in found.patients] == ["sub-strokecase0001_ses-0001"]
    assert told(found) == [
        "sub-strokecase0002_ses-0001: The mask of 'lesion' is missing.",
        "sub-strokecase0003_ses-0001: The DWI is missing.",
        "sub-strokecase0004: The ADC is missing.",
        "sub-strokecase0004: The DWI is missing.",
        "sub-strokecase0004: The mask of 'lesion' is missing.",
    ]
    error = UnusablePatients(found.problems, ["strokeseg-train", "prepare", "--data", "a folder"])
    assert error.title == "3 patients of the data set cannot be used."
    assert error.next_step.endswith(
        "strokeseg-train prepare --data 'a folder' --without sub-strokecase0002_ses-0001 "
        "--without sub-strokecase0003_ses-0001 --without sub-strokecase0004"
    )
    # By the examination, by the person.
    left = without(found, ["sub-strokecase0002", "sub-strokecase0003_ses-0001", "sub-strokecase0004"])
    assert (left.patients, left.problems) == (found.patients, ())


def test_a_name_to_be_left_out_must_be_there(tmp_path):
    touch(tmp_path, *isles(1))
    found = find_patients(tmp_path, data(), ["dwi"])
    with pytest.raises(InputError, match=r"Did you mean --without sub-strokecase0001"):
        without(found, ["sub-strokecase001"])
    with pytest.raises(InputError, match="No patient is left"):
        without(found, ["sub-strokecase0001"])


def test_atlas_r1_gives_the_main_mask_and_all_further_ones(tmp_path):
    one, two = place_case("atlas-r1", "t1", 0, centres=2), place_case("atlas-r1", "t1", 1, centres=2)
    touch(tmp_path, *one.files, *(one.further_masks.format(n) for n in (1, 2, 10)), *two.files)
    found = find_patients(tmp_path, data("atlas-r1", MAIN_AND_SUB), ["t1"])
    assert told(found) == []
    assert [(p.id, p.person, p.centre) for p in found.patients] == [
        ("c0001s0000t01", "c0001s0000", "c0001"), ("c0002s0001t01", "c0002s0001", "c0002"),
    ]  # fmt: skip
    stem = "c0001s0000t01"
    assert names(found)[1] == {
        "main": [f"{stem}_LesionSmooth_stx.nii.gz"],
        "sub": [f"{stem}_LesionSmooth_{n}_stx.nii.gz" for n in (10, 1, 2)],
    }
    assert names(found, 1)[1]["sub"] == []


def test_the_first_release_of_atlas_tells_the_centre_by_its_folder_and_time_points_share_a_person(tmp_path):
    for time in ("t01", "t02"):
        stem = f"Site3/031768/{time}/031768"
        touch(tmp_path, f"{stem}_t1w_deface_stx.nii.gz", f"{stem}_LesionSmooth_stx.nii.gz")
    touch(tmp_path, "Site3/031768/t01/031768_LesionSmooth_1_stx.nii.gz", "Site4/031769/t01/notes.txt")
    found = find_patients(tmp_path, data("atlas-r1", MAIN_AND_SUB), ["t1"])
    assert [(p.id, p.person, p.centre) for p in found.patients] == [
        ("031768_t01", "031768", "Site3"), ("031768_t02", "031768", "Site3"),
    ]  # fmt: skip
    assert len(found.patients[0].masks["sub"]) == 1
    assert told(found)[0].startswith("031769: ")


def test_the_cohort_of_atlas_r2_stands_for_the_centre(tmp_path):
    touch(tmp_path, *place_case("atlas", "t1", 1023).files)
    (patient,) = find_patients(tmp_path, data("atlas-r2"), ["t1"]).patients
    assert (patient.id, patient.person, patient.centre) == ("sub-r002s023_ses-1", "sub-r002s023", "r002")
    assert patient.masks["lesion"][0].name.endswith("_label-L_desc-T1lesion_mask.nii.gz")


def test_bids_reads_centres_from_its_table_and_keeps_sessions_of_a_person_together(tmp_path):
    for session in ("ses-1", "ses-2"):
        stem = f"sub-0007/{session}/dwi/sub-0007_{session}"
        touch(tmp_path, f"{stem}_trace.nii.gz", f"derivatives/lesions/{stem}_label-lesion_mask.nii.gz")
    (tmp_path / "participants.tsv").write_text(participants([6, 7], 3), encoding="utf-8")
    found = find_patients(tmp_path, data("bids"), ["dwi"])
    assert [(p.id, p.person, p.centre) for p in found.patients] == [
        (f"sub-0007_ses-{n}", "sub-0007", "centre02") for n in (1, 2)
    ]


def test_a_choice_that_names_leave_open_is_said_and_patterns_close_it(tmp_path):
    stem = "sub-0001/dwi/sub-0001"
    raters = [f"derivatives/sub-0001/sub-0001_desc-rater{n}_mask.nii.gz" for n in (1, 2)]
    touch(tmp_path, f"{stem}_dwi.nii.gz", f"{stem}_trace.nii.gz", *raters)
    found = find_patients(tmp_path, data("bids"), ["dwi"])
    assert told(found) == [
        "sub-0001: There are 2 files for the DWI: 'sub-0001_dwi.nii.gz', 'sub-0001_trace.nii.gz'.",
        "sub-0001: There are 2 masks of 'lesion': 'sub-0001_desc-rater1_mask.nii.gz', "
        "'sub-0001_desc-rater2_mask.nii.gz'.",
    ]
    classes = [{"name": "lesion", "masks": ["*rater1*"]}]
    chosen = find_patients(tmp_path, data("bids", classes, images={"dwi": ("*_TRACE",)}), ["dwi"])
    assert names(chosen) == (
        {"dwi": "sub-0001_trace.nii.gz"}, {"lesion": ["sub-0001_desc-rater1_mask.nii.gz"]},
    )  # fmt: skip
    # The other rater is not forgotten silently.
    assert told(chosen) == ["sub-0001: Masks of no class were left out: 'sub-0001_desc-rater2_mask.nii.gz'."]
    assert not chosen.problems[0].serious


def test_files_of_nobody_are_named_and_a_folder_without_patients_is_refused(tmp_path):
    touch(tmp_path, *isles(1), "template.nii.gz", ".hidden.nii.gz")
    found = find_patients(tmp_path, data(), ["dwi"])
    assert found.notes == ("1 NIfTI files belong to no patient: 'template.nii.gz'.",)
    with pytest.raises(InputError, match="No patient of the layout 'atlas-r1'"):
        find_patients(tmp_path, data("atlas-r1"), ["t1"])
    with pytest.raises(InputError, match="not there"):
        find_patients(tmp_path / "nowhere", data(), ["dwi"])


def test_a_link_to_a_file_that_was_not_downloaded_is_no_missing_patient(tmp_path):
    touch(tmp_path, *isles(1)[1:])
    (tmp_path / isles(1)[0]).symlink_to(tmp_path / "annex" / "object")
    (patient,) = find_patients(tmp_path, data(), ["dwi"]).patients
    assert patient.images["dwi"] == tmp_path / isles(1)[0]
