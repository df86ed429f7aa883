"""How a result looks: the display node holds it, so that Slicer's other modules and a saved scene agree."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from .result_nodes import ResultNodes, nodesOf
from .result_volumes import showMap

_KINDS = ("", "probability", "uncertainty")
_SEGMENT_EDITOR = "SegmentEditor"


class DisplayControls:
    """Show, fill, outline, opacity, 3D, maps, and the way to the Segment Editor.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._nodes: ResultNodes | None = None
        self._filling = False

    def connect(self) -> None:
        """Connect the widgets."""
        for text in (_("none"), _("probability"), _("uncertainty")):
            self._ui.mapCombo.addItem(text)
        self._ui.mapOpacitySlider.value = 0.5
        for name in ("showCheck", "fillCheck", "outlineCheck"):
            getattr(self._ui, name).connect("toggled(bool)", self._onLooks)
        self._ui.opacitySlider.connect("valueChanged(double)", self._onLooks)
        self._ui.mapCombo.connect("activated(int)", self._onMap)
        self._ui.mapOpacitySlider.connect("valueChanged(double)", self._onMap)
        self._ui.editorButton.connect("clicked()", self._onEditor)

    def refresh(self, nodes: ResultNodes | None) -> None:
        """Show how the nodes are shown."""
        self._nodes = nodes
        segmentation = None if nodes is None else nodes.segmentation
        if self._ui.show3DButton.segmentationNode() is not segmentation:
            self._ui.show3DButton.setSegmentationNode(segmentation)
        display = self._displayNode()
        if nodes is None or display is None:
            return
        self._filling = True
        try:
            self._ui.showCheck.checked = bool(display.GetVisibility())
            self._ui.fillCheck.checked = bool(display.GetVisibility2DFill())
            self._ui.outlineCheck.checked = bool(display.GetVisibility2DOutline())
            self._ui.opacitySlider.value = display.GetOpacity2DFill()
            self._ui.mapCombo.currentIndex = _KINDS.index(_mapShown(nodes))
        finally:
            self._filling = False
        windows = slicer.util.mainWindow() is not None
        self._ui.editorButton.enabled = windows
        self._ui.editorButton.toolTip = (
            _("Correct the lesions by hand") if windows else _("There is no window to open it in")
        )
        for name in ("mapOpacityLabel", "mapOpacitySlider"):
            getattr(self._ui, name).enabled = self._ui.mapCombo.currentIndex > 0
        uncertainty = nodes.uncertainty is not None
        self._ui.mapCombo.toolTip = (
            _("A coloured map over the slices")
            if uncertainty
            else _("A coloured map over the slices. For the uncertainty, tick it under Model, Advanced, and run again.")
        )

    def _displayNode(self) -> Any:
        alive = self._nodes is not None and self._nodes.alive
        return self._nodes.segmentation.GetDisplayNode() if alive and self._nodes is not None else None

    def _onLooks(self) -> None:
        display = self._displayNode()
        if self._filling or display is None:
            return
        modified = display.StartModify()
        display.SetVisibility(self._ui.showCheck.checked)
        display.SetVisibility2DFill(self._ui.fillCheck.checked)
        display.SetVisibility2DOutline(self._ui.outlineCheck.checked)
        display.SetOpacity2DFill(self._ui.opacitySlider.value)
        display.EndModify(modified)

    def _onMap(self) -> None:
        if not self._filling and self._nodes is not None and self._nodes.alive:
            showMap(self._nodes, _KINDS[self._ui.mapCombo.currentIndex], self._ui.mapOpacitySlider.value)
            self.refresh(self._nodes)

    def _onEditor(self) -> None:
        if self._nodes is None or not self._nodes.alive:
            return
        slicer.util.selectModule(_SEGMENT_EDITOR)
        editor = slicer.modules.SegmentEditorWidget.editor
        editor.setSegmentationNode(self._nodes.segmentation)
        if self._nodes.reference is not None:
            editor.setSourceVolumeNode(self._nodes.reference)


def _mapShown(nodes: ResultNodes) -> str:
    shown = {c.GetForegroundVolumeID() for c in nodesOf("vtkMRMLSliceCompositeNode") if c.GetForegroundOpacity() > 0}
    for kind, node in (("probability", nodes.probability), ("uncertainty", nodes.uncertainty)):
        if node is not None and node.GetID() in shown:
            return kind
    return ""
