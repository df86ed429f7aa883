"""A result's own segments: voxels on a volume's grid into a segmentation node, and out of it again.

Own segments never share a labelmap with others: a shared one has the geometry of whoever came first, and voxels would
be resampled onto it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from strokeseg.models import LesionClass

from .placement import Matrix, matrixOf, vtkMatrixOf
from .result_nodes import CLASS_TAG, ownSegments
from .terminology import tag


def imageOf(mask: NDArray[Any], geometry: Matrix) -> Any:
    """A mask (i, j, k) as vtkOrientedImageData; `geometry` is 4x4, voxel index to RAS mm."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*(int(n) for n in mask.shape))
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(mask.shape[::-1])[:] = mask.T > 0
    image.SetImageToWorldMatrix(vtkMatrixOf(geometry))
    return image


def replaceOwnSegments(
    segmentationNode: Any, labels: NDArray[Any], geometry: Matrix, classes: Sequence[LesionClass]
) -> None:
    """Put the classes of a label map in the place of the segments that an earlier run made.

    Args:
        segmentationNode: What the user added to it is not touched.
        labels: (i, j, k), the values of the classes.
        geometry: 4x4, voxel index to RAS mm in the node's own frame.
        classes: Every one becomes a segment, an empty one where nothing was found.
    """
    for segmentId, _value in list(ownSegments(segmentationNode)):
        segmentationNode.RemoveSegment(segmentId)
    inside = segmentationNode.GetSegmentation()
    for lesionClass in classes:
        colour = [c / 255.0 for c in lesionClass.colour]
        name = lesionClass.name[:1].upper() + lesionClass.name[1:]
        wanted = inside.GenerateUniqueSegmentID(f"StrokeSeg_{lesionClass.value}")
        image = imageOf(labels == lesionClass.value, geometry)
        segmentId = segmentationNode.AddSegmentFromBinaryLabelmapRepresentation(image, name, colour, wanted)
        segment = inside.GetSegment(segmentId)
        segment.SetTag(CLASS_TAG, str(lesionClass.value))
        tag(segment, lesionClass)


def setMask(segmentationNode: Any, segmentId: str, mask: NDArray[Any], geometry: Matrix) -> None:
    """New voxels for one segment, which stays the same segment: colour, name and visibility are kept."""
    inside = segmentationNode.GetSegmentation()
    if inside.IsSharedBinaryLabelmap(segmentId):
        inside.SeparateSegmentLabelmap(segmentId)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetBinaryLabelmapToSegment(imageOf(mask, geometry), segmentationNode, segmentId, logic.MODE_REPLACE)


def ownMask(segmentationNode: Any) -> tuple[NDArray[np.uint8], Matrix] | None:
    """Where the own segments are, as they are now, edits of the user included.

    Returns:
        (i, j, k) 0 or 1, and 4x4, its index to RAS mm in the node's own frame; None where there is no own voxel.
    """
    joined: NDArray[np.uint8] | None = None
    first: Any = None
    for segmentId, _value in ownSegments(segmentationNode):
        image = slicer.vtkOrientedImageData()
        if not segmentationNode.GetBinaryLabelmapRepresentation(segmentId, image) or image.IsEmpty():
            continue
        if first is None:
            first = image
        else:
            resampled = slicer.vtkOrientedImageData()
            slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, first, resampled)
            image = resampled
        scalars = vtk_to_numpy(image.GetPointData().GetScalars())
        array = (scalars.reshape(image.GetDimensions()[::-1]).T > 0).astype(np.uint8)
        joined = array if joined is None else joined | array
    if joined is None or not joined.any():
        return None
    toWorld = vtk.vtkMatrix4x4()
    first.GetImageToWorldMatrix(toWorld)
    geometry = matrixOf(toWorld)
    # The first voxel of the array has the image's extent as its index, not 0.
    geometry[:3, 3] += geometry[:3, :3] @ np.array(first.GetExtent()[::2], dtype=np.float64)
    return joined, geometry
