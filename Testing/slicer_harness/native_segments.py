"""PySide6 double of qMRMLSegmentsTableView: the segments of one segmentation as a table."""

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal
from slicer_harness import native_ctk_inputs, native_mrml, native_selector

_COLUMNS = ("visibility", "color", "opacity", "name", "status", "layer")


def _flag(name: str) -> Any:
    return Property(bool, lambda self: self._flags[name], lambda self, v: self._flags.update({name: v}))


class qMRMLSegmentsTableView(native_mrml.qMRMLWidget):
    """Name, colour and visibility of every segment."""

    selectionChanged = Signal(object, object)
    segmentAboutToBeModified = Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self._table = QtWidgets.QTableWidget(0, 2, self)
        self._table.setHorizontalHeaderLabels(["", "Name"])
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.horizontalHeader().setStretchLastSection(True)
        column.addWidget(self._table)
        self._node: Any = None
        self._hidden: list[str] = []
        self._flags = dict.fromkeys(("headerVisible", *(f"{c}ColumnVisible" for c in _COLUMNS)), True)
        self._flags.update(readOnly=False, filterBarVisible=False, jumpToSelectedSegmentEnabled=False)
        self._filter = ""
        self._watch = native_mrml.Observations(self)
        self._table.itemSelectionChanged.connect(
            lambda: self.selectionChanged.emit(QtCore.QItemSelection(), QtCore.QItemSelection())
        )

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._watch.drop()
        self._node = node
        if node is not None:
            for event in (
                slicer.vtkSegmentation.SegmentAdded,
                slicer.vtkSegmentation.SegmentRemoved,
                slicer.vtkSegmentation.SegmentModified,
            ):
                self._watch.watch(node.GetSegmentation(), event, self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        shown = self.displayedSegmentIDs()
        self._table.setRowCount(len(shown))
        for row, segment_id in enumerate(shown):
            segment = self._node.GetSegmentation().GetSegment(segment_id)
            swatch = QtWidgets.QTableWidgetItem()
            swatch.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
            self._table.setItem(row, 0, swatch)
            name = QtWidgets.QTableWidgetItem(segment.GetName())
            name.setData(QtCore.Qt.ItemDataRole.UserRole, segment_id)
            self._table.setItem(row, 1, name)

    def tableWidget(self) -> QtWidgets.QTableView:
        return self._table

    def displayedSegmentIDs(self) -> list[str]:
        if self._node is None:
            return []
        return [i for i in self._node.GetSegmentation().GetSegmentIDs() if i not in self._hidden]

    def selectedSegmentIDs(self) -> list[str]:
        rows = sorted({index.row() for index in self._table.selectedIndexes()})
        items = [self._table.item(row, 1) for row in rows]
        return [item.data(QtCore.Qt.ItemDataRole.UserRole) for item in items if item is not None]

    def setSelectedSegmentIDs(self, segment_ids: list[str]) -> None:
        self._table.clearSelection()
        for row, segment_id in enumerate(self.displayedSegmentIDs()):
            if segment_id in segment_ids:
                self._table.selectRow(row)

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def setHideSegments(self, segment_ids: list[str]) -> None:
        self._hidden = list(segment_ids)
        self._refresh()

    def hideSegments(self) -> list[str]:
        return self._hidden

    def setSelectionMode(self, mode: int) -> None:
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode(mode))

    def setTextFilter(self, text: str) -> None:
        self._filter = text

    selectionMode = Property(int, lambda self: self._table.selectionMode().value, setSelectionMode)
    textFilter = Property(str, lambda self: self._filter, setTextFilter)
    headerVisible = _flag("headerVisible")
    visibilityColumnVisible = _flag("visibilityColumnVisible")
    colorColumnVisible = _flag("colorColumnVisible")
    opacityColumnVisible = _flag("opacityColumnVisible")
    statusColumnVisible = _flag("statusColumnVisible")
    layerColumnVisible = _flag("layerColumnVisible")
    readOnly = _flag("readOnly")
    filterBarVisible = _flag("filterBarVisible")
    jumpToSelectedSegmentEnabled = _flag("jumpToSelectedSegmentEnabled")


def _setter(name: str) -> Any:
    return lambda self, on: self._flags.update({name: on})


for _name in list(qMRMLSegmentsTableView.__dict__):
    if _name.endswith("Visible") or _name in {"readOnly", "jumpToSelectedSegmentEnabled"}:
        setattr(qMRMLSegmentsTableView, f"set{_name[0].upper()}{_name[1:]}", _setter(_name))

CLASSES: dict[str, type] = {
    **native_ctk_inputs.CLASSES,
    **{
        cls.__name__: cls
        for cls in (
            native_mrml.qMRMLWidget,
            native_selector.qMRMLNodeComboBox,
            native_mrml.qMRMLSliderWidget,
            native_mrml.qMRMLCollapsibleButton,
            native_mrml.qMRMLTableView,
            native_mrml.qMRMLSegmentationShow3DButton,
            qMRMLSegmentsTableView,
        )
    },
}
"""Every double of a widget, CTK's and Slicer's, by class name."""
