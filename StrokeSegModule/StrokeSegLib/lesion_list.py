"""The table of lesions in the panel: sorting, and from a row to the lesion in the slices."""

from __future__ import annotations

from typing import Any

import qt

from . import lesion_table
from .result_nodes import ResultNodes


class LesionList:
    """Shows the table node of a result.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._nodes: ResultNodes | None = None
        self._columns = list(lesion_table.columnTitles())
        self._waiting = False

    def connect(self) -> None:
        """Connect the widgets."""
        for title in lesion_table.columnTitles().values():
            self._ui.sortCombo.addItem(title)
        table = self._ui.lesionTable
        # A sorting view would number rows otherwise than the table node.
        table.setSortingEnabled(False)
        table.horizontalHeader().setSectionsClickable(True)
        table.horizontalHeader().connect("sectionClicked(int)", self._onHeader)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.verticalHeader().setVisible(False)
        # Clicks, also on the row that is chosen already, and the arrow keys.
        table.connect("clicked(QModelIndex)", self._onRow)
        table.selectionModel().connect("currentRowChanged(QModelIndex,QModelIndex)", self._onRow)
        self._ui.sortCombo.connect("activated(int)", self._onSort)
        self._ui.descendingCheck.connect("toggled(bool)", self._onSort)

    def refresh(self, nodes: ResultNodes | None) -> None:
        """Show the table of a result."""
        node = None if nodes is None else nodes.table
        if self._ui.lesionTable.mrmlTableNode() is not node:
            self._ui.lesionTable.setMRMLTableNode(node)
        self._nodes = nodes
        if node is not None:
            column, descending = lesion_table.sortOrder(node)
            self._ui.sortCombo.currentIndex = self._columns.index(column)
            blocked = self._ui.descendingCheck.blockSignals(True)
            self._ui.descendingCheck.checked = descending
            self._ui.descendingCheck.blockSignals(blocked)

    def clear(self) -> None:
        """Take the outline of the chosen lesion away."""
        self._ui.lesionTable.clearSelection()
        lesion_table.clearHighlight()

    def _table(self) -> Any:
        node = None if self._nodes is None else self._nodes.table
        return node if node is not None and node.GetScene() is not None else None

    def _onHeader(self, column: int) -> None:
        node = self._table()
        if node is None or not 0 <= column < node.GetTable().GetNumberOfColumns():
            return
        name = node.GetTable().GetColumn(column).GetName()
        if name in self._columns:
            old, descending = lesion_table.sortOrder(node)
            self._sort(node, name, not descending if old == name else False)

    def _onSort(self) -> None:
        node = self._table()
        if node is not None:
            self._sort(node, self._columns[self._ui.sortCombo.currentIndex], self._ui.descendingCheck.checked)

    def _sort(self, node: Any, column: str, descending: bool) -> None:
        self._ui.lesionTable.clearSelection()
        lesion_table.sortBy(node, column, descending)
        self.refresh(self._nodes)

    def _onRow(self) -> None:
        if not self._waiting:
            self._waiting = True
            qt.QTimer.singleShot(0, self._jump)

    def _jump(self) -> None:
        self._waiting = False
        index = self._ui.lesionTable.currentIndex()
        if self._table() is not None and self._nodes is not None and index.isValid():
            lesion_table.jumpTo(self._nodes, index.row())
