"""Which volume is what, and what is said under each selector before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plain_mrml as mrml
import pytest
import slicer
from stroke_phantom import stroke_phantom

panel = mrml.panel
PHANTOM = stroke_phantom(shape=(44, 46, 28), spacing_mm=(4.0, 4.4, 6.4))


@pytest.fixture(autouse=True)
def environment(slicerEnvironment: Any) -> Any:
    mrml.start()
    return slicerEnvironment


def named(name: str, className: str = "vtkMRMLScalarVolumeNode") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass(className)
    node.SetName(name)
    return node


NAMES = {
    "dwi": "dwi",
    "sub-01_ses-02_dwi": "dwi",
    "DWI_b1000": "dwi",
    "ep2d_diff_3scan_trace_p2_TRACEW": "dwi",
    "5: ep2d_diff_b1000": "dwi",
    "isoDWI": "dwi",
    "ep2d_diff_3scan_trace_p2_ADC": "adc",
    "ADC (10^-6 mm²/s)": "adc",
    "Apparent Diffusion Coefficient": "adc",
    "dADC_Map": "adc",
    "eADC": None,
    "Exponential Apparent Diffusion Coefficient": None,
    "t1_mprage_sag_p2_iso": "t1",
    "sub-r001s001_space-MNI152NLin2009aSym_T1w": "t1",
    "Ax FSPGR BRAVO": "t1",
    "FLAIR_3D": "flair",
    "t2_tirm_tra_dark-fluid": "flair",
    "b0": "b0",
    "DWI_b0": "b0",
    "diff b=0": "b0",
    "b0_map": None,
    "lesion_probability": None,
    "dwi_mask": None,
    "infarct": None,
    "MRHead": None,
    "CTChest": None,
    "t2_tse_tra": None,
    "DWI T1": None,
    "": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_tell_roles(name: str) -> None:
    assert panel.roles.guessRole(named(name)) == NAMES[name]


def test_label_maps_vectors_and_our_own_maps_are_no_input(tmp_path: Path) -> None:
    assert panel.roles.guessRole(named("dwi", "vtkMRMLLabelMapVolumeNode")) is None
    assert panel.roles.guessRole(named("dwi", "vtkMRMLSegmentationNode")) is None
    own = named("dwi")
    own.SetAttribute("StrokeSeg.Result", "part")
    assert panel.roles.guessRole(own) is None


def fromDicom(environment: Any, name: str, **tags: str) -> Any:
    node = named(name)
    node.SetAttribute("DICOM.instanceUIDs", f"{name}.1 {name}.2")
    numbers = {"kind": "0008,0008", "series": "0008,103E", "modality": "0008,0060", "b": "0018,9087"}
    for tag, value in tags.items():
        environment.dicom_database.tags[f"{name}.1", numbers[tag]] = value
    return node


TAGS = [
    ({"kind": "DERIVED\\PRIMARY\\DIFFUSION\\ADC\\ND", "series": "ep2d_diff_3scan", "modality": "MR"}, "adc"),
    ({"kind": "DERIVED\\PRIMARY\\DIFFUSION\\TRACEW", "series": "ep2d_diff_3scan", "b": "1000"}, "dwi"),
    ({"kind": "DERIVED\\PRIMARY\\DIFFUSION\\TRACEW", "series": "ep2d_diff_3scan", "b": "0"}, "b0"),
    ({"kind": "DERIVED\\PRIMARY\\EADC", "series": "eADC map"}, None),
    ({"kind": "ORIGINAL\\PRIMARY\\M\\ND", "series": "Ax T2 FLAIR FS"}, "flair"),
    ({"kind": "ORIGINAL\\PRIMARY\\AXIAL", "series": "dwi", "modality": "CT"}, None),
    ({"kind": "ORIGINAL\\PRIMARY", "series": "Localizer"}, "t1"),  # nothing in the tags: the name tells
]


@pytest.mark.parametrize(("tags", "role"), TAGS)
def test_dicom_tags_come_before_the_name(environment: Any, tags: dict[str, str], role: str | None) -> None:
    assert panel.roles.guessRole(fromDicom(environment, "t1", **tags)) == role


def test_the_b_value_is_read_from_dicom(environment: Any) -> None:
    assert panel.roles.bValue(fromDicom(environment, "a", b="1000")) == 1000.0
    assert panel.roles.bValue(fromDicom(environment, "b", series="DWI")) is None
    assert panel.roles.bValue(named("c")) is None
    assert panel.roles.bValue(None) is None


def test_of_two_volumes_of_a_role_the_one_with_more_voxels_is_taken_then_the_last() -> None:
    small = mrml.addVolume("dwi thumbnail", np.zeros((4, 4, 2), np.float32), mrml.PLAIN)
    first = mrml.addVolume("dwi 1", np.zeros((8, 8, 4), np.float32), mrml.PLAIN)
    second = mrml.addVolume("dwi 2", np.zeros((8, 8, 4), np.float32), mrml.PLAIN)
    adc = mrml.addVolume("adc", np.zeros((8, 8, 4), np.float32), mrml.PLAIN)
    assert panel.roles.guessAll([first, second, small, adc]) == {"dwi": second, "adc": adc}


def scan(role: str, number: int = 0, factor: float = 1.0, transform: Any = None) -> Any:
    array, affine = mrml.stored(getattr(PHANTOM, role) * np.float32(factor), PHANTOM.affine, number)
    return mrml.addVolume(role, array, affine, transform)


def test_a_sound_pair_has_the_unit_of_its_adc_said_and_no_complaint() -> None:
    lines = panel.roles.inputFindings({"dwi": scan("dwi"), "adc": scan("adc", 31), "t1": None})
    assert set(lines) == {"dwi", "adc"}
    assert lines["dwi"] == ("info", "44 x 46 x 28 voxels of 4 x 4.4 x 6.4 mm.")
    assert lines["adc"][0] == "info"
    assert "1e-3 mm²/s" in lines["adc"][1]


@pytest.mark.parametrize(("factor", "unit"), [(1000.0, "1e-6 mm²/s"), (0.001, "to be in mm²/s")])
def test_the_unit_of_the_adc_is_recognised(factor: float, unit: str) -> None:
    severity, sentence = panel.roles.inputFindings({"adc": scan("adc", 5, factor)})["adc"]
    assert severity == "info"
    assert unit in sentence


def test_an_unknown_unit_is_an_error_with_the_step_that_helps() -> None:
    severity, sentence = panel.roles.inputFindings({"adc": scan("adc", 0, 37.0)})["adc"]
    assert severity == "error"
    assert "Export the ADC map" in sentence


def test_a_swap_is_said_at_both_volumes_and_at_no_other() -> None:
    lines = panel.roles.inputFindings({"dwi": scan("adc", factor=1000.0), "adc": scan("dwi"), "b0": scan("b0")})
    for role in ("dwi", "adc"):
        assert lines[role][0] == "error"
        assert "swapped" in lines[role][1]
    assert "swapped" not in lines["b0"][1]


def test_volumes_that_do_not_meet_are_told_with_their_transforms() -> None:
    away = mrml.addRigid((0.0, 0.0, 0.0), (0.0, 0.0, 900.0))
    lines = panel.roles.inputFindings({"dwi": scan("dwi"), "adc": scan("adc", transform=away)})
    assert lines["adc"][0] == "error"
    assert "nowhere in the field of view" in lines["adc"][1]
    together = panel.roles.inputFindings({"dwi": scan("dwi", transform=away), "adc": scan("adc", transform=away)})
    assert together["adc"][0] == "info"


def test_a_transform_that_is_not_rigid_asks_to_harden() -> None:
    stretched = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "stretched")
    stretched.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.1, 1.0, 1.0, 1.0])))
    lines = panel.roles.inputFindings({"dwi": scan("dwi", transform=stretched), "adc": scan("adc")})
    assert lines["dwi"][0] == "error"
    assert "stretched" in lines["dwi"][1]
    assert "Harden" in lines["dwi"][1]
    assert lines["adc"][0] == "info"


def test_an_empty_volume_and_one_of_several_values_are_errors() -> None:
    vector = slicer.util.addVolumeFromArray(
        np.zeros((3, 4, 5, 6), np.uint8), name="v", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    lines = panel.roles.inputFindings({"dwi": named("dwi"), "adc": vector})
    assert {severity for severity, _sentence in lines.values()} == {"error"}


def test_no_volume_no_line() -> None:
    assert panel.roles.inputFindings({"dwi": None, "adc": None}) == {}
