"""The overlay of a run lies where the engine found the lesions, however the scans are stored, placed and moved."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import panel_driver as drive
import plain_mrml as mrml
import pytest
import slicer
from numpy.typing import NDArray
from stroke_phantom import StrokePhantom, stroke_phantom

from strokeseg import Case, segment

NUMBERS = range(48)
SOME = NUMBERS if os.environ.get("STROKESEG_SOAK") else sorted(random.Random(3).sample(NUMBERS, 8))
MODEL = "adc-threshold"
GRID: dict[str, Any] = {"shape": (44, 46, 28), "spacing_mm": (4.0, 4.4, 6.4)}
OBLIQUE = stroke_phantom(**GRID)
TILTED = stroke_phantom(**GRID, slice_turn_degrees=(31.0, -27.0, 40.0))
STRAIGHT = stroke_phantom(**GRID, slice_turn_degrees=(0.0, 0.0, 0.0))
# What lies between the ADC map and the DWI where they were not scanned in one go.
APART = np.array([[1.0, 0.0, 0.0, 1.5], [0.0, 1.0, 0.0, -2.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])


def assertSame(seen: NDArray[Any], wanted: NDArray[Any], what: str) -> None:
    """Points in mm, within the 0.1 mm that an overlay may be off."""
    apart = float(np.linalg.norm(np.asarray(seen) - np.asarray(wanted), axis=-1).max())
    assert apart < 0.1, f"{what}: {apart:.3f} mm apart"


class Room:
    """The panel, and what a run through it shows."""

    def __init__(self, environment: Any) -> None:
        self.environment, self.widget = environment, drive.openPanel(environment)

    def run(self, dwi: Any, adc: Any) -> Any:
        """Choose, press Run, and wait; the nodes of the result."""
        widget = self.widget
        widget.panel.parameters.model = MODEL
        widget.panel.parameters.dwi, widget.panel.parameters.adc = dwi, adc
        self.environment.processEvents()
        assert widget.ui.runButton.enabled, widget.ui.reasonLabel.text
        widget.ui.runButton.click()
        drive.finish(self.environment, widget)
        assert widget.panel.logic.run.error is None, widget.panel.logic.run.error
        return widget.panel.result.nodes


def lesionsShown(nodes: Any, phantom: StrokePhantom) -> NDArray[np.float64]:
    """Centroids (n, 3) of the lesions in the world, by the segmentation node's own geometry, largest first."""
    ((segmentId, _value),) = mrml.panel.result_nodes.ownSegments(nodes.segmentation)
    diagonal = float(np.linalg.norm(np.sqrt((phantom.affine[:3, :3] ** 2).sum(axis=0))))
    return np.array(mrml.clusters(mrml.segmentVoxels(nodes.segmentation, segmentId), diagonal + 0.01))


def lesionsFound(folder: Path, scans: dict[str, tuple[Any, Any]]) -> NDArray[np.float64]:
    """Centroids (n, 3) in RAS mm that the engine gives for scans (array, affine) without any Slicer, largest first."""
    for role, (array, affine) in scans.items():
        image = nib.Nifti1Image(np.ascontiguousarray(array), affine)
        image.set_sform(affine, 1)
        nib.save(image, folder / f"{role}.nii")
    files: dict[str, Any] = {role: folder / f"{role}.nii" for role in scans}
    found = segment(Case.from_files(**files), model=MODEL)
    return np.array([lesion.centroid_ras_mm for lesion in found.lesions])


def inTable(nodes: Any) -> NDArray[np.float64]:
    columns = ("centroid_r_mm", "centroid_a_mm", "centroid_s_mm")
    rows = mrml.panel.lesion_table.readRows(nodes.table)
    return np.array([[row[c] for c in columns] for row in rows])


