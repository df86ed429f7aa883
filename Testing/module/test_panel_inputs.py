"""Wrong input is told before Run, in words and with what helps; paths and programs of all kinds do no harm."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import panel_driver as drive
import plain_mrml as mrml
import pytest

from strokeseg.case import Case
from strokeseg.errors import InputError
from strokeseg.models import INPUT_ROLES
from strokeseg.segmentation import choose_model
from strokeseg.volume import Volume

DIFFICULT = "Ärzte 空 x"
posix = pytest.mark.skipif(os.name != "posix", reason="the chosen Python is a shell script or a link here")


class Desk:
    """The panel with the synthetic patient chosen; unless it is to run, it does not ask a worker for its devices."""

    def __init__(self, environment: Any, *, withPatient: bool = True, toRun: bool = False) -> None:
        self.environment, self.widget = environment, drive.openPanel(environment) if toRun else openAlone(environment)
        self.ui, self.run = self.widget.ui, self.widget.panel.logic.run
        self.scans: dict[str, Any] = {}
        if withPatient:
            self.scans = self.widget.panel.logic.loadSample(self.parameters)
            self.turn()

    @property
    def parameters(self) -> Any:
        return self.widget.panel.parameters

    def turn(self) -> None:
        """Slicer's next turns."""
        self.environment.processEvents(0.02)

    def comeBack(self) -> None:
        """From another module, as after moving a volume in Transforms or Data."""
        self.widget.exit()
        self.widget.enter()
        self.turn()

    def runIt(self) -> None:
        self.ui.runButton.click()
        drive.finish(self.environment, self.widget)

    def assertRefused(self, *words: str) -> None:
        """Run is not possible, and the reason can be read without pointing at anything."""
        assert not self.ui.runButton.enabled
        assert not self.ui.reasonLabel.isHidden()
        assert self.ui.runButton.toolTip == self.ui.reasonLabel.text
        for word in words:
            assert word in self.ui.reasonLabel.text
        # Nor by the keyboard, nor past the button.
        self.widget.panel.run.onShortcut()
        assert self.widget.panel.logic.start(self.parameters)
        assert not self.run.busy

    def assertReady(self) -> None:
        assert self.ui.runButton.enabled, self.ui.reasonLabel.text
        assert self.ui.reasonLabel.isHidden()


def openAlone(environment: Any) -> Any:
    """Open the panel without a worker, which takes longer to start than all else here."""
    mrml.start()
    drive.forget()
    mrml.panel.run.Run.askDevices = lambda _run: None
    environment.loadModule(drive.MODULE / "StrokeSeg.py")
    widget = environment.openModule("StrokeSeg")
    widget.panel.parameters.model = drive.RULE
    return widget


@pytest.fixture
def desk(slicerEnvironment: Any) -> Desk:
    return Desk(slicerEnvironment)


@pytest.fixture
def running(slicerEnvironment: Any) -> Desk:
    return Desk(slicerEnvironment, toRun=True)


def test_without_any_volume_there_is_nothing_to_run(slicerEnvironment: Any) -> None:
    desk = Desk(slicerEnvironment, withPatient=False)
    desk.assertRefused("Nothing is chosen yet.", "Load files")


def test_a_swap_forbids_the_run_until_it_is_mended(desk: Desk) -> None:
    dwi, adc = desk.scans["dwi"], desk.scans["adc"]
    desk.parameters.dwi, desk.parameters.adc = adc, dwi
    desk.turn()
    desk.assertRefused("swapped")
    for line in (desk.ui.dwiLine, desk.ui.adcLine):
        assert line.text.startswith("Not usable:")
        assert not line.isHidden()
    desk.parameters.dwi, desk.parameters.adc = dwi, adc
    desk.turn()
    desk.assertReady()


def test_a_wrong_kind_of_image_is_told_at_its_selector(desk: Desk) -> None:
    import slicer

    mask = slicer.util.arrayFromVolume(desk.scans["adc"]) > 0.5
    desk.parameters.adc = mrml.addVolume("adc", mask.T.astype(np.float32), mrml.PLAIN)
    desk.turn()
    desk.assertRefused("ADC:", "mask or a label map", "Give the ADC image itself.")


def test_the_unit_of_the_adc_map_is_said_before_the_run_and_an_unknown_one_forbids_it(desk: Desk) -> None:
    import slicer

    array = slicer.util.arrayFromVolume(desk.scans["adc"]).copy()
    for factor, words in ((1000.0, "1e-6 mm²/s"), (1.0, "1e-3 mm²/s"), (0.001, "to be in mm²/s"), (37.0, "")):
        slicer.util.updateVolumeFromArray(desk.scans["adc"], (array * factor).astype(np.float32))
        desk.comeBack()
        if words:
            assert words in desk.ui.adcLine.text
            desk.assertReady()
        else:
            desk.assertRefused("ADC:", "Export the ADC map")


