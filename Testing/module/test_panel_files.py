"""Files come into the panel: by its two dialogs, by drag and drop, and as DICOM through Slicer's own database."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import panel_driver as drive
import plain_mrml as mrml
import pytest
import SimpleITK as sitk
from stroke_phantom import stroke_phantom

SAMPLES = drive.ROOT / "Resources" / "Samples" / "synthetic-patient"
PHANTOM = stroke_phantom(shape=(22, 23, 14), spacing_mm=(8.0, 8.8, 12.8))
FILES, FOLDER = "QFileDialog.getOpenFileNames", "QFileDialog.getExistingDirectory"


@pytest.fixture
def panel(slicerEnvironment: Any) -> Any:
    """The panel; it does not ask a worker for its devices, which takes longer than all else here."""
    mrml.start()
    drive.forget()
    mrml.panel.run.Run.askDevices = lambda _run: None
    slicerEnvironment.loadModule(drive.MODULE / "StrokeSeg.py")
    widget = slicerEnvironment.openModule("StrokeSeg")
    widget.panel.parameters.model = drive.RULE
    return widget


def write(path: Path, role: str) -> Path:
    """A scan of the phantom in any format, written by ITK; the rest of the name is free."""
    array = getattr(PHANTOM, role)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    toLps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ PHANTOM.affine
    spacing = np.sqrt((toLps[:3, :3] ** 2).sum(axis=0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((toLps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(toLps[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=path.suffix == ".nrrd")
    return path


def choose(panel: Any, paths: list[Path]) -> str:
    """Press "Load files..." and choose these; what the panel says then."""
    from slicer_harness import dialogs

    dialogs.plan(FILES, tuple(str(p) for p in paths))
    panel.ui.loadFilesButton.click()
    return str(panel.ui.inputMessage.text) if settled(panel) else ""


def chooseFolder(panel: Any, path: Path | str) -> str:
    """Press "Load folder..." and choose this one; what the panel says then."""
    from slicer_harness import dialogs

    dialogs.plan(FOLDER, str(path))
    panel.ui.loadFolderButton.click()
    return str(panel.ui.inputMessage.text) if settled(panel) else ""


def settled(_panel: Any) -> bool:
    import slicer

    for _turn in range(5):
        slicer.app.processEvents()
    return True


def chosen(panel: Any) -> dict[str, str]:
    """Role to the name of the volume that is chosen."""
    from StrokeSegLib import parameters

    return {role: node.GetName() for role, node in parameters.nodesByRole(panel.panel.parameters).items()}


def volumes() -> list[str]:
    import slicer

    return sorted(n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))


def test_several_files_are_loaded_at_once_and_the_folder_is_remembered(panel: Any, tmp_path: Path) -> None:
    files = [
        write(tmp_path / "Ärzte 空 x" / name, role)
        for name, role in (("p7 dwi.nii.gz", "dwi"), ("p7 ADC.nrrd", "adc"), ("p7_b0.mha", "b0"))
    ]
    said = choose(panel, files)
    assert said == "Loaded 3 volumes. Recognised: DWI, ADC, b0; change it below if it is wrong."
    assert chosen(panel) == {"dwi": "p7 dwi", "adc": "p7 ADC", "b0": "p7_b0"}
    assert panel.panel.logic.settings.value("lastInputFolder") == str(tmp_path / "Ärzte 空 x")


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_a_volume_lies_in_the_same_place_from_every_format(panel: Any, tmp_path: Path, extension: str) -> None:
    from StrokeSegLib import placement

    choose(panel, [write(tmp_path / f"dwi{extension}", "dwi")])
    node = panel.panel.parameters.dwi
    array = placement.ontoGridOf(node, PHANTOM.dwi, PHANTOM.affine)
    np.testing.assert_allclose(placement.arrayOf(node), array, rtol=1e-6)


@pytest.mark.parametrize("cancelled", [(), ""])
def test_a_dialog_that_is_cancelled_changes_nothing(panel: Any, cancelled: Any) -> None:
    from slicer_harness import dialogs

    dialogs.plan(FILES if cancelled == () else FOLDER, cancelled)
    (panel.ui.loadFilesButton if cancelled == () else panel.ui.loadFolderButton).click()
    assert settled(panel)
    assert volumes() == []
    assert panel.ui.inputMessage.isHidden()
    assert panel.panel.logic.settings.value("lastInputFolder") == ""


def test_a_folder_stands_for_all_below_it_but_not_for_hidden_files(panel: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sub-01"
    write(folder / "dwi" / "sub-01_dwi.nii.gz", "dwi")
    write(folder / "dwi" / "sub-01_adc.nii.gz", "adc")
    # A file in a folder of its name, as one mirror of ISLES'22 has it.
    write(folder / "anat" / "sub-01_b0.nii" / "sub-01_b0.nii", "b0")
    (folder / "readme.txt").write_text("read me")
    (folder / "dwi" / "._sub-01_dwi.nii.gz").write_bytes(b"\0\5\x16\7")  # macOS leaves such beside copied files
    (folder / ".git").mkdir()
    (folder / ".git" / "old_dwi.nii.gz").write_bytes(b"")
    said = chooseFolder(panel, folder)
    assert said == "Loaded 3 volumes. Recognised: DWI, ADC, b0; change it below if it is wrong."
    assert chosen(panel) == {"dwi": "sub-01_dwi", "adc": "sub-01_adc", "b0": "sub-01_b0"}
    assert panel.panel.logic.settings.value("lastInputFolder") == str(tmp_path)


def test_a_folder_with_nothing_usable_is_said(panel: Any, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "report.pdf").write_bytes(b"%PDF")
    (folder / "IM0001").write_bytes(b"no DICOM at all" * 20)
    assert chooseFolder(panel, folder) == "'letters' holds no volume that Slicer reads."
    assert volumes() == []
    assert panel.ui.reasonLabel.text.startswith("Nothing is chosen yet.")


def test_a_data_set_of_many_patients_is_not_loaded(panel: Any, tmp_path: Path) -> None:
    first = write(tmp_path / "all" / "sub-00_dwi.nii", "dwi")
    for number in range(1, 70):
        shutil.copyfile(first, first.with_name(f"sub-{number:02}_dwi.nii"))
    said = chooseFolder(panel, tmp_path / "all")
    assert said == "'all' holds 70 volumes: it was not loaded. Choose the folder of one patient."
    assert volumes() == []


def damaged(folder: Path, kind: str) -> Path:
    """A file that looks like a volume by its name only."""
    path = write(folder / f"bad_adc{'.nrrd' if kind == 'cut nrrd' else '.nii.gz'}", "adc")
    content = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_bytes(gzip.compress(b"these are no voxels" * 100))
    elif kind == "cut nrrd":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "page":  # what a browser stores when a link has expired
        path.write_bytes(b"<!DOCTYPE html><html><body>404</body></html>")
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "cut nrrd", "page"])
def test_a_damaged_file_is_named_and_the_others_are_loaded(panel: Any, tmp_path: Path, kind: str) -> None:
    bad = damaged(tmp_path, kind)
    said = choose(panel, [bad, write(tmp_path / "dwi.nii.gz", "dwi")])
    assert said.startswith("Loaded 1 volume. Recognised: DWI;")
    assert said.endswith(f"Slicer could not read '{bad.name}'.")
    assert volumes() == ["dwi"]
    assert panel.ui.reasonLabel.text.endswith("needs ADC as well. Choose it under Input.")


def test_an_image_of_colours_is_no_scan(panel: Any, tmp_path: Path) -> None:
    image = sitk.Image([6, 7, 8], sitk.sitkVectorUInt8, 3)
    sitk.WriteImage(image, str(tmp_path / "dwi_directions.nrrd"))
    said = choose(panel, [tmp_path / "dwi_directions.nrrd"])
    assert said == "'dwi_directions' has several values a voxel: no scan."
    assert chosen(panel) == {}


def test_what_is_dropped_is_loaded_after_the_drop(panel: Any, slicerEnvironment: Any, tmp_path: Path) -> None:
    files = [str(write(tmp_path / "dwi.nrrd", "dwi")), str(write(tmp_path / "maps 空" / "adc.nii.gz", "adc").parent)]
    assert slicerEnvironment.dropFiles(panel.ui.inputSection, files)
    assert volumes() == []  # the other program waits until the drop has returned
    slicerEnvironment.waitUntil(lambda: panel.panel.parameters.adc is not None, drive.SECONDS)
    settled(panel)
    assert chosen(panel) == {"dwi": "dwi", "adc": "adc"}
    assert panel.ui.inputMessage.text.startswith("Loaded 2 volumes.")


def test_a_drop_of_something_else_is_left_to_slicer(panel: Any) -> None:
    from PySide6 import QtCore, QtGui

    data = QtCore.QMimeData()
    data.setText("some words")
    data.setUrls([QtCore.QUrl("https://example.org/dwi.nii.gz")])
    event = QtGui.QDropEvent(
        QtCore.QPointF(2, 2),
        QtCore.Qt.DropAction.CopyAction,
        data,
        QtCore.Qt.MouseButton.LeftButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
    )
    event.ignore()
    QtCore.QCoreApplication.sendEvent(panel.ui.inputSection._native, event)
    assert not event.isAccepted()
    assert settled(panel)
    assert volumes() == []


def test_nothing_is_loaded_while_a_run_goes_on(panel: Any, slicerEnvironment: Any, tmp_path: Path) -> None:
    panel.panel.logic.loadSample(panel.panel.parameters)
    settled(panel)
    panel.ui.runButton.click()
    assert panel.panel.logic.run.busy
    settled(panel)
    assert not panel.ui.loadFilesButton.enabled
    assert not panel.ui.loadFolderButton.enabled
    slicerEnvironment.dropFiles(panel.ui.inputSection, [str(write(tmp_path / "dwi.nii", "dwi"))])
    slicerEnvironment.processEvents(0.05)
    assert "dwi" not in volumes()
    panel.ui.runButton.click()
    drive.finish(slicerEnvironment, panel)


def dicomSeries(folder: Path, role: str, number: int, **tags: str) -> None:
    """A DICOM series of the phantom, one file a slice, without suffix as scanners export them."""
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.ReadImage(str(write(folder / "all.nrrd", role)))
    (folder / "all.nrrd").unlink()
    image = sitk.Cast(image * (1000.0 if role == "adc" else 1.0), sitk.sitkInt16)
    direction = image.GetDirection()
    uid = "1.2.826.0.1.3680043.2.1125.7"
    for k in range(image.GetDepth()):
        single = image[:, :, k]
        values = {
            "0008|0060": "MR",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"{uid}.{number}.{k + 1}",
            "0020|000d": f"{uid}.1000",
            "0020|000e": f"{uid}.{number}",
            "0020|0052": f"{uid}.2000",
            "0010|0020": "P1",
            "0020|0010": "S1",
            "0020|0013": str(k + 1),
            "0020|0011": str(number),
            "0020|0032": "\\".join(f"{v:.6f}" for v in image.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": "\\".join(f"{direction[3 * row + column]:.6f}" for column in (0, 1) for row in range(3)),
            "0018|0050": f"{image.GetSpacing()[2]:.4f}",
            **{name.replace("x", "|")[1:]: value for name, value in tags.items()},
        }
        for key, value in values.items():
            single.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(folder / f"IM{number}{k:04}.dcm"))
        writer.Execute(single)


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A patient's disc: DWI and ADC of one examination, a CT, and a viewer."""
    place = tmp_path / "disc 空"
    dicomSeries(place / "DICOM" / "A", "dwi", 5, t0008x103e="ep2d_diff_trace")
    dicomSeries(place / "DICOM" / "A" / "B", "adc", 6, t0008x103e="ep2d_diff_ADC")
    dicomSeries(place / "CT", "b0", 7, t0008x103e="dwi of a head", t0008x0060="CT")
    (place / "viewer.exe").write_bytes(b"MZ")
    return place


