"""What the section Result shows and does."""

from __future__ import annotations

import types
from dataclasses import replace
from typing import Any

import panel_driver as drive
import pytest


@pytest.fixture
def shown(slicerEnvironment: Any) -> Any:
    widget = drive.openPanel(slicerEnvironment)
    drive.tryIt(slicerEnvironment, widget)
    return slicerEnvironment, widget


def test_the_result_can_be_looked_at_moved_and_left(shown: Any) -> None:
    import slicer

    environment, widget = shown
    ui, nodes = widget.ui, widget.panel.result.nodes
    assert ui.summaryLabel.text.startswith("17.9 ml in 4 lesions (left 0.3 ml, right 17.7 ml)")
    assert "simulated" in ui.warningsText.text

    # Figures here are those of `strokeseg segment --model adc-threshold` with these options.
    # Threshold, and back to the model's.
    ui.thresholdSlider.value = 0.9
    environment.processEvents()
    assert ui.summaryLabel.text.startswith("5.7 ml in 1 lesion")
    ui.resetButton.click()
    assert ui.thresholdSlider.value == 0.5
    assert ui.summaryLabel.text.startswith("17.9 ml in 4 lesions")
    ui.minimumSlider.value = 0.4
    environment.processEvents()
    assert ui.summaryLabel.text.startswith("17.4 ml in 2 lesions")
    ui.resetButton.click()

    # A row takes all slice views to its lesion, and outlines it.
    from StrokeSegLib import lesion_table

    ui.lesionTable.selectRow(1)
    environment.processEvents()
    row = lesion_table.readRows(nodes.table)[1]
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
    assert red.GetElement(2, 3) == pytest.approx(row["centroid_s_mm"], abs=1.5)
    assert lesion_table.highlightNode().GetSegmentation().GetNumberOfSegments() == 1

    # Sorting by the keyboard and by a click on a head.
    ui.sortCombo.setCurrentIndex(1)
    ui.sortCombo.activated.emit(1)
    volumes = [r["volume_ml"] for r in lesion_table.readRows(nodes.table)]
    assert volumes == sorted(volumes)
    ui.lesionTable.horizontalHeader().sectionClicked.emit(1)
    assert [r["volume_ml"] for r in lesion_table.readRows(nodes.table)] == sorted(volumes, reverse=True)
    assert ui.descendingCheck.checked

    # The display node has what is chosen.
    display = nodes.segmentation.GetDisplayNode()
    ui.fillCheck.click()
    ui.opacitySlider.value = 0.75
    assert not display.GetVisibility2DFill()
    assert display.GetOpacity2DFill() == pytest.approx(0.75)
    ui.mapCombo.setCurrentIndex(1)
    ui.mapCombo.activated.emit(1)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetForegroundVolumeID() == nodes.probability.GetID()

    widget.exit()
    assert lesion_table.highlightNode().GetSegmentation().GetNumberOfSegments() == 0


def test_the_table_stays_when_slicer_ends_a_batch_and_when_someone_pastes(shown: Any) -> None:
    import qt
    import slicer
    from PySide6 import QtCore, QtTest

    environment, widget = shown
    table = widget.ui.lesionTable
    rows = table.model().rowCount()
    slicer.mrmlScene.StartState(slicer.mrmlScene.BatchProcessState)
    slicer.mrmlScene.EndState(slicer.mrmlScene.BatchProcessState)
    environment.processEvents()
    assert (table.model().rowCount(), rows) == (4, 4)

    def cells() -> list[str]:
        model = table.model()
        return [model.data(model.index(row, 1)) for row in range(rows)]

    before = cells()
    table.selectRow(1)
    control = QtCore.Qt.KeyboardModifier.ControlModifier
    QtTest.QTest.keyClick(table._native, QtCore.Qt.Key.Key_C, control)
    assert before[1] in qt.QApplication.clipboard().text().split("\t")
    qt.QApplication.clipboard().setText("1\t2\t3")
    QtTest.QTest.keyClick(table._native, QtCore.Qt.Key.Key_V, control)
    assert cells() == before


def test_the_segment_editor_gets_the_result_and_its_scan(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    _environment, widget = shown
    got: list[Any] = []
    editor = types.SimpleNamespace(setSegmentationNode=got.append, setSourceVolumeNode=got.append)
    monkeypatch.setattr(slicer.modules, "SegmentEditorWidget", types.SimpleNamespace(editor=editor), raising=False)
    widget.ui.editorButton.click()
    nodes = widget.panel.result.nodes
    assert got == [nodes.segmentation, nodes.reference]
    assert slicer.util.mainWindow().moduleSelector().selectedModule == "SegmentEditor"


def test_a_deleted_result_leaves_an_empty_section(shown: Any) -> None:
    import slicer

    environment, widget = shown
    slicer.mrmlScene.RemoveNode(widget.panel.result.nodes.segmentation)
    environment.processEvents()
    assert widget.ui.summaryLabel.text == "There is no result yet."
    assert widget.ui.thresholdSlider.isHidden()


def test_without_probabilities_the_slider_says_why(shown: Any) -> None:
    import slicer

    environment, widget = shown
    slicer.mrmlScene.RemoveNode(widget.panel.result.nodes.probability)
    environment.processEvents()
    assert not widget.ui.thresholdSlider.enabled
    assert "probability volume was deleted" in widget.ui.thresholdLine.text


def test_what_the_slider_moves_along_is_said(shown: Any) -> None:
    from StrokeSegLib.result_nodes import Memory

    environment, widget = shown
    ui, nodes = widget.ui, widget.panel.result.nodes
    assert "nowhere" not in ui.thresholdLine.text
    memory = Memory.read(nodes.segmentation)
    assert memory is not None
    replace(memory, model_peak=0.9).write(nodes.segmentation)
    ui.thresholdSlider.value = 0.25
    environment.processEvents()
    assert "Lesions that reach 0.45 nowhere are left out." in ui.thresholdLine.text
    ui.resetButton.click()
    assert "Lesions that reach 0.9 nowhere are left out." in ui.thresholdLine.text
    # Two of the four reach less, which the mask knows, too.
    assert "in 4 lesions" not in ui.summaryLabel.text
    assert ui.summaryLabel.text.split(" (")[0].endswith(("in 1 lesion", "in 2 lesions", "in 3 lesions"))


def test_files_are_loaded_and_their_roles_guessed(slicerEnvironment: Any) -> None:
    widget = drive.openPanel(slicerEnvironment)
    samples = drive.ROOT / "Resources" / "Samples" / "synthetic-patient"
    paths = [str(samples / f"{role}.nii.gz") for role in ("dwi", "adc")]
    assert slicerEnvironment.dropFiles(widget.ui.inputSection, paths)
    slicerEnvironment.waitUntil(lambda: widget.panel.parameters.adc is not None, drive.SECONDS)
    slicerEnvironment.processEvents()
    assert widget.panel.parameters.dwi.GetName() == "dwi"
    assert widget.ui.inputMessage.text.startswith("Loaded 2 volumes. Recognised: DWI, ADC")
    widget.panel.input.load([str(samples / "dwi.nii.gz")])
    slicerEnvironment.processEvents()
    assert widget.panel.parameters.adc is None
    assert "another patient: ADC" in widget.ui.inputMessage.text
    widget.panel.input.load(["/nowhere/a.nii"])
    slicerEnvironment.processEvents()
    assert widget.ui.inputMessage.text == "'a.nii' is not there."