def test_volumes_that_transforms_have_parted_forbid_the_run(desk: Desk) -> None:
    away = mrml.addRigid((0.0, 0.0, 0.0), (0.0, 0.0, 900.0))
    desk.scans["adc"].SetAndObserveTransformNodeID(away.GetID())
    desk.comeBack()
    desk.assertRefused("ADC:", "nowhere in the field of view", "same patient")
    # Both moved together is no matter.
    desk.scans["dwi"].SetAndObserveTransformNodeID(away.GetID())
    desk.comeBack()
    desk.assertReady()


def test_volumes_that_meet_in_part_are_a_note_and_can_be_run(desk: Desk) -> None:
    aside = mrml.addRigid((0.0, 0.0, 0.0), (60.0, 0.0, 0.0))
    desk.scans["adc"].SetAndObserveTransformNodeID(aside.GetID())
    desk.comeBack()
    assert desk.ui.adcLine.text.startswith("Note: The ADC image covers ")
    desk.assertReady()


def scaling() -> Any:
    return linear(np.diag([1.1, 1.0, 1.0, 1.0]))


def mirroring() -> Any:
    return linear(np.diag([-1.0, 1.0, 1.0, 1.0]))


def shearing() -> Any:
    matrix = np.eye(4)
    matrix[0, 1] = 0.2
    return linear(matrix)


def linear(matrix: Any) -> Any:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "odd")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def warping() -> Any:
    import slicer
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    for landmarks, shift in ((spline.SetSourceLandmarks, 0.0), (spline.SetTargetLandmarks, 4.0)):
        points = vtk.vtkPoints()
        for place in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50), (30 + shift, 30, 30)):
            points.InsertNextPoint(*place)
        landmarks(points)
    spline.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "odd")
    node.SetAndObserveTransformToParent(spline)
    return node


@pytest.mark.parametrize("role", ["dwi", "adc"])
def test_a_transform_that_changes_sizes_is_refused_and_helped(desk: Desk, role: str) -> None:
    for kind in (scaling, mirroring, shearing, warping):
        desk.scans[role].SetAndObserveTransformNodeID(kind().GetID())
        desk.comeBack()
        desk.assertRefused(f"{role.upper()}:", "'odd", "scales, mirrors, shears or warps the volume", "Harden the tr")
        assert getattr(desk.ui, f"{role}Line").text.startswith("Not usable:")
        desk.scans[role].SetAndObserveTransformNodeID(None)
        desk.comeBack()
        desk.assertReady()


def test_what_was_changed_behind_the_panels_back_is_found_by_run(desk: Desk) -> None:
    desk.scans["dwi"].SetAndObserveTransformNodeID(scaling().GetID())
    assert desk.ui.runButton.enabled  # nobody has told the panel
    desk.ui.runButton.click()
    assert not desk.run.busy
    desk.assertRefused("Harden the transform")


def test_a_volume_without_voxels_and_one_of_ours_are_refused(desk: Desk) -> None:
    import slicer

    desk.parameters.adc = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")
    desk.turn()
    desk.assertRefused("The volume 'hollow' is empty.")
    own = mrml.addVolume("adc", np.ones((4, 5, 6), np.float32), mrml.PLAIN)
    own.SetAttribute("StrokeSeg.Result", "part")
    desk.parameters.adc = own
    desk.turn()
    desk.assertRefused("is a result, not a scan")


def test_a_model_that_is_not_at_hand_is_named(desk: Desk) -> None:
    desk.parameters.model = "gone"
    desk.turn()
    desk.assertRefused("The model 'gone' is not at hand here.")
    assert "not at hand" in desk.ui.modelCombo.currentText


def test_panel_and_engine_take_the_same_model_for_all_scans(slicerEnvironment: Any) -> None:
    mrml.start()
    models = mrml.panel.model_choice.ModelChoice()
    for count in range(1, len(INPUT_ROLES) + 1):
        for roles in combinations(INPUT_ROLES, count):
            case = Case({role: Volume(np.ones((2, 2, 2), np.float32), np.eye(4)) for role in roles})
            seen = models.card("auto", roles)
            try:
                wanted = choose_model(case)
            except InputError:
                assert seen is None, roles
            else:
                assert seen == wanted, roles


