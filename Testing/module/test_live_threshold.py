"""The threshold slider: the engine's decision, in the scene, at once; from nodes alone."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plain_mrml as mrml
import pytest
import slicer

from strokeseg.errors import InputError
from strokeseg.models import ModelStore
from strokeseg.relabel import Evidence, relabel

panel = mrml.panel
CARD = ModelStore().card("adc-threshold")
SHAPE = (20, 24, 16)
PLANE = ((1.0, 0.0, 0.0), 0.0)


@pytest.fixture(autouse=True)
def _slicer(slicerEnvironment: Any) -> None:
    mrml.start()


def brainMap(shape: tuple[int, ...] = SHAPE) -> Any:
    """A smooth map that is 0 outside of an ellipsoid."""
    axes = [np.linspace(-1.15, 1.15, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return np.where(x**2 + y**2 + z**2 < 1, np.maximum(mrml.smooth(shape, 3, 1.5), 1e-3), 0.0).astype(np.float32)


def shown(tmp_path: Path, transform: Any = None, number: int = 11, **kinds: Any) -> Any:
    """A result at 0.5 on a node stored in another orientation than the result, with its ADC."""
    probability = brainMap()
    array, affine = mrml.stored(probability, mrml.OBLIQUE, number)
    node = mrml.addVolume("DWI", array * 100, affine, transform)
    adc = mrml.addVolume("ADC", 1500.0 - array * 1000, affine, transform)
    inWorld = mrml.toWorld(node) @ mrml.OBLIQUE
    mrml.writeResult(tmp_path / "result", (probability >= 0.5).astype(np.uint8), inWorld, probability, **kinds)
    return panel.results.SceneResults().show(tmp_path / "result", node, CARD, {"dwi": node, "adc": adc})


def evidence(nodes: Any, transform: Any = None) -> Evidence:
    probability = brainMap()
    affine = (mrml.toWorld(nodes.segmentation) if transform is not None else np.eye(4)) @ mrml.OBLIQUE
    images = {"adc": (1.5 - probability).astype(np.float32), "dwi": probability * 100}
    return Evidence("x", probability, probability > 0, affine, PLANE, 0.0, images)


def voxelCount(nodes: Any) -> int:
    return len(mrml.segmentVoxels(nodes.segmentation, next(panel.result_nodes.ownSegments(nodes.segmentation))[0]))


@pytest.mark.parametrize("threshold", [0.35, 0.5, 0.65])
@pytest.mark.parametrize("moved", [False, True])
def test_the_slider_shows_what_the_engine_would_find(tmp_path: Path, threshold: float, moved: bool) -> None:
    transform = mrml.addRigid((4.0, 11.0, -6.0), (3.0, 9.0, -14.0)) if moved else None
    nodes = shown(tmp_path, transform)
    expected = relabel(evidence(nodes, transform), threshold=threshold, min_lesion_ml=0.3).lesions
    assert expected

    lesions = panel.threshold.LiveThreshold(nodes).apply(threshold, 0.3)

    assert len(lesions) == len(expected)
    for seen, wanted in zip(lesions, expected, strict=True):
        assert (seen.voxels, seen.side, bool(seen.hint)) == (wanted.voxels, wanted.side, bool(wanted.hint))
        np.testing.assert_allclose(seen.centroid_ras_mm, wanted.centroid_ras_mm, atol=0.01)
        for name in ("volume_ml", "adc_mean", "adc_min", "adc_below_062_ml", "dwi_mean", "probability_mean"):
            assert getattr(seen, name) == pytest.approx(getattr(wanted, name), rel=1e-4), name
    assert [row["voxels"] for row in panel.lesion_table.readRows(nodes.table)] == [x.voxels for x in expected]
    voxels = mrml.segmentVoxels(nodes.segmentation, next(panel.result_nodes.ownSegments(nodes.segmentation))[0])
    assert len(voxels) == sum(x.voxels for x in expected)
    centre = np.average([x.centroid_ras_mm for x in expected], axis=0, weights=[x.voxels for x in expected])
    np.testing.assert_allclose(voxels.mean(axis=0), centre, atol=0.01)


def test_the_smallest_lesion_is_counted_in_ml() -> None:
    probability = np.full((9, 9, 9), 0.1, np.float32)
    probability[1, 1, 1] = 0.9
    probability[4:6, 4:6, 4:6] = 0.9
    affine = np.diag([5.0, 5.0, 5.0, 1.0])  # a voxel of 0.125 ml, the cube has 1 ml
    model = panel.threshold.ThresholdModel(probability, affine)
    assert [x.voxels for x in model.lesions(0.5, 0.0)] == [8, 1]
    assert [x.voxels for x in model.lesions(0.5, 0.125)] == [8, 1]
    assert [x.voxels for x in model.lesions(0.5, 0.126)] == [8]
    assert [x.voxels for x in model.lesions(0.5, 1.01)] == []
    assert model.mask(0.5, 0.5).sum() == 8
    assert model.mask(0.95, 0.0).sum() == 0
    np.testing.assert_allclose(model.lesions(0.5, 0.5)[0].centroid_ras_mm, (22.5, 22.5, 22.5))


def test_nothing_outside_the_brain_becomes_lesion_at_threshold_zero() -> None:
    probability = np.zeros((6, 6, 6), np.float32)
    probability[2:4, 2:4, 2:4] = 0.2
    assert panel.threshold.ThresholdModel(probability, np.eye(4)).mask(0.0, 0.0).sum() == 8
    assert panel.threshold.ThresholdModel(np.zeros((6, 6, 6), np.float32), np.eye(4)).mask(0.0, 0.0).sum() == 0


def test_reset_goes_back_to_the_models_own_numbers(tmp_path: Path) -> None:
    nodes = shown(tmp_path, threshold=0.4)
    live = panel.threshold.LiveThreshold(nodes)
    live.apply(0.7, 0.2)
    assert (live.memory.threshold, live.memory.minimum_ml) == (0.7, 0.2)
    live.reset()
    assert (live.memory.threshold, live.memory.minimum_ml) == (CARD.decision.threshold, CARD.minimum_lesion_ml)
    assert (live.memory.threshold, live.memory.minimum_ml) == (0.5, 0.08)


def test_the_segment_stays_the_same_segment(tmp_path: Path) -> None:
    nodes = shown(tmp_path)
    inside = nodes.segmentation.GetSegmentation()
    segmentId = next(panel.result_nodes.ownSegments(nodes.segmentation))[0]
    inside.GetSegment(segmentId).SetColor(0.1, 0.2, 0.3)
    inside.GetSegment(segmentId).SetName("mine")
    nodes.segmentation.GetDisplayNode().SetSegmentOpacity2DFill(segmentId, 0.2)
    count = slicer.mrmlScene.GetNumberOfNodes()
    panel.threshold.LiveThreshold(nodes).apply(0.6, 0.0)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert inside.GetNumberOfSegments() == 1
    assert inside.GetSegment(segmentId).GetColor() == (0.1, 0.2, 0.3)
    assert inside.GetSegment(segmentId).GetName() == "mine"
    assert nodes.segmentation.GetDisplayNode().GetSegmentOpacity2DFill(segmentId) == 0.2


def test_a_3d_view_follows_the_slider(tmp_path: Path) -> None:
    nodes = shown(tmp_path)
    assert nodes.segmentation.CreateClosedSurfaceRepresentation()
    segmentId = next(panel.result_nodes.ownSegments(nodes.segmentation))[0]

    def surface() -> int:
        return nodes.segmentation.GetClosedSurfaceInternalRepresentation(segmentId).GetNumberOfPoints()

    before = surface()
    panel.threshold.LiveThreshold(nodes).apply(0.7, 0.0)
    assert 0 < surface() < before


def test_segments_of_the_user_on_the_same_labelmap_do_not_change(tmp_path: Path) -> None:
    nodes = shown(tmp_path)
    mine = np.zeros((4, 4, 4), np.uint8)
    mine[1:3, 1:3, 1:3] = 1
    image = panel.segments.imageOf(mine, mrml.OBLIQUE)
    nodes.segmentation.AddSegmentFromBinaryLabelmapRepresentation(image, "mine", (0, 1, 0), "mine")
    nodes.segmentation.GetSegmentation().CollapseBinaryLabelmaps(True)
    before = mrml.segmentVoxels(nodes.segmentation, "mine")
    found = panel.threshold.LiveThreshold(nodes).apply(0.3, 0.0)
    assert voxelCount(nodes) == sum(x.voxels for x in found)
    np.testing.assert_array_equal(
        np.sort(mrml.segmentVoxels(nodes.segmentation, "mine"), axis=0), np.sort(before, axis=0)
    )


@pytest.mark.parametrize("moved", [False, True])
def test_the_slider_is_alive_after_the_scene_was_saved_and_loaded(tmp_path: Path, moved: bool) -> None:
    transform = mrml.addRigid((4.0, 11.0, -6.0), (3.0, 9.0, -14.0)) if moved else None
    nodes = shown(tmp_path, transform)
    wanted = panel.threshold.LiveThreshold(nodes).apply(0.62, 0.1)
    panel.threshold.LiveThreshold(nodes).apply(0.5, 0.0)

    mrml.saveAndLoad(tmp_path / "saved")

    live = panel.threshold.LiveThreshold(panel.result_nodes.results()[0])
    assert live.whyNot() == ""
    assert live.memory.threshold == 0.5
    seen = live.apply(0.62, 0.1)
    assert len(seen) == len(wanted)
    for a, b in zip(seen, wanted, strict=True):
        assert (a.voxels, a.side) == (b.voxels, b.side)
        np.testing.assert_allclose(a.centroid_ras_mm, b.centroid_ras_mm, atol=0.01)
        assert a.adc_mean == pytest.approx(b.adc_mean, rel=1e-5)


def test_sides_and_places_follow_a_scan_that_is_moved_afterwards(tmp_path: Path) -> None:
    nodes = shown(tmp_path)
    live = panel.threshold.LiveThreshold(nodes)
    before = live.apply(0.6, 0.1)
    turn = mrml.addRigid((0.0, 0.0, 180.0), (0.0, 0.0, 10.0))
    for node in (nodes.reference, nodes.segmentation, nodes.probability, nodes.image("adc")):
        node.SetAndObserveTransformNodeID(turn.GetID())
    after = live.apply(0.6, 0.1)
    assert [(x.voxels, x.side) for x in sorted(after, key=lambda x: x.voxels)] == [
        (x.voxels, x.side) for x in sorted(before, key=lambda x: x.voxels)
    ]
    r, a, s = before[0].centroid_ras_mm
    np.testing.assert_allclose(after[0].centroid_ras_mm, (-r, -a, s + 10.0), atol=0.01)


def test_an_adc_on_another_grid_is_sampled_where_the_lesion_lies(tmp_path: Path) -> None:
    nodes = shown(tmp_path)
    coarse = np.full((30, 36, 24), 900.0, np.float32)
    affine = mrml.OBLIQUE.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array([4.3, 5.1, 3.7])
    other = mrml.addVolume("ADC 2", coarse, affine)
    nodes.segmentation.SetNodeReferenceID("StrokeSeg.image.adc", other.GetID())
    lesions = panel.threshold.LiveThreshold(nodes).apply(0.5, 0.0)
    assert lesions[0].adc_mean == pytest.approx(0.9)


@pytest.mark.parametrize("gone", ["segmentation", "probability", "scene", "segment"])
def test_the_slider_says_why_it_cannot_move(tmp_path: Path, gone: str) -> None:
    nodes = shown(tmp_path)
    live = panel.threshold.LiveThreshold(nodes)
    live.apply(0.6, 0.0)
    if gone == "scene":
        slicer.mrmlScene.Clear(False)
    elif gone == "segment":
        nodes.segmentation.GetSegmentation().RemoveAllSegments()
    else:
        slicer.mrmlScene.RemoveNode(getattr(nodes, gone))
    with pytest.raises(InputError) as caught:
        live.apply(0.5, 0.0)
    assert "deleted" in caught.value.cause
    assert caught.value.next_step
    if gone != "segment":
        assert live.whyNot() == caught.value.cause


def test_a_model_with_several_classes_has_no_slider(tmp_path: Path) -> None:
    nodes = shown(tmp_path, rule="argmax")
    assert "several classes" in panel.threshold.LiveThreshold(nodes).whyNot()


def test_a_cascade_has_a_slider_and_goes_back_to_what_the_case_decided(tmp_path: Path) -> None:
    live = panel.threshold.LiveThreshold(shown(tmp_path, rule="cascade", own_threshold=0.4))
    assert live.whyNot() == ""
    assert live.memory.model_threshold == 0.4


def test_the_peak_of_a_model_moves_with_the_slider(tmp_path: Path) -> None:
    nodes = shown(tmp_path, own_threshold=0.6, own_peak=0.8)
    live = panel.threshold.LiveThreshold(nodes)
    assert (live.memory.model_threshold, live.memory.model_peak) == (0.6, 0.8)
    kept = replace(evidence(nodes), own_threshold=0.6, own_peak=0.8)
    counts = []
    for threshold in (0.3, 0.6, 0.75):
        expected = relabel(kept, threshold=threshold, min_lesion_ml=0.0).lesions
        assert [x.voxels for x in live.apply(threshold, 0.0)] == [x.voxels for x in expected]
        counts.append((len(expected), len(relabel(evidence(nodes), threshold=threshold, min_lesion_ml=0.0).lesions)))
    assert any(with_peak < without for with_peak, without in counts)
    # A scene that was saved by an earlier version knows of no peak.
    known = json.loads(nodes.segmentation.GetAttribute(panel.result_nodes.MEMORY))
    del known["model_peak"]
    nodes.segmentation.SetAttribute(panel.result_nodes.MEMORY, json.dumps(known))
    assert panel.threshold.LiveThreshold(nodes).memory.model_peak == 0.0


def test_a_segmentation_of_somebody_else_has_no_slider() -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert "not made by StrokeSeg" in panel.threshold.LiveThreshold(panel.result_nodes.ResultNodes.of(node)).whyNot()


def test_a_deleted_table_is_made_again_and_a_deleted_scan_leaves_its_columns_empty(tmp_path: Path) -> None:
    nodes = shown(tmp_path)
    slicer.mrmlScene.RemoveNode(nodes.table)
    slicer.mrmlScene.RemoveNode(nodes.image("adc"))
    slicer.mrmlScene.RemoveNode(nodes.reference)
    lesions = panel.threshold.LiveThreshold(nodes).apply(0.6, 0.0)
    rows = panel.lesion_table.readRows(panel.result_nodes.ResultNodes.of(nodes.segmentation).table)
    assert len(rows) == len(lesions) > 0
    assert rows[0]["adc_mean_1e-3_mm2_per_s"] is None
    assert rows[0]["probability_mean"] > 0.6


def test_moving_the_slider_takes_the_highlight_away(tmp_path: Path) -> None:
    nodes = shown(tmp_path)
    assert panel.lesion_table.jumpTo(nodes, 0)
    highlight = panel.lesion_table.highlightNode()
    assert highlight.GetSegmentation().GetNumberOfSegments() == 1
    panel.threshold.LiveThreshold(nodes).apply(0.6, 0.0)
    assert highlight.GetSegmentation().GetNumberOfSegments() == 0


def test_a_number_outside_its_range_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    nodes = shown(tmp_path)
    live, before = panel.threshold.LiveThreshold(nodes), voxelCount(nodes)
    for threshold, minimum in ((1.2, 0.0), (0.3, -1.0)):
        with pytest.raises(InputError):
            live.apply(threshold, minimum)
    assert voxelCount(nodes) == before
    assert live.memory.threshold == 0.5


def test_the_slider_answers_while_it_is_moved(tmp_path: Path) -> None:
    """112 x 112 x 73 voxels; the aim is 100 ms, ten times that is a mistake."""
    probability = brainMap((112, 112, 73))
    node = mrml.addVolume("DWI", probability, mrml.PLAIN)
    mrml.writeResult(tmp_path / "result", (probability >= 0.8).astype(np.uint8), mrml.PLAIN, probability)
    live = panel.threshold.LiveThreshold(panel.results.SceneResults().show(tmp_path / "result", node, CARD))
    live.prepare()
    start = time.perf_counter()
    live.apply(0.75, 0.08)
    assert time.perf_counter() - start < 1.0
