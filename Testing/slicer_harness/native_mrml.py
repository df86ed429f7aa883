"""PySide6 doubles of Slicer's MRML widgets, alive on a real vtkMRMLScene."""

import weakref
from typing import Any, ClassVar

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal
from slicer_harness import native_ctk, native_ctk_inputs, native_table_model


class Observations:
    """VTK observers of one widget: gone with the widget, silent once its C++ side is destroyed.

    They hold the widget weakly: a strong reference from a VTK observer would be a cycle that no garbage collector sees
    whole.
    """

    _all: ClassVar[weakref.WeakSet["Observations"]] = weakref.WeakSet()

    def __init__(self, owner: QtCore.QObject) -> None:
        self._owner = weakref.ref(owner)
        self._tags: list[tuple[Any, int]] = []
        weakref.finalize(owner, _drop, self._tags)
        self._all.add(self)

    def watch(self, target: Any, event: int, call: Any) -> None:
        """Call the owner's method `call` on `event` of `target` for as long as the widget lives."""
        if target is None:
            return
        owner, method = self._owner, weakref.WeakMethod(call)

        def deliver(*_: Any) -> None:
            widget, function = owner(), method()
            if widget is not None and function is not None and shiboken6.isValid(widget):
                function()

        self._tags.append((target, target.AddObserver(event, deliver)))

    def drop(self) -> None:
        """Remove every observer."""
        _drop(self._tags)

    @classmethod
    def drop_all(cls) -> None:
        """Remove the observers of every widget there is."""
        for one in list(cls._all):
            one.drop()