def moved(matrix: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def nodeOf(phantom: StrokePhantom, role: str, number: int, transform: Any = None) -> tuple[Any, Any, Any]:
    """A scan stored in one of the 48 orders under a transform: its node, its voxels and its own affine."""
    array, affine = mrml.stored(getattr(phantom, role), phantom.affine, number)
    return mrml.addVolume(f"{role} {number}", array, affine, transform), array, affine


def test_the_overlay_is_where_the_engine_says_in_every_orientation(slicerEnvironment: Any, tmp_path: Path) -> None:
    room = Room(slicerEnvironment)
    truth = np.argwhere(OBLIQUE.right) @ OBLIQUE.affine[:3, :3].T + OBLIQUE.affine[:3, 3]
    handed = set()
    for number in SOME:
        # The ADC map is stored in another order than the DWI.
        dwi, dwiArray, dwiAffine = nodeOf(OBLIQUE, "dwi", number)
        adc, adcArray, adcAffine = nodeOf(OBLIQUE, "adc", 47 - number)
        handed.add(np.linalg.det(dwiAffine[:3, :3]) > 0)
        expected = lesionsFound(tmp_path, {"dwi": (dwiArray, dwiAffine), "adc": (adcArray, adcAffine)})

        nodes = room.run(dwi, adc)

        assertSame(lesionsShown(nodes, OBLIQUE), expected, f"orientation {number}")
        assert np.abs(inTable(nodes) - expected).max() <= 0.0501  # it shows one decimal
        assert np.linalg.norm(lesionsShown(nodes, OBLIQUE)[0] - truth.mean(axis=0)) < 4.0
        slicer.mrmlScene.Clear(False)
        slicerEnvironment.processEvents()
    assert handed == {True, False}


@pytest.mark.parametrize("phantom", [STRAIGHT, TILTED], ids=["straight", "steep"])
@pytest.mark.parametrize("number", [0, 29])
def test_the_overlay_is_right_on_straight_and_on_steep_slices(
    slicerEnvironment: Any, tmp_path: Path, phantom: StrokePhantom, number: int
) -> None:
    dwi, dwiArray, dwiAffine = nodeOf(phantom, "dwi", number)
    adc, adcArray, adcAffine = nodeOf(phantom, "adc", number)
    expected = lesionsFound(tmp_path, {"dwi": (dwiArray, dwiAffine), "adc": (adcArray, adcAffine)})
    nodes = Room(slicerEnvironment).run(dwi, adc)
    assertSame(lesionsShown(nodes, phantom), expected, "slices")


def test_the_overlay_is_where_the_engine_says_moved_by_the_transform(slicerEnvironment: Any, tmp_path: Path) -> None:
    shift = mrml.addRigid((0.0, 0.0, 0.0), (40.0, -25.0, 30.0))
    dwi, dwiArray, dwiAffine = nodeOf(OBLIQUE, "dwi", 7, shift)
    adc, adcArray, adcAffine = nodeOf(OBLIQUE, "adc", 22, shift)
    # The engine sees the scans without the transform, so that its answer is the same but for the shift.
    expected = lesionsFound(tmp_path, {"dwi": (dwiArray, dwiAffine), "adc": (adcArray, adcAffine)})
    nodes = Room(slicerEnvironment).run(dwi, adc)
    assertSame(lesionsShown(nodes, OBLIQUE), expected + np.array([40.0, -25.0, 30.0]), "shifted")
    # Without the transform it lies where the engine's own coordinates are.
    for node in (dwi, nodes.segmentation):
        node.SetAndObserveTransformNodeID(None)
    assertSame(lesionsShown(nodes, OBLIQUE), expected, "taken out of the transform")


@pytest.mark.parametrize("place", ["under one", "under two", "under different ones"])
def test_the_overlay_follows_rigid_transforms(slicerEnvironment: Any, tmp_path: Path, place: str) -> None:
    outer = mrml.addRigid((14.0, -21.0, 33.0), (12.0, -8.0, 30.0))
    inner = mrml.addRigid((-5.0, 17.0, 3.0), (-40.0, 2.5, 7.0), outer)
    above = {"under one": (outer, outer), "under two": (inner, inner), "under different ones": (inner, outer)}[place]
    dwi, dwiArray, dwiAffine = nodeOf(OBLIQUE, "dwi", 11, above[0])
    adc, adcArray, adcAffine = nodeOf(OBLIQUE, "adc", 30, above[1])
    toWorld = mrml.toWorld(dwi)
    if place == "under different ones":  # on the same brain all the same, but for 2.7 mm
        own = np.linalg.inv(mrml.toWorld(adc)) @ APART @ toWorld @ adcAffine
        adc.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(own))
        adcAffine = own
    # Handed to the engine by files whose headers hold what VTK says of the transforms.
    inWorld = {"dwi": (dwiArray, toWorld @ dwiAffine), "adc": (adcArray, mrml.toWorld(adc) @ adcAffine)}
    expected = lesionsFound(tmp_path, inWorld)

    nodes = Room(slicerEnvironment).run(dwi, adc)

    assertSame(lesionsShown(nodes, OBLIQUE), expected, place)
    assert np.abs(inTable(nodes) - expected).max() <= 0.0501
    truth = moved(toWorld @ OBLIQUE.affine, np.argwhere(OBLIQUE.right)).mean(axis=0)
    assert np.linalg.norm(expected[0] - truth) < 4.0
    # The result goes with its scan when the transform is changed afterwards.
    later = slicer.util.arrayFromTransformMatrix(outer)
    later[:3, 3] += (5.0, 0.0, -3.0)
    slicer.util.updateTransformMatrixFromArray(outer, later)
    assertSame(lesionsShown(nodes, OBLIQUE), expected + np.array([5.0, 0.0, -3.0]), f"{place}, moved afterwards")