def test_dicom_comes_through_slicers_own_database(panel: Any, slicerEnvironment: Any, disc: Path) -> None:
    said = chooseFolder(panel, disc)
    assert said == "Loaded 2 volumes. Recognised: DWI, ADC; change it below if it is wrong."
    assert chosen(panel) == {"dwi": "ep2d_diff_trace", "adc": "ep2d_diff_ADC"}
    database = slicerEnvironment.dicom_database
    assert database.patients() == ["P1"]
    node = panel.panel.parameters.dwi
    assert len(node.GetAttribute("DICOM.instanceUIDs").split()) == PHANTOM.dwi.shape[2]
    assert len(panel.panel.parameters.adc.GetAttribute("DICOM.instanceUIDs").split()) == PHANTOM.adc.shape[2]


def test_one_file_of_a_series_stands_for_the_series(panel: Any, disc: Path) -> None:
    said = choose(panel, [disc / "DICOM" / "A" / "IM50003.dcm"])
    assert said == "Loaded 1 volume. Recognised: DWI; change it below if it is wrong."
    image = panel.panel.parameters.dwi.GetImageData()
    assert image.GetDimensions() == PHANTOM.dwi.shape


def test_dicom_without_a_usable_series_says_where_to_look(panel: Any, disc: Path) -> None:
    said = chooseFolder(panel, disc / "CT")
    assert "no MR series" in said
    assert "module DICOM" in said
    assert volumes() == []


def test_a_closed_dicom_database_is_said_and_other_files_are_loaded(
    panel: Any, disc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    monkeypatch.setattr(slicer, "dicomDatabase", None)
    write(disc / "dwi.nii.gz", "dwi")
    said = chooseFolder(panel, disc)
    assert said.startswith("Loaded 1 volume. Recognised: DWI;")
    assert "Open the module DICOM once, then load the files again." in said
