"""The double of qMRMLTableView shows a table node as Slicer does."""

from typing import Any


def _node(*columns: tuple[str, list[Any]]) -> Any:
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    for name, values in columns:
        column = vtk.vtkStringArray() if isinstance(values[0], str) else vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    return node


def _heads(view: Any) -> list[str]:
    import qt

    return [view.model().headerData(n, qt.Qt.Horizontal) for n in range(view.model().columnCount())]


def _texts(view: Any) -> list[list[str]]:
    model = view.model()
    rows, columns = range(model.rowCount()), range(model.columnCount())
    return [[model.data(model.index(row, column)) for column in columns] for row in rows]


def test_heads_are_titles_where_the_node_asks_for_them(slicerEnvironment: Any) -> None:
    import slicer

    node = _node(("ml", [2.0, float("nan")]), ("side", ["left", "right"]))
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(node)
    assert _heads(view) == ["A", "B"]
    assert _texts(view) == [["ml", "side"], ["2", "left"], ["nan", "right"]]
    node.SetColumnTitle("ml", "Volume (ml)")
    node.SetUseColumnTitleAsColumnHeader(True)
    assert _heads(view) == ["Volume (ml)", "side"]
    assert _texts(view) == [["2", "left"], ["nan", "right"]]


def test_a_sorting_view_compares_texts(slicerEnvironment: Any) -> None:
    import qt
    import slicer

    node = _node(("ml", [2.0, 10.0, 1.5]))
    node.SetUseColumnTitleAsColumnHeader(True)
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(node)
    view.setSortingEnabled(True)
    view.sortByColumn(0, qt.Qt.DescendingOrder)
    assert _texts(view) == [["2"], ["10"], ["1.5"]]
    node.RemoveRow(0)
    assert _texts(view) == [["10"], ["1.5"]]
    node.RemoveAllColumns()
    assert (view.model().rowCount(), view.model().columnCount()) == (0, 0)


def test_a_selection_stays_when_the_table_is_filled_anew(slicerEnvironment: Any) -> None:
    import slicer

    node = _node(("ml", [2.0, 10.0]))
    node.SetColumnTitle("ml", "Volume")
    node.SetColumnDescription("ml", "How large it is")
    node.SetUseColumnTitleAsColumnHeader(True)
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(node)
    view.selectRow(1)
    node.Modified()
    assert view.currentIndex().row() == 1
    assert view.tableModel().item(0, 0).toolTip() == "<b>Volume</b><p>How large it is"


def test_with_a_scene_and_no_view_node_the_table_goes_at_the_end_of_a_batch(slicerEnvironment: Any) -> None:
    import slicer

    node = _node(("ml", [2.0, 10.0]))
    alone, led = slicer.qMRMLTableView(), slicer.qMRMLTableView()
    led.setMRMLScene(slicer.mrmlScene)
    for view in (alone, led):
        view.setMRMLTableNode(node)
    slicer.mrmlScene.StartState(slicer.mrmlScene.BatchProcessState)
    slicer.mrmlScene.EndState(slicer.mrmlScene.BatchProcessState)
    assert alone.mrmlTableNode() is node
    assert led.mrmlTableNode() is None


def test_pasting_writes_over_cells_that_nobody_may_edit(slicerEnvironment: Any) -> None:
    import qt
    import slicer
    from PySide6 import QtCore, QtTest

    node = _node(("ml", [2.0, 10.0]), ("side", ["left", "right"]))
    node.SetUseColumnTitleAsColumnHeader(True)
    view = slicer.qMRMLTableView()
    view.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    view.setMRMLTableNode(node)
    view.selectRow(1)
    qt.QApplication.clipboard().setText("3\tboth\tmore\n4")
    QtTest.QTest.keyClick(view._native, QtCore.Qt.Key.Key_V, QtCore.Qt.KeyboardModifier.ControlModifier)
    assert _texts(view) == [["2", "left"], ["3", "both"]]
    node.SetLocked(True)
    view.pasteSelection()
    view.selectRow(0)
    view.pasteSelection()
    assert _texts(view) == [["2", "left"], ["3", "both"]]
