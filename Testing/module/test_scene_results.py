"""Results in Slicer's scene: right in space in every orientation, replaced and taken back, saved and loaded."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import plain_mrml as mrml
import pytest
import slicer
from stroke_phantom import stroke_phantom

from strokeseg.errors import InputError
from strokeseg.models import ModelStore

NUMBERS = range(48)
SOME = NUMBERS if os.environ.get("STROKESEG_SOAK") else sorted(random.Random(5).sample(NUMBERS, 6))

panel = mrml.panel
CARD = ModelStore().card("adc-threshold")
SHAPE = (7, 9, 8)


@pytest.fixture(autouse=True)
def _slicer(slicerEnvironment: Any) -> None:
    mrml.start()


def twoLesions() -> Any:
    """One of 5 voxels, L-shaped, and one of a single voxel, at places that no flip or exchange of axes keeps."""
    mask = np.zeros(SHAPE, np.uint8)
    for voxel in ((1, 2, 1), (2, 2, 1), (3, 2, 1), (3, 3, 1), (3, 4, 1), (5, 6, 6)):
        mask[voxel] = 1
    return mask


def world(affine: Any, index: tuple[float, float, float]) -> Any:
    return affine[:3, :3] @ np.array(index) + affine[:3, 3]


def shown(tmp_path: Path, mask: Any, affine: Any = mrml.OBLIQUE, transform: Any = None, **kinds: Any) -> Any:
    """A result whose mask lies on a new volume node; `affine` without the parent transform."""
    node = mrml.addVolume("DWI", mask.astype(np.float32), affine, transform)
    mrml.writeResult(tmp_path / "result", mask, mrml.toWorld(node) @ affine, **kinds)
    return panel.results.SceneResults().show(tmp_path / "result", node, CARD), node


def lesionSegment(nodes: Any) -> str:
    return next(i for i, value in panel.result_nodes.ownSegments(nodes.segmentation) if value == 1)


def assertOverlayIsAt(nodes: Any, mask: Any, affine: Any) -> None:
    """Every voxel of the segment is where a voxel of the mask is in the world, and none is missing."""
    expected = np.argwhere(mask > 0) @ affine[:3, :3].T + affine[:3, 3]
    seen = mrml.segmentVoxels(nodes.segmentation, lesionSegment(nodes))
    assert len(seen) == len(expected)
    order = lambda p: p[np.lexsort(np.round(p, 2).T)]  # noqa: E731
    np.testing.assert_allclose(order(seen), order(expected), atol=2e-3)


@pytest.mark.parametrize("affine", [mrml.PLAIN, mrml.OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("turned", [False, True], ids=["no transform", "under two rigid transforms"])
def test_a_voxel_is_where_it_was_found_in_all_48_orientations(tmp_path: Path, affine: Any, turned: bool) -> None:
    rng = random.Random(7)
    mask = twoLesions()
    for number in NUMBERS:
        outer = mrml.addRigid((20.0, -35.0, 50.0), (12.0, -8.0, 30.0)) if turned else None
        transform = mrml.addRigid((-5.0, 80.0, 3.0), (-40.0, 2.5, 7.0), outer) if turned else None
        inNode, nodeAffine = mrml.stored(mask, affine, number)
        node = mrml.addVolume(f"DWI {number}", inNode.astype(np.float32), nodeAffine, transform)
        # The result comes in another order than the node has: programs number the voxels of one scan differently.
        inFile, fileAffine = mrml.stored(mask, mrml.toWorld(node) @ affine, rng.randrange(48))
        lesions = mrml.writeResult(tmp_path / str(number), inFile, fileAffine)

        nodes = panel.results.SceneResults().show(tmp_path / str(number), node, CARD)

        inWorld = mrml.toWorld(node) @ affine
        assertOverlayIsAt(nodes, mask, inWorld)
        # By hand: the L of (1..3, 2, 1), (3, 3, 1), (3, 4, 1) has its centroid at (2.4, 2.6, 1).
        for centre, by_hand, lesion in zip(
            mrml.clusters(mrml.segmentVoxels(nodes.segmentation, lesionSegment(nodes)), 4.7),
            ((2.4, 2.6, 1.0), (5.0, 6.0, 6.0)),
            lesions,
            strict=True,
        ):
            np.testing.assert_allclose(centre, world(inWorld, by_hand), atol=0.01)
            np.testing.assert_allclose(lesion.centroid_ras_mm, centre, atol=0.1)
        rows = panel.lesion_table.readRows(nodes.table)
        for row, lesion in zip(rows, lesions, strict=True):
            seen = [row[c] for c in ("centroid_r_mm", "centroid_a_mm", "centroid_s_mm")]
            np.testing.assert_allclose(seen, lesion.centroid_ras_mm, atol=0.0501)
        # The probability volume lies on the scan, voxel by voxel.
        values = panel.placement.arrayOf(nodes.probability)
        np.testing.assert_array_equal(values > 0.5, inNode > 0)
        np.testing.assert_allclose(
            panel.placement.ijkToWorld(nodes.probability), panel.placement.ijkToWorld(node), atol=1e-9
        )
        slicer.mrmlScene.Clear(False)


def worldMirror(phantom: Any, role: str, number: int, transform: Any) -> Any:
    """The phantom's scan as a node under a transform, so that its place in the world is the phantom's."""
    array, affine = mrml.stored(getattr(phantom, role), phantom.affine, number)
    node = mrml.addVolume(role, array, affine, transform)
    if transform is not None:
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.linalg.inv(mrml.toWorld(node)) @ affine))
    return node


@pytest.mark.parametrize("number", SOME)
def test_lesions_of_a_real_run_lie_where_the_engine_says(tmp_path: Path, number: int) -> None:
    from strokeseg.job import SegmentJob, SegmentOptions, run_segment

    phantom = stroke_phantom(shape=(44, 46, 28), spacing_mm=(4.0, 4.4, 6.4))
    outer = mrml.addRigid((4.0, 11.0, -6.0), (3.0, 9.0, -14.0))
    transform = mrml.addRigid((0.0, -7.0, 9.0), (25.0, -3.0, 6.0), outer)
    # DWI and ADC are stored differently and lie under different transforms.
    inputs = {"dwi": worldMirror(phantom, "dwi", number, transform)}
    inputs["adc"] = worldMirror(phantom, "adc", 47 - number, outer if number % 2 else None)
    for role, node in inputs.items():
        panel.exchange.writeVolume(node, tmp_path / f"{role}.nii")
    files = {role: str(tmp_path / f"{role}.nii") for role in inputs}
    done = run_segment(SegmentJob(files, tmp_path / "out", SegmentOptions(model="adc-threshold")), _monitor())

    nodes = panel.results.SceneResults().show(tmp_path / "out", inputs["dwi"], CARD, inputs)

    lesions = done.result.lesions
    assert lesions
    voxels = mrml.segmentVoxels(nodes.segmentation, lesionSegment(nodes))
    centres = mrml.clusters(voxels, float(np.linalg.norm((4.0, 4.4, 6.4))) + 0.01)
    assert len(centres) == len(lesions)
    for centre, lesion in zip(centres, lesions, strict=True):
        np.testing.assert_allclose(centre, lesion.centroid_ras_mm, atol=0.1)
    # The large infarct is on the right, at a place that is known without the engine.
    truth = np.argwhere(phantom.right) @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]
    assert np.linalg.norm(centres[0] - truth.mean(axis=0)) < 4.0
    assert panel.lesion_table.readRows(nodes.table)[0]["side"] == "right"


def _monitor() -> Any:
    from strokeseg.events import Monitor

    return Monitor()


def test_a_sheared_volume_gets_its_overlay_in_the_right_place(tmp_path: Path) -> None:
    sheared = mrml.OBLIQUE.copy()
    sheared[:3, 2] += 0.35 * sheared[:3, 1]
    nodes, _node = shown(tmp_path, twoLesions(), sheared)
    assertOverlayIsAt(nodes, twoLesions(), sheared)


@pytest.mark.parametrize("spoil", ["scale", "mirror", "shear", "warp"])
def test_a_transform_that_is_not_rigid_is_refused_with_the_step_that_helps(tmp_path: Path, spoil: str) -> None:
    node = mrml.addVolume("DWI", twoLesions().astype(np.float32), mrml.PLAIN)
    mrml.writeResult(tmp_path / "result", twoLesions(), mrml.PLAIN)
    if spoil == "warp":
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
    else:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bent")
        matrix = np.eye(4)
        matrix[0, 0], matrix[0, 1] = {"scale": (1.01, 0.0), "mirror": (-1.0, 0.0), "shear": (1.0, 0.1)}[spoil]
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError) as caught:
        panel.results.SceneResults().show(tmp_path / "result", node, CARD)
    assert "bent" in caught.value.cause
    assert "Harden" in caught.value.next_step
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_a_volume_that_was_moved_during_the_run_is_refused_and_nothing_is_shown(tmp_path: Path) -> None:
    node = mrml.addVolume("DWI", twoLesions().astype(np.float32), mrml.PLAIN)
    mrml.writeResult(tmp_path / "result", twoLesions(), mrml.PLAIN)
    node.SetAndObserveTransformNodeID(mrml.addRigid((0.0, 0.0, 0.0), (0.2, 0.0, 0.0)).GetID())
    with pytest.raises(InputError, match=r"0\.2 mm"):
        panel.results.SceneResults().show(tmp_path / "result", node, CARD)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_a_result_of_another_volume_is_refused(tmp_path: Path) -> None:
    node = mrml.addVolume("DWI", np.zeros((7, 9, 7), np.float32), mrml.PLAIN)
    mrml.writeResult(tmp_path / "result", twoLesions(), mrml.PLAIN)
    with pytest.raises(InputError, match="7 x 9 x 8"):
        panel.results.SceneResults().show(tmp_path / "result", node, CARD)


@pytest.mark.parametrize("name", ["lesion_mask.nii.gz", "lesion_probability.nii.gz", "lesions.csv", "summary.json"])
def test_a_damaged_result_changes_nothing_in_the_scene(tmp_path: Path, name: str) -> None:
    nodes, node = shown(tmp_path, twoLesions())
    before = mrml.segmentVoxels(nodes.segmentation, lesionSegment(nodes))
    (tmp_path / "result" / name).write_bytes(b"label\n1\n")
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(InputError):
        panel.results.SceneResults().show(tmp_path / "result", node, CARD)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    np.testing.assert_array_equal(mrml.segmentVoxels(nodes.segmentation, lesionSegment(nodes)), before)


def test_segment_has_class_colour_and_code(tmp_path: Path) -> None:
    nodes, _node = shown(tmp_path, twoLesions())
    segment = nodes.segmentation.GetSegmentation().GetSegment(lesionSegment(nodes))
    assert segment.GetName() == "Acute ischaemic lesion"
    np.testing.assert_allclose(segment.GetColor(), np.array([220, 50, 47]) / 255)
    entry = panel.result_nodes.tagOf(segment, segment.GetTerminologyEntryTagName())
    assert entry == (
        "Segmentation category and type - StrokeSeg~SCT^49755003^Morphologically Altered Structure"
        "~SCT^55641003^Infarct~^^~Anatomic codes - StrokeSeg~SCT^12738006^Brain~^^"
    )
    logic, parsed = slicer.modules.terminologies.logic(), slicer.vtkSlicerTerminologyEntry()
    assert logic.DeserializeTerminologyEntry(entry, parsed)
    assert parsed.GetTypeObject().GetCodeMeaning() == "Infarct"
    assert parsed.GetRegionObject().GetCodeMeaning() == "Brain"


def test_slicer_finds_the_infarct_in_our_terminology() -> None:
    logic = slicer.modules.terminologies.logic()
    assert logic.IsTerminologyContextLoaded(panel.terminology.TYPES)
    assert logic.GetNumberOfRegionsInRegionContext(panel.terminology.REGIONS) == 4


def test_everything_is_filed_beside_the_scan(tmp_path: Path) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    node = mrml.addVolume("DWI", twoLesions().astype(np.float32), mrml.PLAIN)
    study = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "study")
    if not hierarchy.GetItemByDataNode(node):
        hierarchy.CreateItem(study, node)
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    mrml.writeResult(tmp_path / "result", twoLesions(), mrml.PLAIN, uncertainty=True)
    for _run in range(2):
        nodes = panel.results.SceneResults().show(tmp_path / "result", node, CARD)
    for each in (nodes, nodes.previous):
        for part in (each.segmentation, each.table, each.probability, each.uncertainty):
            assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(part)) == study


def test_running_again_keeps_the_previous_result_hidden_and_undo_brings_it_back(tmp_path: Path) -> None:
    first, second = twoLesions(), np.roll(twoLesions(), 1, axis=1)
    nodes, node = shown(tmp_path, first, uncertainty=True)
    again = tmp_path / "again"
    mrml.writeResult(again, second, mrml.OBLIQUE, threshold=0.25)

    now = panel.results.SceneResults().show(again, node, CARD)

    assert now.segmentation is nodes.segmentation
    assertOverlayIsAt(now, second, mrml.OBLIQUE)
    assertOverlayIsAt(now.previous, first, mrml.OBLIQUE)
    assert not now.previous.segmentation.GetDisplayNode().GetVisibility()
    assert now.segmentation.GetDisplayNode().GetVisibility()
    assert now.uncertainty is None
    assert now.previous.uncertainty is not None
    assert panel.result_nodes.resultFor(node).segmentation is now.segmentation

    back = panel.results.SceneResults().undo(now)

    assert back.segmentation is nodes.segmentation
    assertOverlayIsAt(back, first, mrml.OBLIQUE)
    assertOverlayIsAt(back.previous, second, mrml.OBLIQUE)
    assert panel.result_nodes.Memory.read(back.segmentation).threshold == 0.5
    assert panel.result_nodes.Memory.read(back.previous.segmentation).threshold == 0.25
    np.testing.assert_array_equal(panel.placement.arrayOf(back.probability) > 0.5, first > 0)
    assert back.uncertainty is not None
    assert back.previous.uncertainty is None
    centre = world(mrml.OBLIQUE, (2.4, 2.6, 1.0))
    row = panel.lesion_table.readRows(back.table)[0]
    seen = [row["centroid_r_mm"], row["centroid_a_mm"], row["centroid_s_mm"]]
    np.testing.assert_allclose(seen, centre, atol=0.051)

    assertOverlayIsAt(panel.results.SceneResults().undo(back), second, mrml.OBLIQUE)


def test_only_one_previous_result_is_kept(tmp_path: Path) -> None:
    _nodes, node = shown(tmp_path, twoLesions())
    for _run in range(3):
        panel.results.SceneResults().show(tmp_path / "result", node, CARD)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 2
    assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == 2


def test_undo_without_an_earlier_result_says_so(tmp_path: Path) -> None:
    nodes, _node = shown(tmp_path, twoLesions())
    with pytest.raises(InputError, match="nothing to go back to"):
        panel.results.SceneResults().undo(nodes)


@pytest.mark.parametrize("spoil", ["same grid", "finer grid"])
def test_segments_of_the_user_survive_a_run_and_do_not_move_ours(tmp_path: Path, spoil: str) -> None:
    nodes, node = shown(tmp_path, twoLesions())
    mine = np.zeros(SHAPE, np.uint8)
    mine[2:6, 2:7, 1:7] = 1
    geometry = mrml.OBLIQUE.copy()
    if spoil == "finer grid":
        mine = np.kron(mine, np.ones((2, 2, 2), np.uint8))
        geometry[:3, :3] /= 2
        geometry[:3, 3] -= geometry[:3, :3] @ np.full(3, 0.5)
    nodes.segmentation.AddSegmentFromBinaryLabelmapRepresentation(
        panel.segments.imageOf(mine, geometry), "mine", (0, 1, 0), "mine"
    )
    nodes.segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    before = mrml.segmentVoxels(nodes.segmentation, "mine")
    second = np.roll(twoLesions(), 1, axis=0)
    mrml.writeResult(tmp_path / "again", second, mrml.OBLIQUE)

    now = panel.results.SceneResults().show(tmp_path / "again", node, CARD)

    assertOverlayIsAt(now, second, mrml.OBLIQUE)
    after = mrml.segmentVoxels(now.segmentation, "mine")
    np.testing.assert_allclose(np.sort(after, axis=0), np.sort(before, axis=0), atol=1e-3)
    panel.results.SceneResults().undo(now)
    assert len(mrml.segmentVoxels(now.segmentation, "mine")) == len(before)


def test_another_volume_gets_a_result_of_its_own(tmp_path: Path) -> None:
    first, _node = shown(tmp_path, twoLesions())
    other = mrml.addVolume("other", np.zeros(SHAPE, np.float32), mrml.OBLIQUE)
    second = panel.results.SceneResults().show(tmp_path / "result", other, CARD)
    assert second.segmentation is not first.segmentation
    assert second.previous is None
    assert len(panel.result_nodes.results()) == 2


def test_a_result_without_lesions_is_an_empty_segment_and_an_empty_table(tmp_path: Path) -> None:
    nodes, _node = shown(tmp_path, np.zeros(SHAPE, np.uint8))
    assert len(mrml.segmentVoxels(nodes.segmentation, lesionSegment(nodes))) == 0
    assert panel.lesion_table.readRows(nodes.table) == []
    assert panel.lesion_table.totals(nodes.table)["volume_ml"] == 0.0
    assert panel.segments.ownMask(nodes.segmentation) is None


@pytest.mark.parametrize("keep", [False, True], ids=["into an empty scene", "beside what is there"])
def test_result_and_undo_live_on_after_the_scene_was_saved_and_loaded(tmp_path: Path, keep: bool) -> None:
    outer = mrml.addRigid((20.0, -35.0, 50.0), (12.0, -8.0, 30.0))
    nodes, node = shown(tmp_path, twoLesions(), mrml.OBLIQUE, outer, uncertainty=True)
    inWorld = mrml.toWorld(node) @ mrml.OBLIQUE
    second = np.roll(twoLesions(), 1, axis=0)
    mrml.writeResult(tmp_path / "again", second, inWorld)
    panel.results.SceneResults().show(tmp_path / "again", node, CARD)
    rows = panel.lesion_table.readRows(nodes.table)

    mrml.saveAndLoad(tmp_path / "saved", keep)

    loaded = panel.result_nodes.results()
    assert len(loaded) == (2 if keep else 1)
    for each in loaded:
        assertOverlayIsAt(each, second, inWorld)
        assertOverlayIsAt(each.previous, twoLesions(), inWorld)
    again = loaded[-1]
    assert panel.lesion_table.readRows(again.table) == rows
    assert again.reference.GetName().startswith("DWI")
    assert again.previous.segmentation.GetScene() is slicer.mrmlScene
    memory = panel.result_nodes.Memory.read(again.segmentation)
    assert memory.warnings == ('Ärzte: sagt "dies"; & <das>.',)
    assert memory.adc_factor == 1e-3
    segment = again.segmentation.GetSegmentation().GetSegment(lesionSegment(again))
    assert "55641003" in panel.result_nodes.tagOf(segment, segment.GetTerminologyEntryTagName())
    assertOverlayIsAt(panel.results.SceneResults().undo(again), twoLesions(), inWorld)
    # Found again by its volume: the next run goes into it.
    shutil.rmtree(tmp_path / "saved")
    assert (
        panel.results.SceneResults().show(tmp_path / "again", again.reference, CARD).segmentation is again.segmentation
    )


def test_the_first_result_under_a_transform_is_saved_and_loaded_voxel_by_voxel(tmp_path: Path) -> None:
    outer = mrml.addRigid((20.0, -35.0, 50.0), (12.0, -8.0, 30.0))
    nodes, node = shown(tmp_path, twoLesions(), mrml.OBLIQUE, outer)
    # In the node's own frame, as Segment Editor and the file writer take it.
    kept = nodes.segmentation.GetSegmentation().GetConversionParameter("Reference image geometry").split(";")
    np.testing.assert_allclose(np.array(kept[:16], float).reshape(4, 4), mrml.OBLIQUE, atol=1e-9)
    assert kept[16:22] == ["0", "6", "0", "8", "0", "7"]
    inWorld = mrml.toWorld(node) @ mrml.OBLIQUE
    mrml.saveAndLoad(tmp_path / "saved")
    assertOverlayIsAt(panel.result_nodes.results()[0], twoLesions(), inWorld)


def test_the_previous_result_stays_whole_when_the_scan_is_moved_before_it_is_saved(tmp_path: Path) -> None:
    _nodes, node = shown(tmp_path, twoLesions())
    node.SetAndObserveTransformNodeID(mrml.addRigid((20.0, -35.0, 50.0), (12.0, -8.0, 30.0)).GetID())
    moved = mrml.toWorld(node) @ mrml.OBLIQUE
    mrml.writeResult(tmp_path / "again", twoLesions(), moved)
    now = panel.results.SceneResults().show(tmp_path / "again", node, CARD)
    assertOverlayIsAt(now, twoLesions(), moved)
    assertOverlayIsAt(now.previous, twoLesions(), mrml.OBLIQUE)
    mrml.saveAndLoad(tmp_path / "saved")
    loaded = panel.result_nodes.results()[0]
    assertOverlayIsAt(loaded, twoLesions(), moved)
    assertOverlayIsAt(loaded.previous, twoLesions(), mrml.OBLIQUE)
    assertOverlayIsAt(panel.results.SceneResults().undo(loaded), twoLesions(), mrml.OBLIQUE)


def test_deleted_nodes_are_made_again_by_the_next_run(tmp_path: Path) -> None:
    nodes, node = shown(tmp_path, twoLesions())
    slicer.mrmlScene.RemoveNode(nodes.table)
    slicer.mrmlScene.RemoveNode(nodes.probability)
    left = panel.result_nodes.ResultNodes.of(nodes.segmentation)
    assert left.table is None
    assert left.probability is None
    now = panel.results.SceneResults().show(tmp_path / "result", node, CARD)
    assert len(panel.lesion_table.readRows(now.table)) == 2
    assert now.probability is not None
    slicer.mrmlScene.RemoveNode(now.segmentation)
    assert not now.alive
    assert panel.result_nodes.resultFor(node) is None
    fresh = panel.results.SceneResults().show(tmp_path / "result", node, CARD)
    assertOverlayIsAt(fresh, twoLesions(), mrml.OBLIQUE)


def test_a_closed_scene_leaves_no_result_and_undo_refuses(tmp_path: Path) -> None:
    nodes, node = shown(tmp_path, twoLesions())
    panel.results.SceneResults().show(tmp_path / "result", node, CARD)
    slicer.mrmlScene.Clear(False)
    assert not nodes.alive
    assert panel.result_nodes.results() == []
    with pytest.raises(InputError):
        panel.results.SceneResults().undo(nodes)


def test_maps_are_laid_over_the_slices_and_taken_away(tmp_path: Path) -> None:
    nodes, _node = shown(tmp_path, twoLesions())
    composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    panel.result_volumes.showMap(nodes, "probability", 0.3)
    assert composite.GetForegroundVolumeID() == nodes.probability.GetID()
    assert composite.GetForegroundOpacity() == 0.3
    panel.result_volumes.showMap(nodes, "uncertainty")
    assert composite.GetForegroundVolumeID() is None
    assert nodes.probability.GetDisplayNode().GetLevel() == 0.5
    assert nodes.probability.GetDisplayNode().GetLowerThreshold() == 0.2


def test_a_result_of_the_worker_is_shown_as_that_of_its_folder(tmp_path: Path) -> None:
    from dataclasses import asdict

    node = mrml.addVolume("DWI", twoLesions().astype(np.float32), mrml.OBLIQUE)
    lesions = mrml.writeResult(tmp_path / "result", twoLesions(), mrml.OBLIQUE)
    files = {path.name: str(path) for path in (tmp_path / "result").iterdir()}
    import json

    summary = json.loads((tmp_path / "result" / "summary.json").read_text(encoding="utf-8"))
    event = {"event": "result", "files": files, "summary": summary}
    event["lesions"] = json.loads(json.dumps([asdict(x) for x in lesions]))
    rows = panel.lesion_table.readRows(panel.results.SceneResults().show(event, node, CARD).table)
    assert rows == panel.lesion_table.readRows(panel.results.SceneResults().show(tmp_path / "result", node, CARD).table)
    assert [row["voxels"] for row in rows] == [5, 1]
