"""Which widget may show which parameter type: Slicer's list, and nothing beside it.

Slicer compares with `type(widget) == qt.QSpinBox`, so a derived widget (ctkDoubleSpinBox, ctkComboBox,
qMRMLSliderWidget) is *not* accepted (Slicer/Slicer Base/Python/slicer/parameterNodeWrapper/guiConnectors.py@113c6bd).
"""

import enum
import pathlib
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer
from slicer_harness import parameter_checks as kinds


class GuiConnector:
    """One widget tied to one parameter: how to read it, write it, and which signal tells of a change."""

    def __init__(self, widget: Any, signal: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self._widget, self._signal, self.read, self.write = widget, signal, read, write
        self._callback: Callable[[], None] | None = None

    def widget(self) -> Any:
        return self._widget

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        if callback is None:
            getattr(self._widget, self._signal).disconnect(self.changed)
        else:
            getattr(self._widget, self._signal).connect(self.changed)
        self._callback = callback

    def changed(self) -> None:
        if self._callback is not None:
            self._callback()


def _property(widget: Any, signal: str, name: str) -> GuiConnector:
    return GuiConnector(widget, signal, lambda: getattr(widget, name), lambda value: setattr(widget, name, value))


def _bounds(annotations: list[Any]) -> tuple[Any, Any]:
    within = kinds.findFirstAnnotation(annotations, kinds.WithinRange)
    if within is not None:
        return within.minimum, within.maximum
    low, high = (kinds.findFirstAnnotation(annotations, k) for k in (kinds.Minimum, kinds.Maximum))
    return (None if low is None else low.minimum), (None if high is None else high.maximum)


def _number(widget: Any, annotations: list[Any], unbounded: tuple[float, float], needs_bounds: type) -> GuiConnector:
    for note, name in ((kinds.Decimals, "decimals"), (kinds.SingleStep, "singleStep")):
        found = kinds.findFirstAnnotation(annotations, note)
        if found is not None:
            setattr(widget, name, found.value)
    low, high = _bounds(annotations)
    if type(widget) is needs_bounds and (low is None or high is None):
        raise RuntimeError(
            f"Cannot connect {type(widget).__name__} to a number without WithinRange or Minimum and Maximum"
        )
    widget.minimum = unbounded[0] if low is None else low
    widget.maximum = unbounded[1] if high is None else high
    return _property(widget, "valueChanged", "value")


def _choices(widget: Any, rows: list[tuple[str, Any]]) -> GuiConnector:
    widget.clear()
    for label, _ in rows:
        widget.addItem(label)

    def write(value: Any) -> None:
        for index, (_, known) in enumerate(rows):
            if known == value:
                widget.currentIndex = index
                return
        raise ValueError(f"Unable to find value {value!r} among {[r[1] for r in rows]}")

    return GuiConnector(widget, "currentIndexChanged", lambda: rows[widget.currentIndex][1], write)


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    """A connector; RuntimeError where Slicer has none for this widget and type."""
    kind, annotations = kinds.splitAnnotations(datatype)
    shown = type(widget)
    if kind is bool and shown in {qt.QCheckBox, qt.QPushButton}:
        if shown is qt.QPushButton:
            widget.checkable = True
        return _property(widget, "stateChanged" if shown is qt.QCheckBox else "toggled", "checked")
    if kind is int and shown in {qt.QSlider, qt.QSpinBox}:
        return _number(widget, annotations, (-(2**31), 2**31 - 1), qt.QSlider)
    if kind is float and shown in {qt.QDoubleSpinBox, ctk.ctkSliderWidget}:
        return _number(widget, annotations, (float("-inf"), float("inf")), ctk.ctkSliderWidget)
    if shown is qt.QComboBox and kind in {int, float, str, bool}:
        choice = kinds.findFirstAnnotation(annotations, kinds.Choice)
        if choice is None:
            raise RuntimeError("A QComboBox needs the Choice annotation")
        return _choices(widget, [(str(c), c) for c in choice.choices])
    if shown is qt.QComboBox and isinstance(kind, type) and issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda member: member.name)
        return _choices(widget, [(label(member), member) for member in kind])
    if kind is str and shown is qt.QLineEdit:
        return _property(widget, "textChanged", "text")
    if kind is str and shown is qt.QTextEdit:
        return GuiConnector(widget, "textChanged", widget.toPlainText, widget.setPlainText)
    if shown is ctk.ctkPathLineEdit and isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return GuiConnector(
            widget,
            "currentPathChanged",
            lambda: kind(widget.currentPath),
            lambda value: setattr(widget, "currentPath", str(value)),
        )
    if shown is slicer.qMRMLNodeComboBox and isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        widget.nodeTypes = [kind.__name__]
        return GuiConnector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{shown.__name__}'")
