"""A result's content apart from its nodes: taken from one result, put into another. Undo is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from .result_nodes import (
    IMAGE,
    KIND,
    MEMORY,
    PART,
    PARTS,
    PROBABILITY,
    REFERENCE,
    TABLE,
    UNCERTAINTY,
    ResultNodes,
    ownSegments,
)
from .result_volumes import paintMap


@dataclass
class Snapshot:
    """What a result held, in nodes that are in no scene.

    Attributes:
        segments: Id to vtkSegment.
        memory: The segmentation node's memory of the run.
        references: Role to node id of scans.
        parts: Reference role to (node, name).
        transformId: Of the parent transform.
        geometry: Of the reference grid in the segmentation node's own frame, as Slicer writes it.
    """

    segments: dict[str, Any]
    memory: str
    references: dict[str, str | None]
    parts: dict[str, Any]
    transformId: str | None
    geometry: str


def take(nodes: ResultNodes) -> Snapshot:
    """The content of a result; only own segments."""
    segments = {}
    for segmentId, _value in ownSegments(nodes.segmentation):
        segments[segmentId] = slicer.vtkSegment()
        segments[segmentId].DeepCopy(nodes.segmentation.GetSegmentation().GetSegment(segmentId))
    parts = {}
    for role, node in nodes.parts().items():
        parts[role] = node.CreateNodeInstance()
        parts[role].CopyContent(node)
    scans = (REFERENCE, IMAGE + "dwi", IMAGE + "adc")
    return Snapshot(
        segments,
        nodes.segmentation.GetAttribute(MEMORY) or "",
        {role: nodes.segmentation.GetNodeReferenceID(role) for role in scans},
        parts,
        nodes.segmentation.GetTransformNodeID(),
        nodes.segmentation.GetSegmentation().GetConversionParameter(
            slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
        ),
    )


def put(snapshot: Snapshot, nodes: ResultNodes) -> ResultNodes:
    """Replace the content of a result by that of another one; parts are made or removed as needed."""
    segmentation, scene = nodes.segmentation, nodes.segmentation.GetScene()
    for segmentId, _value in list(ownSegments(segmentation)):
        segmentation.RemoveSegment(segmentId)
    for segmentId, segment in snapshot.segments.items():
        segmentation.GetSegmentation().AddSegment(segment, segmentId)
    segmentation.SetAttribute(MEMORY, snapshot.memory)
    for role, nodeId in snapshot.references.items():
        segmentation.SetNodeReferenceID(role, nodeId)
    segmentation.SetAndObserveTransformNodeID(snapshot.transformId)
    # Not from the reference volume, which may have been moved since: voxels and geometry belong together.
    geometry = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    segmentation.GetSegmentation().SetConversionParameter(geometry, snapshot.geometry)
    segmentation.SetNodeReferenceID(
        segmentation.GetReferenceImageGeometryReferenceRole(), snapshot.references[REFERENCE]
    )
    for role in PARTS:
        node, wanted = segmentation.GetNodeReference(role), snapshot.parts.get(role)
        if wanted is None:
            if node is not None:
                scene.RemoveNode(node)
            continue
        if node is None:
            node = addPart(nodes, role)
        if node.IsA("vtkMRMLVolumeNode"):
            node.SetAndObserveTransformNodeID(snapshot.transformId)
            paintMap(node)
        node.CopyContent(wanted)
    return ResultNodes.of(segmentation)


def addPart(nodes: ResultNodes, role: str) -> Any:
    """A new table or map for a result."""
    scene = nodes.segmentation.GetScene()
    names = {TABLE: _("{result} table"), PROBABILITY: _("{result} probability"), UNCERTAINTY: _("{result} uncertainty")}
    name = names[role].format(result=nodes.segmentation.GetName())
    node = scene.AddNewNodeByClass(PARTS[role], scene.GenerateUniqueName(name))
    node.SetAttribute(KIND, PART)
    nodes.segmentation.SetNodeReferenceID(role, node.GetID())
    return node
