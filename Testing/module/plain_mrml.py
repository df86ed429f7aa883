"""Volumes, transforms and results for tests of what needs no widget, and where VTK says that things are."""

from __future__ import annotations

import importlib
import json
import sys
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.lesions import find_lesions, lesions_csv, total_volume_ml
from strokeseg.volume import write_nifti

MODULE = Path(__file__).parents[2] / "StrokeSegModule"
ALL_48 = tuple(product(permutations(range(3)), product((False, True), repeat=3)))
# Turned about three axes, 1.7 x 2.3 x 4.1 mm: a mistake in any axis, sign or offset moves what is on it.
OBLIQUE = np.array(
    [
        [1.6237, -0.6405, 0.5706, -61.25],
        [0.4556, 2.1795, -0.6263, -48.5],
        [-0.2131, 0.3749, 4.0117, 17.75],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
PLAIN = np.diag([2.0, 2.0, 3.0, 1.0])


class _Panel:
    """The panel's parts by name, imported when they are used: not before the double of Slicer was started."""

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(f"StrokeSegLib.{name}")


panel = _Panel()


def start() -> None:
    """What the module does when Slicer starts."""
    if str(MODULE) not in sys.path:
        sys.path.insert(0, str(MODULE))
    panel.engine_path.add()
    panel.terminology.loadTerminologies()


def stored(array: NDArray[Any], affine: NDArray[Any], number: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same voxels at the same places, stored in another of the 48 orders."""
    axes, flips = ALL_48[number]
    change = np.zeros((4, 4))
    change[3, 3] = 1.0
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        change[old, new] = -1.0 if flip else 1.0
        change[old, 3] = array.shape[old] - 1.0 if flip else 0.0
    turned = array.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    return np.ascontiguousarray(turned), affine @ change


def addVolume(name: str, array: NDArray[Any], affine: NDArray[Any], transform: Any = None) -> Any:
    """A scalar volume node with these voxels (i, j, k); `affine` is without its parent transform."""
    node = slicer.util.addVolumeFromArray(np.ascontiguousarray(array.T), ijkToRAS=affine, name=name)
    if transform is not None:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def addRigid(turn: tuple[float, float, float], shiftMm: tuple[float, float, float], parent: Any = None) -> Any:
    """A transform node: degrees about R, A and S, then a shift."""
    transform = vtk.vtkTransform()
    transform.Translate(*shiftMm)
    for degrees, about in zip(turn, (transform.RotateX, transform.RotateY, transform.RotateZ), strict=True):
        about(degrees)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(transform.GetMatrix())
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def toWorld(node: Any) -> NDArray[np.float64]:
    """What VTK says a node's parent transforms do, 4x4."""
    general = vtk.vtkGeneralTransform()
    if node.GetParentTransformNode() is not None:
        node.GetParentTransformNode().GetTransformToWorld(general)
    origin = np.array(general.TransformPoint(0.0, 0.0, 0.0))
    matrix = np.eye(4)
    for axis in range(3):
        matrix[:3, axis] = np.array(general.TransformPoint(*np.eye(3)[axis])) - origin
    matrix[:3, 3] = origin
    return matrix


def writeResult(
    folder: Path,
    mask: NDArray[Any],
    affine: NDArray[Any],
    probability: NDArray[Any] | None = None,
    threshold: float = 0.5,
    rule: str = "threshold",
    uncertainty: bool = False,
    own_threshold: float = 0.5,
    own_peak: float = 0.0,
) -> list[Any]:
    """The files of a run that found `mask`, written as the engine writes them; its lesions."""
    folder.mkdir()
    probability = np.where(mask > 0, 0.75, 0.25) if probability is None else probability
    plane = ((1.0, 0.0, 0.0), 0.0)
    _labels, lesions = find_lesions(mask, affine, probability=probability, brain=probability > 0, midplane=plane)
    write_nifti(folder / "lesion_mask.nii.gz", mask, affine, dtype=np.uint8)
    write_nifti(folder / "lesion_probability.nii.gz", probability, affine, dtype=np.float32)
    if uncertainty:
        write_nifti(folder / "uncertainty.nii.gz", probability, affine, dtype=np.float32)
    (folder / "lesions.csv").write_text(lesions_csv(lesions), encoding="utf-8", newline="")
    summary = {
        "strokeseg_version": "0.1.0",
        "model": {
            "name": "adc-threshold", "title": "rule", "version": "1.0.0", "rule": rule,
            "threshold": threshold, "own_threshold": own_threshold, "own_peak": own_peak, "minimum_lesion_ml": 0.0,
        },
        "midplane": {"normal_ras": list(plane[0]), "offset_mm": plane[1], "quality": 1.0},
        "result": {"volume_ml": total_volume_ml(lesions)},
        "findings": [{"code": "adc_unit", "numbers": {"median": 800.0, "factor": 1e-3}}],
        "warnings": [{"code": "x", "message": "Ärzte: sagt \"dies\"; & <das>."}],
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return lesions


def segmentVoxels(segmentation: Any, segmentId: str) -> NDArray[np.float64]:
    """RAS mm (n, 3) of a segment's voxels in the world, from VTK's own image and transforms."""
    image = slicer.vtkOrientedImageData()
    assert segmentation.GetBinaryLabelmapRepresentation(segmentId, image)
    if image.IsEmpty():
        return np.empty((0, 3))
    scalars = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    where = np.argwhere(scalars.reshape(image.GetDimensions()[::-1]))[:, ::-1] + np.array(image.GetExtent()[::2])
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    local = toWorld(segmentation) @ slicer.util.arrayFromVTKMatrix(matrix)
    return where @ local[:3, :3].T + local[:3, 3]


def clusters(points: NDArray[np.float64], spacingMm: float) -> list[NDArray[np.float64]]:
    """Centroids of the groups of points that lie within `spacingMm` of each other, largest group first."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    graph = cKDTree(points).sparse_distance_matrix(cKDTree(points), spacingMm, output_type="coo_matrix")
    count, label = connected_components(graph, directed=False)
    groups = [points[label == n] for n in range(count)]
    return [g.mean(axis=0) for g in sorted(groups, key=len, reverse=True)]


def saveAndLoad(folder: Path, keep: bool = False) -> None:
    """Save the scene with its data, empty it (unless `keep`), and load it again."""
    folder.mkdir()
    assert slicer.mrmlScene.SaveSceneToSlicerDataBundleDirectory(str(folder))
    if not keep:
        slicer.mrmlScene.Clear(False)
    slicer.mrmlScene.SetURL(str(next(folder.glob("*.mrml"))))
    assert slicer.mrmlScene.Import()


def smooth(shape: tuple[int, ...], seed: int, width: float) -> NDArray[np.float32]:
    """A smooth random map from 0 to 1, always the same."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), width)
    return ((noise - noise.min()) / (noise.max() - noise.min())).astype(np.float32)
