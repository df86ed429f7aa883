"""PySide6 double of qMRMLNodeComboBox: chooses one node of a real vtkMRMLScene."""

from typing import Any

import slicer
import vtk
from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import Property, Signal
from slicer_harness.native_ctk import STRING_LIST
from slicer_harness.native_mrml import Observations


def _flag(name: str, kind: Any = bool) -> Any:
    """A property kept in `_flags`; a change fills the list anew."""

    def read(self: Any) -> Any:
        return self._flags[name]

    def write(self: Any, value: Any) -> None:
        self._flags[name] = value
        self._refresh()

    return Property(kind, read, write)


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Chooses one node of the scene; disabled until it has a scene."""

    currentNodeChanged = Signal(object)
    currentNodeValidChanged = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    currentNodeRenamed = Signal(str)
    nodeAboutToBeEdited = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._combo.setMinimumContentsLength(12)
        row.addWidget(self._combo)
        self._scene: Any = None
        self._current: str = ""
        self._shown: list[str] = []
        self._types: list[str] = []
        self._hidden_types: list[str] = []
        self._attributes: list[tuple[str, str, Any]] = []
        self._labels: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._flags: dict[str, Any] = {
            **dict.fromkeys(("showHidden", "noneEnabled", "editEnabled", "renameEnabled"), False),
            **dict.fromkeys(("showChildNodeTypes", "addEnabled", "removeEnabled", "selectNodeUponCreation"), True),
            "noneDisplay": "None",
            "interactionNodeSingletonTag": "Singleton",
            "sizeAdjustPolicy": 0,
        }
        self._watch = Observations(self)
        self._watch_nodes = Observations(self)
        self._combo.activated.connect(self._on_activated)
        self.setFocusProxy(self._combo)
        self.setEnabled(False)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._watch.drop()
        self._scene = scene
        self.setEnabled(scene is not None)
        if scene is not None:
            self._watch.watch(scene, scene.NodeAddedEvent, self._refresh)
            self._watch.watch(scene, scene.NodeRemovedEvent, self._refresh)
            for event in (scene.EndCloseEvent, scene.EndImportEvent, scene.EndRestoreEvent, scene.EndBatchProcessEvent):
                self._watch.watch(scene, event, self._refresh)
        self._refresh()

    def _matches(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self._flags["showHidden"]:
            return False
        if not any(node.IsA(t) if self._flags["showChildNodeTypes"] else node.GetClassName() == t for t in self._types):
            return False
        if any(node.IsA(t) for t in self._hidden_types):
            return False
        for kind, name, value in self._attributes:
            if node.IsA(kind) and (
                node.GetAttribute(name) is None or (value is not None and node.GetAttribute(name) != str(value))
            ):
                return False
        return True

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        everything = [self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())]
        return [node for node in everything if self._matches(node)]

    def _refresh(self) -> None:
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = self._nodes()
        before = set(self._shown)
        self._watch_nodes.drop()
        self._combo.clear()
        self._shown = [""] if self._flags["noneEnabled"] else []
        if self._flags["noneEnabled"]:
            self._combo.addItem(self._flags["noneDisplay"])
        for node in nodes:
            self._shown.append(node.GetID())
            self._combo.addItem(node.GetName() or node.GetID())
            self._watch_nodes.watch(node, vtk.vtkCommand.ModifiedEvent, self._rename)
        self._select(self._current if self._current in self._shown else (self._shown[0] if self._shown else ""))
        for node in nodes:
            if node.GetID() not in before:
                self.nodeAdded.emit(node)

    def _rename(self) -> None:
        for row, node_id in enumerate(self._shown):
            node = self._scene.GetNodeByID(node_id) if node_id and self._scene else None
            if node is not None and self._combo.itemText(row) != node.GetName():
                self._combo.setItemText(row, node.GetName())
                if node_id == self._current:
                    self.currentNodeRenamed.emit(node.GetName())

    def _select(self, node_id: str) -> None:
        self._combo.setCurrentIndex(self._shown.index(node_id) if node_id in self._shown else -1)
        if node_id == self._current:
            return
        self._current = node_id
        node = self.currentNode()
        self.currentNodeIDChanged.emit(node_id)
        self.currentNodeChanged.emit(node)
        self.currentNodeValidChanged.emit(node is not None)

    def _on_activated(self, row: int) -> None:
        self._select(self._shown[row])
        self.nodeActivated.emit(self.currentNode())

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            self.setCurrentNodeID(node)
            return
        if node is not None and not isinstance(node, slicer.vtkMRMLNode):
            raise ValueError(f"setCurrentNode() takes a MRML node, its ID or None, not {node!r}")
        self.setCurrentNodeID("" if node is None else node.GetID() or "")

    def setCurrentNodeID(self, node_id: str) -> None:
        self._select(node_id if node_id in self._shown else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self._select([i for i in self._shown if i][index])

    def nodeCount(self) -> int:
        return len([i for i in self._shown if i])

    def nodeFromIndex(self, index: int) -> Any:
        shown = [i for i in self._shown if i]
        return self._scene.GetNodeByID(shown[index]) if 0 <= index < len(shown) else None

    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._attributes.append((kind, name, value))
        self._refresh()

    def removeAttribute(self, kind: str, name: str) -> None:
        self._attributes = [a for a in self._attributes if a[:2] != (kind, name)]
        self._refresh()

    def setNodeTypeLabel(self, label: str, kind: str) -> None:
        self._labels[kind] = label

    def nodeTypeLabel(self, kind: str) -> str:
        return self._labels.get(kind, "")

    def addMenuAction(self, action: QtGui.QAction) -> None:
        self.addAction(action)

    def addNode(self, kind: str = "") -> Any:
        kind = kind or (self._types[0] if self._types else "")
        if self._scene is None or kind not in self._types:
            return None
        node = self._scene.AddNewNodeByClass(kind, self._scene.GenerateUniqueName(self._names.get("", "") or kind))
        for wanted, name, value in self._attributes:
            if node.IsA(wanted):
                node.SetAttribute(name, "" if value is None else str(value))
        self._refresh()
        if self._flags["selectNodeUponCreation"]:
            self._select(node.GetID())
        self.nodeAddedByUser.emit(node)
        self.nodeAddedByUserAction.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        node = self.currentNode()
        if node is not None:
            self.nodeAboutToBeRemoved.emit(node)
            self._scene.RemoveNode(node)

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self._refresh()

    def _set_hidden_types(self, types: list[str]) -> None:
        self._hidden_types = list(types)
        self._refresh()

    currentNodeID = Property(str, lambda self: self._current, setCurrentNodeID)
    currentNodeId = Property(str, lambda self: self._current, setCurrentNodeID)
    nodeTypes = Property(STRING_LIST, lambda self: self._types, _set_types)
    hideChildNodeTypes = Property(STRING_LIST, lambda self: self._hidden_types, _set_hidden_types)
    baseName = Property(str, lambda self: self._names.get("", ""), lambda self, v: self._names.update({"": v}))
    showHidden = _flag("showHidden")
    showChildNodeTypes = _flag("showChildNodeTypes")
    noneEnabled = _flag("noneEnabled")
    addEnabled = _flag("addEnabled")
    removeEnabled = _flag("removeEnabled")
    editEnabled = _flag("editEnabled")
    renameEnabled = _flag("renameEnabled")
    selectNodeUponCreation = _flag("selectNodeUponCreation")
    noneDisplay = _flag("noneDisplay", str)
    interactionNodeSingletonTag = _flag("interactionNodeSingletonTag", str)
    sizeAdjustPolicy = _flag("sizeAdjustPolicy", int)
