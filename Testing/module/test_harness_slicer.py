"""The test double's application: modules come and go as in Slicer, pictures say what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODULE = """
import qt, slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

class Demo(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title, parent.categories = _("Demo"), ["Segmentation"]

class DemoWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.log = []

    def setup(self):
        super().setup()
        self.button = qt.QPushButton(_("Run"))
        self.layout.addWidget(self.button)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onClosed)
        slicer.app.connect("aboutToQuit()", lambda: self.log.append("quit"))

    def onClosed(self, caller, event):
        self.log.append("closed")

    def enter(self):
        self.log.append("enter")

    def exit(self):
        self.log.append("exit")

    def cleanup(self):
        self.removeObservers()
        self.log.append("cleanup")

class DemoLogic(ScriptedLoadableModuleLogic):
    pass

class DemoTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.delayDisplay("ran")
        slicer.demoRan = True
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "Ärzte 空 x"
    folder.mkdir()
    path = folder / "Demo.py"
    path.write_text(MODULE, encoding="utf-8")
    return path


def test_a_module_is_loaded_entered_left_and_closed(slicerEnvironment: Any, module: Path) -> None:
    import slicer

    slicerEnvironment.loadModule(module)
    assert slicer.modules.demo.title == "Demo"
    assert slicer.util.modulePath("Demo") == str(module)
    widget = slicerEnvironment.openModule("Demo")
    assert slicer.util.getModuleWidget("Demo") is widget is slicer.modules.DemoWidget
    slicer.util.selectModule("Volumes")
    slicer.mrmlScene.Clear(0)
    slicerEnvironment.quit()
    assert widget.log == ["enter", "exit", "closed", "quit", "cleanup"]


def test_reloading_cleans_up_the_old_widget_and_makes_a_new_one(slicerEnvironment: Any, module: Path) -> None:
    import slicer

    slicerEnvironment.loadModule(module)
    old = slicerEnvironment.openModule("Demo")
    old.onReload()
    assert old.log == ["enter", "cleanup"]
    assert slicer.modules.DemoWidget is not old
    slicer.mrmlScene.Clear(0)
    assert (old.log[-1], slicer.modules.DemoWidget.log) == ("cleanup", ["closed"])


def test_a_module_lives_without_main_window(headlessSlicer: Any, module: Path) -> None:
    import slicer

    headlessSlicer.loadModule(module)
    assert headlessSlicer.openModule("Demo").log == ["enter"]
    assert slicer.util.mainWindow() is None
    assert slicer.app.layoutManager() is None


def test_the_self_test_can_be_run(slicerEnvironment: Any, module: Path) -> None:
    import slicer

    slicerEnvironment.loadModule(module)
    slicer.selfTests["Demo"]()
    assert slicer.demoRan


def test_exceptions_in_scene_observers_are_kept(slicerEnvironment: Any) -> None:
    import slicer

    def fail(caller: Any, event: Any) -> None:
        raise KeyError("observer")

    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, fail)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    slicer.mrmlScene.RemoveObserver(tag)
    assert KeyError in [type(e) for e in slicerEnvironment.takeUnhandled()]


def test_settings_are_fresh_and_files_stay_in_the_test_folder(slicerEnvironment: Any, tmp_path: Path) -> None:
    import qt
    import slicer

    assert qt.QSettings().value("StrokeSeg/anything") is None
    qt.QSettings().setValue("StrokeSeg/anything", 3)
    assert slicer.app.userSettings().value("StrokeSeg/anything") in {3, "3"}
    for folder in (slicer.app.slicerHome, slicer.app.temporaryPath, slicer.app.userSettings().fileName()):
        assert Path(folder).is_relative_to(tmp_path)


def test_python_slicer_runs(slicerEnvironment: Any) -> None:
    import shutil
    import subprocess

    import slicer

    found = shutil.which("PythonSlicer")
    assert found == str(Path(slicer.app.slicerHome) / "bin" / "PythonSlicer")
    assert subprocess.run([found, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True).stdout == "42\n"


def test_message_boxes_do_not_wait(slicerEnvironment: Any) -> None:
    import slicer

    slicer.util.confirmOkCancelDisplay("Go on?")
    slicer.util.errorDisplay("No DWI was chosen.")
    slicer.util.delayDisplay("done", 3000)


def test_nothing_is_installed_or_downloaded(slicerEnvironment: Any) -> None:
    import SampleData
    import slicer

    assert slicer.packaging.pip_check("numpy>=1.20")
    assert slicer.packaging.pip_ensure("no-such-package>=9") is None
    with pytest.raises(slicer.packaging.InstallationRefusedError):
        slicer.packaging.pip_install("no-such-package")
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Demo", sampleName="far", uris="https://example.org/a.nrrd", fileNames="a.nrrd", nodeNames="a"
    )
    with pytest.raises(SampleData.DownloadRefusedError):
        SampleData.downloadSample("far")


