"""Probability and uncertainty as coloured volumes: how they look, and laying one over the slices."""

from __future__ import annotations

from typing import Any

from .result_nodes import ResultNodes, nodesOf

# Dark to bright, so that more is brighter in print, too; Slicer's own list has it, the bare MRML scene has Iron only.
_COLOURS = ("vtkMRMLColorTableNodeFileInferno.txt", "vtkMRMLColorTableNodeIron")
# Below this nothing is drawn, or the map would hide the scan; both maps go from 0 to 1. In the sample patient the
# threshold rule gives 28 % of the brain outside the lesions more than 0.05, and 6 % more than this.
_LOWEST_SHOWN = 0.2


def paintMap(volumeNode: Any) -> None:
    """Colour, range 0 to 1 and see-through background for a map that has no display yet.

    Best done before the map has its voxels: as long as a display is on automatic it looks through all of them for a
    range of its own, which takes a large map a tenth of a second.
    """
    if volumeNode.GetDisplayNode() is not None:
        return
    volumeNode.CreateDefaultDisplayNodes()
    display = volumeNode.GetDisplayNode()
    scene = volumeNode.GetScene()
    known = [colour for colour in _COLOURS if scene.GetNodeByID(colour) is not None]
    if known:
        display.SetAndObserveColorNodeID(known[0])
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetAutoThreshold(False)
    display.SetThreshold(_LOWEST_SHOWN, 1.0)
    display.SetApplyThreshold(True)


def showMap(nodes: ResultNodes, kind: str = "", opacity: float = 0.5) -> None:
    """Lay a map over all slice views, or take ours away.

    Args:
        nodes: The result.
        kind: ``probability``, ``uncertainty``, or "" for none; one that is not there is none.
        opacity: 0 to 1.
    """
    maps = {"probability": nodes.probability, "uncertainty": nodes.uncertainty}
    chosen = maps.get(kind)
    ours = {node.GetID() for node in maps.values() if node is not None}
    for composite in nodesOf("vtkMRMLSliceCompositeNode", nodes.segmentation.GetScene()):
        if chosen is not None:
            composite.SetForegroundVolumeID(chosen.GetID())
            composite.SetForegroundOpacity(opacity)
        elif composite.GetForegroundVolumeID() in ours:
            composite.SetForegroundVolumeID(None)
