"""From the chosen volumes to a run: reasons, progress, cancel, and what happens in the scene meanwhile."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import panel_driver as drive
import pytest


def _sample(environment: Any, widget: Any) -> Any:
    found = widget.panel.logic.loadSample(widget.panel.parameters)
    environment.processEvents()
    return found


def test_a_missing_role_is_named(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    widget.panel.parameters.dwi = drive.volume("dwi")
    slicerEnvironment.processEvents()
    assert "needs ADC as well" in widget.ui.reasonLabel.text
    assert widget.ui.adcNeed.text == "required"
    assert widget.ui.flairNeed.text == "not used"


def test_one_volume_cannot_have_two_roles(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    found = _sample(slicerEnvironment, widget)
    widget.panel.parameters.adc = found["dwi"]
    slicerEnvironment.processEvents()
    assert widget.ui.reasonLabel.text.startswith("The same volume is chosen for ADC, DWI.")


def test_swapped_volumes_are_noticed_before_the_run(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    found = _sample(slicerEnvironment, widget)
    widget.panel.parameters.dwi, widget.panel.parameters.adc = found["adc"], found["dwi"]
    slicerEnvironment.processEvents()
    lines = widget.ui.dwiLine.text + widget.ui.adcLine.text
    assert "swap" in lines.lower() or "exchange" in lines.lower(), lines


def test_an_adc_map_in_other_units_is_recognised(slicerEnvironment: Any) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    found = _sample(slicerEnvironment, widget)
    array = slicer.util.arrayFromVolume(found["adc"])
    slicer.util.updateVolumeFromArray(found["adc"], (array * np.float32(1000.0)).astype(np.float32))
    widget.panel.refresh()
    assert "1e-6" in widget.ui.adcLine.text
    widget.ui.runButton.click()
    drive.finish(slicerEnvironment, widget)
    assert widget.panel.logic.run.error is None
    assert widget.ui.summaryLabel.text.startswith("17.9 ml")


def test_a_sheared_volume_is_refused_with_the_step_that_helps(slicerEnvironment: Any) -> None:
    import slicer
    import vtk

    widget = drive.openPanel(slicerEnvironment)
    found = _sample(slicerEnvironment, widget)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 1, 0.3)
    transform.SetMatrixTransformToParent(matrix)
    found["dwi"].SetAndObserveTransformNodeID(transform.GetID())
    widget.panel.refresh()
    assert not widget.ui.runButton.enabled
    assert "arden" in widget.ui.reasonLabel.text


def test_options_travel_as_they_were_chosen(slicerEnvironment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    widget = drive.openPanel(slicerEnvironment)
    _sample(slicerEnvironment, widget)
    run = widget.panel.logic.run
    asked: list[Any] = []
    monkeypatch.setattr(run.link, "segment", lambda inputs, out, options, listener: asked.append((inputs, options)))
    monkeypatch.setattr(run.link, "greeting", {"devices": [{"name": "cuda:0", "title": "A", "memory_total_mb": 8192}]})
    widget.panel.refresh()
    assert widget.ui.deviceCombo.itemText(1) == "cuda:0: A, 8 GB"
    widget.ui.deviceCombo.setCurrentIndex(1)
    widget.ui.deviceCombo.activated.emit(1)
    for axis, voxels in zip("XYZ", (96, 64, 32), strict=True):
        getattr(widget.ui, f"window{axis}").value = voxels
    widget.ui.overlapSpin.value = 40
    widget.ui.strategyCombo.setCurrentIndex(2)
    slicerEnvironment.processEvents()
    widget.ui.runButton.click()
    slicerEnvironment.waitUntil(lambda: bool(asked), 30)
    inputs, options = asked[0]
    assert sorted(inputs) == ["adc", "dwi"]
    assert options == {
        "model": "adc-threshold",
        "device": "cuda:0",
        "strategy": "windows",
        "window": [96, 64, 32],
        "overlap": 0.4,
        "b_value": 1000.0,
        "synthetic": True,
    }
    run.abandon()


def test_half_a_window_is_a_reason(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    _sample(slicerEnvironment, widget)
    widget.ui.windowX.value = 64
    slicerEnvironment.processEvents()
    assert widget.ui.reasonLabel.text.startswith("Of the window only some numbers")


@pytest.mark.parametrize("stage", ["sending", "running", "prepare", "write"])
def test_a_run_is_cancelled_within_a_second(slicerEnvironment: Any, stage: str) -> None:
    widget = drive.openPanel(slicerEnvironment)
    _sample(slicerEnvironment, widget)
    run = widget.panel.logic.run
    widget.ui.runButton.click()
    assert widget.ui.runButton.text == "&Cancel"
    slicerEnvironment.waitUntil(lambda: run.stage == stage, drive.SECONDS)
    began = time.monotonic()
    widget.ui.runButton.click()
    slicerEnvironment.waitUntil(lambda: not run.busy, 10)
    assert time.monotonic() - began < 10.0  # ten times what is promised
    assert run.cancelled
    assert widget.ui.statusLabel.text == "Cancelled. Nothing was changed."
    assert run._exchange is None
    assert widget.ui.runButton.text == "&Run"


def test_a_second_run_uses_the_same_worker(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    drive.tryIt(slicerEnvironment, widget)
    link = widget.panel.logic.run.link
    first = link.greeting["pid"], link._starts
    widget.ui.runButton.click()
    drive.finish(slicerEnvironment, widget)
    assert (link.greeting["pid"], link._starts) == first
    assert widget.panel.result.nodes.previous is not None


def test_a_volume_that_is_deleted_during_the_run_is_said(slicerEnvironment: Any) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    found = _sample(slicerEnvironment, widget)
    widget.ui.runButton.click()
    slicerEnvironment.waitUntil(lambda: widget.panel.logic.run.stage == "prepare", drive.SECONDS)
    slicer.mrmlScene.RemoveNode(found["dwi"])
    drive.finish(slicerEnvironment, widget)
    said = widget.ui.messageText.toPlainText()
    assert "was removed from the scene during the run" in said
    assert "Load it again, and run again." in said
    assert widget.ui.resultCombo.count == 0


def test_a_scene_that_is_closed_ends_the_run_with_its_worker(slicerEnvironment: Any) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    _sample(slicerEnvironment, widget)
    run = widget.panel.logic.run
    widget.ui.runButton.click()
    slicerEnvironment.waitUntil(lambda: run.stage == "prepare", drive.SECONDS)
    folder = run._exchange.folder
    slicer.mrmlScene.Clear()
    slicerEnvironment.waitUntil(lambda: not run.link.running, 10)
    assert not run.busy
    assert not folder.exists()
    slicerEnvironment.processEvents(0.1)
    assert widget.ui.reasonLabel.text.startswith("Nothing is chosen yet.")
    drive.tryIt(slicerEnvironment, widget)
    assert "lesion" in widget.ui.summaryLabel.text


def test_a_worker_that_dies_is_told_with_what_to_do(slicerEnvironment: Any) -> None:
    import os
    import signal

    widget = drive.openPanel(slicerEnvironment)
    _sample(slicerEnvironment, widget)
    run = widget.panel.logic.run
    widget.ui.runButton.click()
    slicerEnvironment.waitUntil(lambda: run.stage == "prepare", drive.SECONDS)
    os.kill(run.link.greeting["pid"], signal.SIGKILL)
    drive.finish(slicerEnvironment, widget)
    said = widget.ui.messageText.toPlainText()
    assert "The worker ended while it was working." in said
    assert "Run again" in said
    widget.ui.runButton.click()
    drive.finish(slicerEnvironment, widget)
    assert run.error is None


def test_a_chosen_python_that_is_not_there_is_told(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    _sample(slicerEnvironment, widget)
    widget.ui.pythonEdit.currentPath = "/nowhere/python"
    slicerEnvironment.processEvents()
    widget.ui.runButton.click()
    drive.finish(slicerEnvironment, widget)
    assert "/nowhere/python" in widget.ui.messageText.toPlainText()
    assert "Settings" in widget.ui.settingsBox.text


def test_details_for_a_bug_report_hold_no_names(slicerEnvironment: Any) -> None:
    import qt

    widget = drive.openPanel(slicerEnvironment)
    drive.volume("DOE^JOHN")
    widget.panel.logic.run._onLog("read DOE^JOHN from /home/doe/scans/a.nii.gz")
    widget.ui.copyDetailsButton.click()
    text = qt.QApplication.clipboard().text()
    assert "StrokeSeg: 0.1.0" in text
    assert "DOE" not in text
    assert "doe" not in text
    assert "[path]" in text