def test_a_b_value_in_the_tags_of_another_image_makes_no_diffusion_image_of_it(slicerEnvironment: Any) -> None:
    mrml.start()
    node = mrml.addVolume("scan", np.ones((4, 5, 6), np.float32), mrml.PLAIN)
    node.SetAttribute("DICOM.instanceUIDs", "1.1")
    for tag, value in {"0008,103E": "t1_mprage", "0018,9087": "0", "0008,0060": "MR"}.items():
        slicerEnvironment.dicom_database.tags["1.1", tag] = value
    assert mrml.panel.roles.guessRole(node) == "t1"


# --- programs and paths


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return path


NOISE = r"""
import subprocess, sys
worker = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE)
out = sys.stdout.buffer
out.write(b"Welcome to the cluster!\nLoading modules...\n")
for line in worker.stdout:
    out.write(b'\xff\xfe\x00 rubbish \xe2\x82\n{"id": 3}\n[1, 2]\n\n{"event": "result"}\n{"id": "2", "event"\n' + line)
    out.flush()
sys.exit(worker.wait())
"""


@posix
def test_a_worker_that_prints_rubbish_is_understood_all_the_same(running: Desk, tmp_path: Path) -> None:
    (tmp_path / "noise.py").write_text(NOISE, encoding="utf-8")
    python = shlex.join([sys.executable, str(tmp_path / "noise.py")])
    running.ui.pythonEdit.currentPath = str(script(tmp_path / "python", f'exec {python} "$@"'))
    running.turn()
    running.runIt()
    assert running.run.error is None
    assert re.match(r"[\d.]+ ml in \d lesions", running.ui.summaryLabel.text)
    log = running.ui.logText.toPlainText()
    assert "Not understood: Welcome to the cluster!" in log
    assert "rubbish" in log
    assert "rubbish" not in running.ui.messageText.toPlainText() + running.ui.warningsText.text


@posix
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["exec yes rubbish"], "1000 lines in a row"),
        (["echo 'I am no Python' >&2", "exit 3"], "I am no Python"),
        (['printf \'{"id": "1", "event": "hel\'', "exit 0"], "does not start"),
    ],
    ids=["without end", "dies at once", "half an event"],
)
def test_a_program_that_is_no_python_is_told_and_another_one_can_be_chosen(
    running: Desk, tmp_path: Path, lines: list[str], words: str
) -> None:
    running.ui.pythonEdit.currentPath = str(script(tmp_path / DIFFICULT / "python", *lines))
    running.turn()
    running.runIt()
    running.environment.waitUntil(lambda: not running.run.link.running, drive.SECONDS)
    assert running.run._exchange is None
    said = running.ui.messageText.toPlainText()
    assert words in said
    assert not running.ui.messageText.isHidden()
    assert running.ui.resultCombo.count == 0
    running.ui.pythonEdit.currentPath = ""
    running.turn()
    running.runIt()
    assert running.run.error is None


@posix
def test_a_user_whose_paths_are_of_all_scripts_gets_a_result(
    running: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slicer_harness import dialogs
    from StrokeSegLib import exchange

    place = tmp_path / DIFFICULT
    # Temporary folder and with it the worker's input and result, where no other place is to be had.
    (place / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    monkeypatch.setattr(exchange, "_otherPlaces", lambda _usual: iter(()))
    # The scans.
    patient = drive.ROOT / "Resources" / "Samples" / "synthetic-patient"
    files = []
    for role in ("dwi", "adc"):
        files.append(place / f"Größe 空 {role}.nii.gz")
        files[-1].write_bytes((patient / f"{role}.nii.gz").read_bytes())
    # The chosen Python, by a link to its whole environment, so that it finds its packages.
    (place / "env").symlink_to(sys.prefix)
    python = place / "env" / "bin" / Path(sys.executable).name
    assert python.is_file()
    running.ui.pythonEdit.currentPath = str(python)
    dialogs.plan("QFileDialog.getOpenFileNames", tuple(map(str, files)))
    running.ui.loadFilesButton.click()
    running.turn()
    running.environment.waitUntil(lambda: running.parameters.dwi.GetName().startswith("Größe"), 30)

    running.ui.runButton.click()
    running.environment.waitUntil(lambda: running.run.stage == "prepare" or not running.run.busy, drive.SECONDS)
    assert running.run._exchange.folder.parent == (place / "tmp").resolve()
    drive.finish(running.environment, running.widget)

    assert running.run.error is None
    assert re.match(r"[\d.]+ ml in \d lesions", running.ui.summaryLabel.text)
    assert running.widget.panel.result.nodes.segmentation.GetName() == "Größe 空 dwi stroke lesions"
    assert list((place / "tmp").iterdir()) == []