def _drop(tags: list[tuple[Any, int]]) -> None:
    for target, tag in tags:
        target.RemoveObserver(tag)
    tags.clear()


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene and tells it on by a signal."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._scene = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLSliderWidget(native_ctk.ctkSliderWidget):
    """A slider that could follow the scene's units; here it only keeps what it is told."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene, self._quantity, self._aware = None, "", 0x27

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setQuantity(self, quantity: str) -> None:
        self._quantity = quantity

    def setUnitAwareProperties(self, flags: int) -> None:
        self._aware = int(flags)

    quantity = Property(str, lambda self: self._quantity, setQuantity)
    unitAwareProperties = Property(int, lambda self: self._aware, setUnitAwareProperties)


class qMRMLCollapsibleButton(native_ctk.ctkCollapsibleButton):
    """Works exactly as its base class, as its header says."""


class qMRMLTableView(QtWidgets.QTableView):
    """Shows a vtkMRMLTableNode through a sorting model (see native_table_model.py).

    Behaviour as in Slicer/Slicer Libs/MRML/Widgets/qMRMLTableView.cxx@46345e8: with a scene but no table view node the
    table goes at the end of every batch process; copying and pasting heed no edit trigger.
    """

    mrmlSceneChanged = Signal(object)
    tableSelectionChanged = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = self._node = self._view_node = None
        self._flags = {"transposed": False, "firstRowLocked": False, "firstColumnLocked": False}
        self._source = native_table_model.TableModel(self)
        self._proxy = QtCore.QSortFilterProxyModel(self)
        self._proxy.setSourceModel(self._source)
        self.setModel(self._proxy)
        self._watch, self._scene_watch, self._view_watch = Observations(self), Observations(self), Observations(self)
        self.selectionModel().selectionChanged.connect(lambda *_: self.tableSelectionChanged.emit())

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene_watch.drop()
        self._scene = scene
        self._scene_watch.watch(scene, slicer.vtkMRMLScene.EndBatchProcessEvent, self._follow_view_node)
        if self._view_node is not None and self._view_node.GetScene() is not scene:
            self.setMRMLTableViewNode(None)
        self.mrmlSceneChanged.emit(scene)

    def _follow_view_node(self) -> None:
        if self._scene is None or self._view_node is None:
            self.setMRMLTableNode(None)
        elif self.isEnabled():
            self.setMRMLTableNode(self._view_node.GetTableNode())

    def mrmlTableNode(self) -> Any:
        return self._node

    def mrmlTableViewNode(self) -> Any:
        return self._view_node

    def setMRMLTableViewNode(self, node: Any) -> None:
        if node is self._view_node:
            return
        self._view_watch.drop()
        self._view_node = node
        self._view_watch.watch(node, vtk.vtkCommand.ModifiedEvent, self._follow_view_node)
        self._follow_view_node()

    def setMRMLTableNode(self, node: Any) -> None:
        self._watch.drop()
        self._node = node
        self._watch.watch(node, vtk.vtkCommand.ModifiedEvent, self._refresh)
        self._refresh()
        self._proxy.invalidate()
        self.horizontalHeader().setMinimumSectionSize(60)
        self.resizeColumnsToContents()

    def _refresh(self) -> None:
        self._source.fill(self._node)
        self.tableSelectionChanged.emit()

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:
        if event.matches(QtGui.QKeySequence.StandardKey.Copy):
            self.copySelection()
        elif event.matches(QtGui.QKeySequence.StandardKey.Paste):
            self.pasteSelection()
        else:
            super().keyPressEvent(event)

    def copySelection(self) -> None:
        chosen = self.selectionModel()
        if self._node is None or not chosen.hasSelection():
            return
        none = QtCore.QModelIndex()
        columns = [n for n in range(self._source.columnCount()) if chosen.columnIntersectsSelection(n, none)]
        rows = [n for n in range(self._source.rowCount()) if chosen.rowIntersectsSelection(n, none)]
        lines = ["\t".join(self._source.item(row, column).text() for column in columns) for row in rows]
        QtGui.QGuiApplication.clipboard().setText("\n".join(lines))

    def pasteSelection(self) -> None:
        text, place = QtGui.QGuiApplication.clipboard().text(), self.currentIndex()
        if self._node is None or not text:
            return
        before = self._node.StartModify()
        for row, line in enumerate(text.split("\n"), place.row()):
            for column, cell in enumerate(line.split("\t"), place.column()):
                self._source.write(self._node, row, column, cell)
        self._node.EndModify(before)

    def tableModel(self) -> QtGui.QStandardItemModel:
        return self._source

    def sortFilterProxyModel(self) -> QtCore.QSortFilterProxyModel:
        return self._proxy

    def setTransposed(self, on: bool) -> None:
        self._flags["transposed"] = on

    def setFirstRowLocked(self, on: bool) -> None:
        self._flags["firstRowLocked"] = on

    def setFirstColumnLocked(self, on: bool) -> None:
        self._flags["firstColumnLocked"] = on

    transposed = Property(bool, lambda self: self._flags["transposed"], setTransposed)
    firstRowLocked = Property(bool, lambda self: self._flags["firstRowLocked"], setFirstRowLocked)
    firstColumnLocked = Property(bool, lambda self: self._flags["firstColumnLocked"], setFirstColumnLocked)


class qMRMLSegmentationShow3DButton(native_ctk_inputs.ctkMenuButton):
    """Makes or removes the closed surface of a segmentation."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setText("Show 3D")
        self.setCheckable(True)
        self.setEnabled(False)
        self._node: Any = None
        self._locked = False
        self._watch = Observations(self)
        self.toggled.connect(self._on_toggled)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._watch.drop()
        self._node = node
        self._watch.watch(node, vtk.vtkCommand.ModifiedEvent, self._refresh)
        self._refresh()

    def setLocked(self, locked: bool) -> None:
        self._locked = locked
        self._refresh()

    def _has_surface(self) -> bool:
        name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        return self._node is not None and self._node.GetSegmentation().ContainsRepresentation(name)

    def _refresh(self) -> None:
        self.setEnabled(self._node is not None and not self._locked)
        blocked = self.blockSignals(True)
        self.setChecked(self._has_surface())
        self.blockSignals(blocked)

    def _on_toggled(self, on: bool) -> None:
        if self._node is None:
            return
        if on:
            self._node.CreateClosedSurfaceRepresentation()
        else:
            self._node.RemoveClosedSurfaceRepresentation()

    locked = Property(bool, lambda self: self._locked, setLocked)
