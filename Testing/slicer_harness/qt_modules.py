"""The modules `qt` and `ctk` as scripts in Slicer import them."""

import types
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets
from slicer_harness import class_info, ui_loader
from slicer_harness.native_ctk_inputs import CLASSES as CTK_CLASSES
from slicer_harness.wrapper import unwrap, wrap, wrapper_class


class QUiLoader:
    """Slicer's UI loader: `load(qfile)` and `createWidget(class, parent, name)`."""

    def load(self, file: Any, parent: Any = None) -> Any:
        widget = ui_loader.load(unwrap(file).fileName())
        if parent is not None:
            widget.setParent(parent)
        return widget

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        native = ui_loader.native_class(class_name)(unwrap(parent) if parent is not None else None)
        native.setObjectName(name)
        return wrap(native)


class _QtModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("Q") and not class_info.is_new_class(name):
            for module in (QtCore, QtGui, QtWidgets, QtNetwork):
                native = getattr(module, name, None)
                if isinstance(native, type):
                    found = wrapper_class(native)
                    setattr(self, name, found)
                    return found
        raise AttributeError(f"module 'qt' has no attribute '{name}' that Slicer on Qt 5.15 and Qt 6 shares")


def make_qt() -> types.ModuleType:
    """Slicer's `qt`: every class of QtCore, QtGui, QtWidgets and QtNetwork in one module."""
    module = _QtModule("qt", "Double of Slicer's qt module.")
    module.QUiLoader = QUiLoader  # type: ignore[attr-defined]
    return module


def make_ctk() -> types.ModuleType:
    """Slicer's `ctk`, as far as it is doubled."""
    module = types.ModuleType("ctk", "Double of Slicer's ctk module.")
    for name, native in CTK_CLASSES.items():
        setattr(module, name, wrapper_class(native))
    return module
