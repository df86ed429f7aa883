"""Results in the scene: from the files of a run to nodes that are right in space, and back to the result before.

Only what a run of ours made is ever replaced; what the user added to the segmentation stays.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from strokeseg.errors import InputError
from strokeseg.models import ModelCard

from . import result_files, snapshots
from .lesion_table import writeRows
from .nifti_files import NiftiReading
from .placement import Matrix, ijkToLocal, localCovector, ontoGridOf, vtkMatrixOf
from .result_files import ResultFiles
from .result_nodes import (
    CURRENT,
    EARLIER,
    IMAGE,
    KIND,
    PREVIOUS,
    PROBABILITY,
    REFERENCE,
    TABLE,
    UNCERTAINTY,
    Memory,
    ResultNodes,
    resultFor,
)
from .result_volumes import paintMap
from .segments import replaceOwnSegments

_MAPS = {PROBABILITY: result_files.PROBABILITY, UNCERTAINTY: result_files.UNCERTAINTY}
# Of reading, between two turns of Slicer's loop; the bar for all that is done in one turn of a run is 50 ms.
_STEP_SECONDS = 0.01


class _Files(ResultFiles):
    """The files of a run, whose images are read a little at a time."""

    def __init__(self, result: Mapping[str, Any] | str | Path) -> None:
        super().__init__(result)
        self._images: dict[str, tuple[NDArray[Any], Matrix]] = {}

    def reading(self) -> Iterator[None]:
        """Read the images that are there; yields between pieces."""
        for name in (result_files.MASK, *_MAPS.values()):
            if self.has(name):
                reading = NiftiReading(self._paths[name], np.uint8 if name == result_files.MASK else np.float32)
                try:
                    while not reading.step(_STEP_SECONDS):
                        yield
                finally:
                    reading.close()
                self._images[name] = reading.array, reading.affine
                yield

    def onGridOf(self, volumeNode: Any, name: str) -> NDArray[Any]:
        """As of the base, of what `reading` has read."""
        if name not in self._images:
            return super().onGridOf(volumeNode, name)  # which says that it is not there
        return ontoGridOf(volumeNode, *self._images[name])


class SceneResults:
    """Puts results into a scene.

    Args:
        scene: vtkMRMLScene; None: Slicer's.
    """

    def __init__(self, scene: Any = None) -> None:
        self._scene = scene

    @property
    def scene(self) -> Any:
        """The scene that results go to."""
        return slicer.mrmlScene if self._scene is None else self._scene

    def show(
        self,
        result: Mapping[str, Any] | str | Path,
        referenceNode: Any,
        card: ModelCard,
        inputs: Mapping[str, Any] | None = None,
    ) -> ResultNodes:
        """Show a result on its reference volume; the result that was there before is kept, hidden.

        Nothing in the scene changes before all files were read and found to lie on the volume.

        Args:
            result: The worker's event ``result``, or the folder that the result was written to.
            referenceNode: The volume of the card's reference role.
            card: The model that was used.
            inputs: Role to volume node of the run; the table takes ADC and DWI from them when the threshold is moved.
                Those that were removed from the scene meanwhile are left out.

        Raises:
            InputError: A file is missing or damaged, the volume was moved since, or its transform is not rigid.
        """
        showing = self.showing(result, referenceNode, card, inputs)
        while True:
            try:
                next(showing)
            except StopIteration as shown:
                nodes: ResultNodes = shown.value
                return nodes

    def showing(
        self,
        result: Mapping[str, Any] | str | Path,
        referenceNode: Any,
        card: ModelCard,
        inputs: Mapping[str, Any] | None = None,
    ) -> Generator[None, None, ResultNodes]:
        """`show` in pieces, for whoever must not hold up Slicer while large files are read.

        Between the pieces anything may happen to the scene; all that is done to it is done in the last piece. One that
        is not wanted any more is closed, or just forgotten.

        Yields:
            Nothing, after a hundredth of a second's reading or so.
        """
        files = _Files(result)
        yield from files.reading()
        self._refuseRemoved(referenceNode)
        there = {role: node for role, node in (inputs or {}).items() if node.GetScene() is not None}
        mask = files.onGridOf(referenceNode, result_files.MASK)
        maps = {role: files.onGridOf(referenceNode, name) for role, name in _MAPS.items() if files.has(name)}
        plane = localCovector(referenceNode, *files.midplane)
        memory = Memory.ofRun(files.summary, card, tuple(float(v) for v in plane))
        lesions = files.lesions()

        nodes = resultFor(referenceNode, self.scene)
        if nodes is None:
            nodes = ResultNodes(self._newSegmentation(referenceNode))
        else:
            self._keep(nodes)
        geometry = ijkToLocal(referenceNode)
        self._place(nodes.segmentation, referenceNode)
        replaceOwnSegments(nodes.segmentation, mask, geometry, card.classes)
        memory.write(nodes.segmentation)
        self._refer(nodes.segmentation, referenceNode, {card.reference_role: referenceNode, **there})
        writeRows(self._part(nodes, TABLE, referenceNode), lesions)
        for role in _MAPS:
            self._map(nodes, role, referenceNode, maps.get(role), geometry)
        return ResultNodes.of(nodes.segmentation)

    def _refuseRemoved(self, referenceNode: Any) -> None:
        if referenceNode.GetScene() is None:
            raise InputError(
                _("The result cannot be shown."),
                _("The volume '{name}' was removed from the scene during the run.").format(
                    name=referenceNode.GetName()
                ),
                _("Load it again, and run again."),
            )

    def undo(self, nodes: ResultNodes) -> ResultNodes:
        """Show the previous result again and hide the present one in its place; undone twice, all is as before.

        Raises:
            InputError: There is no previous result.
        """
        previous = nodes.previous if nodes.alive else None
        if previous is None:
            raise InputError(
                _("There is nothing to go back to."),
                _("No earlier result on this volume is in the scene."),
                _("Run again with other settings."),
            )
        now, before = snapshots.take(nodes), snapshots.take(previous)
        snapshots.put(now, previous)
        return snapshots.put(before, nodes)

    def _keep(self, nodes: ResultNodes) -> None:
        """The result's content into the hidden one before it; only one is kept."""
        previous = nodes.previous
        if previous is None:
            name = _("{result} (previous)").format(result=nodes.segmentation.GetName())
            previous = ResultNodes(self._addSegmentation(name, EARLIER))
            previous.segmentation.GetDisplayNode().SetVisibility(False)
            nodes.segmentation.SetNodeReferenceID(PREVIOUS, previous.segmentation.GetID())
        previous = snapshots.put(snapshots.take(nodes), previous)
        for node in (previous.segmentation, *previous.parts().values()):
            self._file(node, nodes.reference)

    def _newSegmentation(self, referenceNode: Any) -> Any:
        node = self._addSegmentation(_("{volume} stroke lesions").format(volume=referenceNode.GetName()), CURRENT)
        display = node.GetDisplayNode()
        display.SetOpacity2DFill(0.4)
        display.SetOpacity2DOutline(1.0)
        return node

    def _addSegmentation(self, name: str, kind: str) -> Any:
        node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", self.scene.GenerateUniqueName(name))
        node.SetAttribute(KIND, kind)
        node.CreateDefaultDisplayNodes()
        return node

    def _place(self, node: Any, referenceNode: Any) -> None:
        """Geometry, parent transform and place in the subject hierarchy: those of the reference volume."""
        if node.IsA("vtkMRMLTransformableNode"):
            node.SetAndObserveTransformNodeID(referenceNode.GetTransformNodeID())
        if node.IsA("vtkMRMLSegmentationNode"):
            # After the transform: the geometry is kept in the node's own frame, as it is at this moment.
            node.SetReferenceImageGeometryParameterFromVolumeNode(referenceNode)
        self._file(node, referenceNode)

    def _file(self, node: Any, referenceNode: Any) -> None:
        """Beside the reference volume in the subject hierarchy, in the same study where it has one."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        if hierarchy is None:
            return
        beside = hierarchy.GetItemByDataNode(referenceNode)
        parent = hierarchy.GetItemParent(beside) if beside else hierarchy.GetSceneItemID()
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.SetItemParent(item, parent)
        else:
            hierarchy.CreateItem(parent, node)

    def _refer(self, segmentation: Any, referenceNode: Any, images: Mapping[str, Any]) -> None:
        segmentation.SetNodeReferenceID(REFERENCE, referenceNode.GetID())
        for role in ("dwi", "adc"):
            node = images.get(role)
            segmentation.SetNodeReferenceID(IMAGE + role, None if node is None else node.GetID())

    def _part(self, nodes: ResultNodes, role: str, referenceNode: Any) -> Any:
        """The table or a map of a result, made where it is not there."""
        node = nodes.segmentation.GetNodeReference(role) or snapshots.addPart(nodes, role)
        self._place(node, referenceNode)
        return node

    def _map(
        self, nodes: ResultNodes, role: str, referenceNode: Any, array: NDArray[Any] | None, geometry: Matrix
    ) -> None:
        if array is None:
            old = nodes.segmentation.GetNodeReference(role)
            if old is not None:
                self.scene.RemoveNode(old)
            return
        node = self._part(nodes, role, referenceNode)
        node.SetIJKToRASMatrix(vtkMatrixOf(geometry))
        # Before the voxels come: see there.
        paintMap(node)
        slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array.T, dtype=np.float32))