def test_volumes_come_and_go_as_files_without_moving(slicerEnvironment: Any, tmp_path: Path) -> None:
    import slicer

    ijk_to_ras = np.array([[-2.0, 0, 0, 50], [0, -2.0, 0, 40], [0, 0, 5, 7], [0, 0, 0, 1]])
    node = slicer.util.addVolumeFromArray(
        np.arange(24, dtype=np.int16).reshape(2, 3, 4), ijkToRAS=ijk_to_ras, name="DWI"
    )
    path = str(tmp_path / "空 dwi.nrrd")
    assert slicer.util.exportNode(node, path)
    again = slicer.util.loadVolume(path, {"name": "again"})
    assert again.GetName() == "again"
    assert slicer.util.arrayFromVolume(again).tolist() == slicer.util.arrayFromVolume(node).tolist()
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"))


def test_dicom_series_are_imported_and_loaded(slicerEnvironment: Any, tmp_path: Path) -> None:
    import SimpleITK as sitk
    import slicer
    from DICOMLib import DICOMUtils

    folder = tmp_path / "dicom"
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(3):
        image = sitk.GetImageFromArray(np.full((1, 4, 5), index, np.int16))
        image.SetSpacing((2.0, 2.0, 5.0))
        for tag, value in {
            "0008|0018": f"1.2.3.{index + 1}",
            "0008|0060": "MR",
            "0008|103e": "ep2d_diff ADC",
            "0010|0020": "p1",
            "0020|000d": "1.2",
            "0020|000e": "1.2.3",
            "0020|0013": str(index + 1),
            "0020|0032": f"0\\0\\{5 * index}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{index}.dcm"))
        writer.Execute(image)
    (folder / "notes.txt").write_text("no DICOM")
    assert DICOMUtils.importDicom(str(folder))
    (node_id,) = DICOMUtils.loadPatientByUID(slicer.dicomDatabase.patients()[0])
    node = slicer.mrmlScene.GetNodeByID(node_id)
    assert node.GetName() == "ep2d_diff ADC"
    assert slicer.util.arrayFromVolume(node)[:, 0, 0].tolist() == [0, 1, 2]
    uid = node.GetAttribute("DICOM.instanceUIDs").split()[0]
    assert slicer.dicomDatabase.instanceValue(uid, "0008,0060") == "MR"


def test_pictures_of_widgets_follow_the_palette_and_carry_the_mark(slicerEnvironment: Any, tmp_path: Path) -> None:
    import qt
    from PIL import Image
    from slicer_harness import pictures

    panel = qt.QWidget()
    layout = qt.QVBoxLayout(panel)
    layout.addWidget(qt.QLabel("A line of text"))
    shown = {}
    for name in ("light", "dark"):
        path = pictures.grab(panel, tmp_path / f"{name}.png", width=400, palette_name=name)
        pixels = np.asarray(Image.open(path).convert("L"), dtype=float)
        assert pixels.shape[1] == 400
        assert pixels[-18:].max() > 150  # the mark's letters on its dark strip
        shown[name] = float(np.median(pixels[:-18]))
    assert shown["light"] > 200
    assert shown["dark"] < 80


def test_a_slice_view_shows_the_segment_where_it_is(slicerEnvironment: Any) -> None:
    import slicer
    from slicer_harness.slice_view import SliceView

    # 2 mm cubes, x from R +39 to L -39: columns 30 to 33 lie at R -21 to -27, left of the patient, right of the
    # picture.
    ijk_to_ras = np.array([[-2.0, 0, 0, 39], [0, -2, 0, 39], [0, 0, 2, 0], [0, 0, 0, 1]])
    array = np.full((3, 40, 40), 100, np.float32)
    volume = slicer.util.addVolumeFromArray(array, ijkToRAS=ijk_to_ras, name="DWI")
    volume.CreateDefaultDisplayNodes()
    mask = np.zeros((3, 40, 40), np.uint8)
    mask[1, 18:22, 30:34] = 1
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = segmentation.GetSegmentation().AddEmptySegment("lesion", "Infarct", (0.9, 0.1, 0.1))
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment, volume)
    view = SliceView(slicerEnvironment, "Red", (400, 400))
    view.show(volume)
    view.jump((-24.0, 0.0, 2.0))
    pixels = view.pixels().astype(int)
    rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 1] > 40)
    width_mm = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetFieldOfView()[0]
    assert columns.mean() == pytest.approx(200 + 24 / width_mm * 400, abs=3)
    assert rows.mean() == pytest.approx(200, abs=3)
    assert len(columns) == pytest.approx((8 / width_mm * 400) ** 2, rel=0.1)
    view.jump((-24.0, 0.0, 4.0))
    assert not (view.pixels().astype(int)[..., 0] - view.pixels().astype(int)[..., 1] > 40).any()


def test_after_the_end_python_is_no_longer_slicers(slicerEnvironment: Any) -> None:
    import importlib

    import slicer

    slicerEnvironment.stop()
    slicerEnvironment.stop()
    for name in ("qt", "ctk", "slicer.i18n", "SampleData"):
        with pytest.raises(ImportError):
            importlib.import_module(name)
    assert not hasattr(slicer, "app")
