"""Running again keeps the result before, hidden; a click brings it back, and another click the new one."""

from __future__ import annotations

from typing import Any

import numpy as np
import panel_driver as drive
import plain_mrml as mrml
import pytest


@pytest.fixture
def twice(slicerEnvironment: Any) -> Any:
    """The panel after two runs: the second on an ADC map that shows lesions of half the size."""
    import slicer

    widget = drive.openPanel(slicerEnvironment)
    drive.tryIt(slicerEnvironment, widget)
    first = seen(widget)
    assert not widget.ui.undoButton.enabled
    # A segment of the user's own, which no run may touch.
    widget.panel.result.nodes.segmentation.GetSegmentation().AddEmptySegment("mine", "mine")
    adc = widget.panel.parameters.adc
    array = slicer.util.arrayFromVolume(adc)
    array[array.shape[0] // 2 :] = np.where((array > 0.0) & (array < 0.62), np.float32(0.75), array)[
        array.shape[0] // 2 :
    ]
    slicer.util.arrayFromVolumeModified(adc)
    widget.panel.refresh()
    widget.ui.runButton.click()
    drive.finish(slicerEnvironment, widget)
    assert widget.panel.logic.run.error is None
    return slicerEnvironment, widget, first, seen(widget)


def seen(widget: Any) -> tuple[Any, ...]:
    """All that a reader of the result can see of it."""
    nodes = widget.panel.result.nodes
    ((segmentId, _value),) = mrml.panel.result_nodes.ownSegments(nodes.segmentation)
    voxels = mrml.segmentVoxels(nodes.segmentation, segmentId)
    probability = mrml.panel.placement.arrayOf(nodes.probability)
    rows = mrml.panel.lesion_table.readRows(nodes.table)
    return (
        widget.ui.summaryLabel.text,
        len(voxels),
        voxels.sum(axis=0).round(3).tolist(),
        float(probability.sum(dtype=np.float64)),
        [row["volume_ml"] for row in rows],
    )


def press(environment: Any, widget: Any) -> tuple[Any, ...]:
    """Click "back to the result before"; what is seen then."""
    widget.ui.undoButton.click()
    environment.processEvents(0.05)
    return seen(widget)


def visible() -> list[str]:
    """Names of the segmentations that are shown."""
    import slicer

    found = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [n.GetName() for n in found if n.GetDisplayNode() is not None and n.GetDisplayNode().GetVisibility()]


def test_a_click_brings_the_result_before_back_and_another_the_new_one(twice: Any) -> None:
    environment, widget, first, second = twice
    assert first[1] > second[1] > 0
    assert widget.ui.undoButton.enabled
    assert press(environment, widget) == first
    assert press(environment, widget) == second


def test_the_result_before_is_kept_hidden_and_in_no_list(twice: Any) -> None:
    environment, widget, _first, _second = twice
    nodes = widget.panel.result.nodes
    for _click in range(2):
        assert "synthetic DWI stroke lesions" in visible()
        assert not nodes.previous.segmentation.GetDisplayNode().GetVisibility()
        assert widget.ui.resultCombo.count == 1
        assert not mrml.panel.roles.guessAll([nodes.previous.probability, nodes.probability])
        press(environment, widget)
    # A third run replaces the hidden one: one is kept, not a pile.
    count = len(mrml.panel.result_nodes.nodesOf("vtkMRMLSegmentationNode"))
    widget.ui.runButton.click()
    drive.finish(environment, widget)
    assert len(mrml.panel.result_nodes.nodesOf("vtkMRMLSegmentationNode")) == count


def test_what_the_user_drew_stays_through_run_and_undo(twice: Any) -> None:
    environment, widget, _first, _second = twice
    segmentation = widget.panel.result.nodes.segmentation.GetSegmentation()
    assert segmentation.GetSegment("mine") is not None
    press(environment, widget)
    assert segmentation.GetSegment("mine") is not None


def test_threshold_and_table_belong_to_the_result_that_is_shown(twice: Any) -> None:
    environment, widget, first, second = twice
    widget.ui.thresholdSlider.value = 0.9
    environment.processEvents(0.05)
    moved = seen(widget)
    assert moved[1] < second[1]
    assert press(environment, widget) == first
    assert widget.ui.thresholdSlider.value == 0.5
    widget.ui.thresholdSlider.value = 0.8
    environment.processEvents(0.05)
    assert 0 < seen(widget)[1] < first[1]
    assert press(environment, widget) == moved
    assert widget.ui.thresholdSlider.value == pytest.approx(0.9)
    widget.ui.resetButton.click()
    assert seen(widget)[:3] == second[:3]


def test_there_is_no_way_back_while_a_run_goes_on(twice: Any) -> None:
    environment, widget, _first, second = twice
    widget.ui.runButton.click()
    environment.processEvents(0.02)
    assert widget.panel.logic.run.busy
    assert not widget.ui.undoButton.enabled
    widget.ui.runButton.click()
    drive.finish(environment, widget)
    # A cancelled run has kept nothing and changed nothing.
    assert seen(widget) == second
    assert widget.ui.undoButton.enabled


def test_the_way_back_is_there_after_the_scene_was_saved_and_loaded(twice: Any, tmp_path: Any) -> None:
    environment, widget, first, second = twice
    mrml.saveAndLoad(tmp_path / "scene")
    environment.processEvents(0.05)
    assert seen(widget) == second
    assert widget.ui.undoButton.enabled
    assert press(environment, widget) == first
