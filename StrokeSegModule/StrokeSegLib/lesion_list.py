"""The table of lesions in the panel: sorting, and from a row to the lesion in the slices."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from . import lesion_table
from .result_nodes import ResultNodes

_NARROWEST = 24  # pixels; the numbers of the lesions fit


class ReadOnly(qt.QObject):  # type: ignore[misc]  # Slicer's Qt has no types
    """Keeps the keys that paste from a table view: Slicer's writes over the cells even where it lets nobody edit.

    Args:
        table: The view.
    """

    def __init__(self, table: Any) -> None:
        qt.QObject.__init__(self, table)
        table.installEventFilter(self)

    def eventFilter(self, _watched: Any, event: Any) -> bool:
        """True for what the view does not get."""
        return int(event.type()) == int(qt.QEvent.KeyPress) and bool(event.matches(qt.QKeySequence.Paste))


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
        self._shown: tuple[Any, int] = (None, 0)
        self._readOnly: ReadOnly | None = None

    def connect(self) -> None:
        """Connect the widgets."""
        for name, title in lesion_table.columnTitles().items():
            self._ui.sortCombo.addItem(_("Number") if name == lesion_table.LABEL else title)
        table = self._ui.lesionTable
        # A sorting view would number rows otherwise than the table node.
        table.setSortingEnabled(False)
        table.horizontalHeader().setSectionsClickable(True)
        table.horizontalHeader().connect("sectionClicked(int)", self._onHeader)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        # The head of a wide column, as that of the hints, is out of sight in its middle.
        table.horizontalHeader().setDefaultAlignment(qt.Qt.AlignLeft | qt.Qt.AlignVCenter)
        # A bold head would be wider than its column.
        table.horizontalHeader().setHighlightSections(False)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        # Clicks, also on the row that is chosen already, and the arrow keys.
        table.connect("clicked(QModelIndex)", self._onRow)
        table.selectionModel().connect("currentRowChanged(QModelIndex,QModelIndex)", self._onRow)
        self._readOnly = ReadOnly(table)
        self._ui.sortCombo.connect("activated(int)", self._onSort)
        self._ui.descendingCheck.connect("toggled(bool)", self._onSort)

    def refresh(self, nodes: ResultNodes | None) -> None:
        """Show the table of a result."""
        node = None if nodes is None else nodes.table
        if self._ui.lesionTable.mrmlTableNode() is not node:
            self._ui.lesionTable.setMRMLTableNode(node)
            # Slicer's view widens narrow columns, and so few fit into a narrow panel.
            self._ui.lesionTable.horizontalHeader().setMinimumSectionSize(_NARROWEST)
        self._nodes = nodes
        shown = (node, 0 if node is None else node.GetTable().GetMTime())
        if shown != self._shown:
            # Other lesions stand in the rows now.
            self._shown = shown
            self.clear()
        if node is not None:
            self._hideUnknown(node)
            column, descending = lesion_table.sortOrder(node)
            self._ui.sortCombo.currentIndex = self._columns.index(column)
            blocked = self._ui.descendingCheck.blockSignals(True)
            self._ui.descendingCheck.checked = descending
            self._ui.descendingCheck.blockSignals(blocked)

    def clear(self) -> None:
        """Take the outline of the chosen lesion away."""
        # The current row, too: choosing it again is news then.
        self._ui.lesionTable.selectionModel().clear()
        lesion_table.clearHighlight()

    def _hideUnknown(self, node: Any) -> None:
        """Columns in which nothing is known, such as those of the ADC without one, would say "nan" in every row."""
        rows = lesion_table.readRows(node)
        for number in range(node.GetTable().GetNumberOfColumns()):
            name = node.GetTable().GetColumn(number).GetName()
            unknown = bool(rows) and all(row.get(name, "") is None for row in rows)
            self._ui.lesionTable.setColumnHidden(number, unknown)

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
