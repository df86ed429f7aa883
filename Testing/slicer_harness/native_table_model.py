"""What a qMRMLTableView shows of a table node: texts, heads and tool tips as Slicer's model makes them.

Behaviour as in Slicer/Slicer Libs/MRML/Widgets/qMRMLTableModel.cxx@46345e8: every cell is the text of its variant, so a
number that is not known reads "nan" and a sorting view compares texts; without a head of their own the columns are
called A, B, C and their names become the first row; a cell that is there already is filled anew, so that a selection
stays. That file still asks for the "name" or "long name" where vtkMRMLTableNode has the "title" by now and calls the
old methods deprecated; that a column without title is shown by its name is an assumption.
"""

from typing import Any

import vtk
from PySide6 import QtCore, QtGui

_CHARACTERS = (vtk.VTK_CHAR, vtk.VTK_SIGNED_CHAR, vtk.VTK_UNSIGNED_CHAR)


class TableModel(QtGui.QStandardItemModel):
    """Rows and columns of one table node."""

    def fill(self, node: Any) -> None:
        """Show a vtkMRMLTableNode; None: nothing."""
        table: Any = None if node is None else node.GetTable()
        columns = 0 if table is None else table.GetNumberOfColumns()
        if columns == 0:
            self.clear()
            return
        first = 1 if node.GetUseFirstColumnAsRowHeader() else 0
        titled = node.GetUseColumnTitleAsColumnHeader()
        above = 0 if titled else 1
        self.setRowCount(table.GetNumberOfRows() + above)
        self.setColumnCount(columns - first)
        for number in range(first, columns):
            name = table.GetColumnName(number)
            title = node.GetColumnTitle(name) or name if titled else _letters(number - first)
            self.setHeaderData(number - first, QtCore.Qt.Orientation.Horizontal, title)
            texts = [name] * above + [_text(table, row, number) for row in range(table.GetNumberOfRows())]
            for row, text in enumerate(texts):
                self._put(row, number - first, text, bold=row < above, node=node, tip=_tip(node, name))
        for row in range(self.rowCount()):
            label = str(row + 1)
            if first:
                label = table.GetColumnName(0) if row < above else table.GetValue(row - above, 0).ToString()
            self.setHeaderData(row, QtCore.Qt.Orientation.Vertical, label)

    def write(self, node: Any, row: int, column: int, text: str) -> None:
        """A cell into the node; nothing where there is no such cell or the node is locked."""
        first = 1 if node.GetUseFirstColumnAsRowHeader() else 0
        above = 0 if node.GetUseColumnTitleAsColumnHeader() else 1
        inside = above <= row < self.rowCount() and 0 <= column < self.columnCount()
        if inside and not node.GetLocked():
            node.GetTable().SetValue(row - above, column + first, vtk.vtkVariant(text))
            node.GetTable().Modified()

    def _put(self, row: int, column: int, text: str, *, bold: bool, node: Any, tip: str) -> None:
        item: Any = self.item(row, column)  # None where there is none yet, which PySide6's stubs leave out
        if item is None:
            item = QtGui.QStandardItem()
            self.setItem(row, column, item)
        item.setText(text)
        font = QtGui.QFont()
        font.setBold(bold)
        item.setFont(font)
        item.setEditable(not node.GetLocked())
        item.setToolTip(tip)


def _text(table: Any, row: int, column: int) -> str:
    value = table.GetValue(row, column)
    if table.GetColumn(column).GetDataType() in _CHARACTERS:
        return str(value.ToInt())
    return str(value.ToString())


def _tip(node: Any, name: str) -> str:
    title, unit = node.GetColumnTitle(name), node.GetColumnUnitLabel(name)
    lines = [f"<b>{title}</b>" if title else "", f"Unit: {unit}" if unit else "", node.GetColumnDescription(name)]
    return "<p>".join(line for line in lines if line)


def _letters(number: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    while number >= 0:
        letters = chr(ord("A") + number % 26) + letters
        number = number // 26 - 1
    return letters
