"""The table of lesions: columns, order, and from a row to the lesion in the slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plain_mrml as mrml
import pytest
import slicer

from strokeseg.lesions import Lesion
from strokeseg.models import ModelStore

panel = mrml.panel
CARD = ModelStore().card("adc-threshold")


@pytest.fixture(autouse=True)
def _slicer(slicerEnvironment: Any) -> None:
    mrml.start()


def lesion(label: int, volume: float, side: str | None, adc: float | None, hint: str = "") -> Lesion:
    place = (10.0 * label, -2.0, 3.25)
    return Lesion(label, volume, 10, place, side, (1.0, 1.0, 1.0), adc, adc, adc and 0.1, 210.0, 0.7, hint)


THREE = [
    lesion(1, 12.5, "right", 0.5),
    lesion(2, 0.43219, "left", None, 'Low in the brain (10% of its height),\ton "average" 4.5 mm: look, please.'),
    lesion(3, 0.1, "right", 0.4),
]


def filled(lesions: list[Lesion]) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "table")
    panel.lesion_table.writeRows(node, lesions)
    return node


def column(node: Any, name: str) -> list[Any]:
    return [row[name] for row in panel.lesion_table.readRows(node)]


def test_rows_hold_what_the_engine_said() -> None:
    row = panel.lesion_table.readRows(filled(THREE))[0]
    assert row == {
        "label": 1,
        "volume_ml": 12.5,
        "side": "right",
        "adc_mean_1e-3_mm2_per_s": 0.5,
        "adc_min_1e-3_mm2_per_s": 0.5,
        "adc_below_0.62_ml": 0.1,
        "probability_mean": 0.7,
        "hint": "",
        "dwi_mean": 210.0,
        "voxels": 10,
        "centroid_r_mm": 10.0,
        "centroid_a_mm": -2.0,
        "centroid_s_mm": 3.2,
    }


def test_the_reader_sees_titles_with_units_and_three_digits_of_a_ml() -> None:
    node = filled(THREE)
    assert node.GetColumnTitle("volume_ml") == "Volume (ml)"
    assert node.GetColumnTitle("adc_mean_1e-3_mm2_per_s") == "ADC mean"
    assert node.GetColumnUnitLabel("adc_mean_1e-3_mm2_per_s") == "10⁻³ mm²/s"
    assert node.GetCellText(1, 1) == "0.432"
    assert node.GetUseColumnTitleAsColumnHeader()


def test_totals_are_those_of_the_rows() -> None:
    assert panel.lesion_table.totals(filled(THREE)) == {
        "count": 3,
        "volume_ml": pytest.approx(13.032),
        "left": pytest.approx(0.432),
        "right": pytest.approx(12.6),
        "midline": 0.0,
    }


def test_sorting_stays_and_what_is_not_known_comes_last() -> None:
    node = filled(THREE)
    assert column(node, "label") == [1, 2, 3]
    panel.lesion_table.sortBy(node, "adc_mean_1e-3_mm2_per_s")
    assert column(node, "label") == [3, 1, 2]
    assert column(node, "side") == ["right", "right", "left"]
    panel.lesion_table.sortBy(node, "adc_mean_1e-3_mm2_per_s", descending=True)
    assert column(node, "label") == [1, 3, 2]
    panel.lesion_table.sortBy(node, "hint", descending=True)
    assert column(node, "label") == [2, 1, 3]
    panel.lesion_table.sortBy(node, "volume_ml")
    panel.lesion_table.writeRows(node, THREE)
    assert column(node, "volume_ml") == [0.1, 0.432, 12.5]
    assert panel.lesion_table.sortOrder(node) == ("volume_ml", False)
    with pytest.raises(KeyError):
        panel.lesion_table.sortBy(node, "nonsense")


def test_sorting_an_empty_table_is_no_error() -> None:
    node = filled([])
    panel.lesion_table.sortBy(node, "volume_ml", descending=True)
    assert panel.lesion_table.readRows(node) == []


def test_hint_and_order_survive_saving_and_loading(tmp_path: Path) -> None:
    node = filled(THREE)
    panel.lesion_table.sortBy(node, "volume_ml")
    rows = panel.lesion_table.readRows(node)
    mrml.saveAndLoad(tmp_path / "saved")
    loaded = slicer.util.getNodesByClass("vtkMRMLTableNode")[0]
    assert panel.lesion_table.readRows(loaded) == rows
    assert rows[1]["hint"] == "Low in the brain (10% of its height), on 'average' 4.5 mm: look, please."
    assert panel.lesion_table.sortOrder(loaded) == ("volume_ml", False)
    assert column(loaded, "adc_mean_1e-3_mm2_per_s") == [0.4, None, 0.5]


def twoLesions() -> Any:
    mask = np.zeros((9, 9, 8), np.uint8)
    mask[1:4, 1:3, 1] = 1
    mask[6:8, 6, 5:7] = 1
    return mask


def result(tmp_path: Path, transform: Any = None) -> Any:
    node = mrml.addVolume("DWI", twoLesions().astype(np.float32), mrml.OBLIQUE, transform)
    mrml.writeResult(tmp_path / "result", twoLesions(), mrml.toWorld(node) @ mrml.OBLIQUE)
    return panel.results.SceneResults().show(tmp_path / "result", node, CARD), node


def highlight() -> Any:
    return panel.lesion_table.highlightNode()


@pytest.mark.parametrize("moved", [False, True])
def test_a_click_brings_all_slices_to_the_lesion_and_outlines_it_alone(tmp_path: Path, moved: bool) -> None:
    nodes, node = result(tmp_path, mrml.addRigid((4.0, 61.0, -6.0), (3.0, 9.0, -14.0)) if moved else None)
    inWorld = mrml.toWorld(node) @ mrml.OBLIQUE
    views = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", n) for n in ("Red", "Green", "Yellow")]
    for view, orient in zip(views, ("Axial", "Coronal", "Sagittal"), strict=True):
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
        view.SetOrientation(orient)
    # By hand: rows 1..3, 1..2, 1 have their centroid at (2, 1.5, 1), the other at (6.5, 6, 5.5).
    for row, index in ((0, (2.0, 1.5, 1.0)), (1, (6.5, 6.0, 5.5))):
        centre = inWorld[:3, :3] @ np.array(index) + inWorld[:3, 3]
        assert panel.lesion_table.jumpTo(nodes, row)
        for view, axis in zip(views, (2, 1, 0), strict=True):
            assert view.GetSliceToRAS().GetElement(axis, 3) == pytest.approx(centre[axis], abs=0.06)
        voxels = mrml.segmentVoxels(highlight(), "lesion")
        np.testing.assert_allclose(voxels.mean(axis=0), centre, atol=0.01)
        assert len(voxels) == (6, 4)[row]
        assert highlight().GetSegmentation().GetNumberOfSegments() == 1
    assert not highlight().GetDisplayNode().GetVisibility2DFill()
    panel.lesion_table.clearHighlight()
    assert highlight().GetSegmentation().GetNumberOfSegments() == 0


def test_the_highlight_is_in_no_list_and_no_saved_scene(tmp_path: Path) -> None:
    nodes, _node = result(tmp_path)
    panel.lesion_table.jumpTo(nodes, 0)
    assert highlight().GetHideFromEditors()
    assert [r.segmentation for r in panel.result_nodes.results()] == [nodes.segmentation]
    mrml.saveAndLoad(tmp_path / "saved")
    assert highlight() is None
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1
    assert panel.lesion_table.jumpTo(panel.result_nodes.results()[0], 1)


def test_a_sorted_row_leads_to_its_own_lesion(tmp_path: Path) -> None:
    nodes, _node = result(tmp_path)
    panel.lesion_table.sortBy(nodes.table, "volume_ml")
    panel.lesion_table.jumpTo(nodes, 0)
    assert len(mrml.segmentVoxels(highlight(), "lesion")) == 4


def test_an_erased_lesion_lights_up_no_other(tmp_path: Path) -> None:
    nodes, _node = result(tmp_path)
    only = twoLesions()
    only[6:8] = 0
    panel.segments.setMask(
        nodes.segmentation, next(panel.result_nodes.ownSegments(nodes.segmentation))[0], only, mrml.OBLIQUE
    )
    assert panel.lesion_table.jumpTo(nodes, 0)
    assert not panel.lesion_table.jumpTo(nodes, 1)
    assert highlight().GetSegmentation().GetNumberOfSegments() == 0


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_is_not_there_is_no_error(tmp_path: Path, row: int) -> None:
    nodes, _node = result(tmp_path)
    assert not panel.lesion_table.jumpTo(nodes, row)


def test_a_click_after_the_table_or_the_scene_is_gone_does_nothing(tmp_path: Path) -> None:
    nodes, _node = result(tmp_path)
    slicer.mrmlScene.RemoveNode(nodes.table)
    assert not panel.lesion_table.jumpTo(nodes, 0)
    slicer.mrmlScene.Clear(False)
    assert not panel.lesion_table.jumpTo(nodes, 0)
    panel.lesion_table.clearHighlight()
