"""PySide6 doubles of modules, their widgets and the managers that know them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal
from slicer_harness import native_mrml


class _Module(QtCore.QObject):
    def __init__(self, name: str, logic: Any) -> None:
        super().__init__()
        self.setObjectName(name)
        self._logic, self._name = logic, name

    def logic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    name = Property(str, lambda self: self._name)


class qSlicerCoreModule(_Module):
    """A loadable C++ module: only its logic works."""

    path = Property(str, lambda self: "")
    title = Property(str, lambda self: self._name)


def _field(name: str, kind: Any, empty: Any) -> Any:
    return Property(kind, lambda self: self._values.get(name, empty), lambda self, v: self._values.update({name: v}))


class qSlicerScriptedLoadableModule(_Module):
    """What a scripted module gets as `parent`."""

    def __init__(self, path: str, make_widget: Callable[[], QtWidgets.QWidget]) -> None:
        super().__init__(Path(path).stem, None)
        self._path, self._make = path, make_widget
        self._widget: QtWidgets.QWidget | None = None
        self._values: dict[str, Any] = {}

    def widgetRepresentation(self) -> Any:
        if self._widget is None:
            self._widget = self._make()
        return self._widget

    def createNewWidgetRepresentation(self) -> Any:
        return self._make()

    path = Property(str, lambda self: self._path)
    title = _field("title", str, "")
    categories = _field("categories", "QStringList", [])
    contributors = _field("contributors", "QStringList", [])
    associatedNodeTypes = _field("associatedNodeTypes", "QStringList", [])
    helpText = _field("helpText", str, "")
    acknowledgementText = _field("acknowledgementText", str, "")
    dependencies = _field("dependencies", "QStringList", [])
    extensions = _field("extensions", "QVariantMap", {})
    icon = _field("icon", "QIcon", None)
    hidden = _field("hidden", bool, False)
    index = _field("index", int, -1)
    slicerWikiUrl = Property(str, lambda self: "http://www.slicer.org/slicerWiki/index.php")
    defaultDocumentationLink = Property(str, lambda self: "")
    isBuiltIn = Property(bool, lambda self: False)
    isInstalled = Property(bool, lambda self: False)


class qSlicerScriptedLoadableModuleWidget(native_mrml.qMRMLWidget):
    """The Qt side of a scripted module's widget: makes the Python class and calls setup, enter and exit."""

    def __init__(self, module_name: str, make: Callable[["qSlicerScriptedLoadableModuleWidget"], Any]) -> None:
        super().__init__()
        self.setObjectName(f"{module_name}ModuleWidget")
        self._module, self._make = module_name, make
        self._python: Any = None
        QtWidgets.QVBoxLayout(self)

    def setup(self) -> None:
        self.setMRMLScene(slicer.mrmlScene)
        self._python = self._make(self)
        self._python.setup()

    def reload(self) -> None:
        self._python = self._make(self)
        self._python.setup()

    def self(self) -> Any:
        return self._python

    def enter(self) -> None:
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        if hasattr(self._python, "exit"):
            self._python.exit()

    moduleName = Property(str, lambda self: self._module)


class qSlicerModuleFactoryManager(QtCore.QObject):
    """Knows which modules there are."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)
    moduleUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[str, _Module] = {}

    def loadedModuleNames(self) -> list[str]:
        return sorted(self.modules)

    def isLoaded(self, name: str) -> bool:
        return name in self.modules


class qSlicerModuleManager(QtCore.QObject):
    """Says when a module comes and goes."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._factory = qSlicerModuleFactoryManager()

    def factoryManager(self) -> qSlicerModuleFactoryManager:
        return self._factory

    def module(self, name: str) -> Any:
        return self._factory.modules.get(name)

    def modulesNames(self) -> list[str]:
        return sorted(self._factory.modules)


class qSlicerExtensionsManagerModel(QtCore.QObject):
    """No extension is installed unless a test says so in `installed`."""

    def __init__(self) -> None:
        super().__init__()
        self.installed: set[str] = set()
        self._interactive = True

    def isExtensionInstalled(self, name: str) -> bool:
        return name in self.installed

    def isExtensionEnabled(self, name: str) -> bool:
        return name in self.installed

    def extensionsInstallPath(self) -> str:
        return str(slicer.app.extensionsInstallPath)

    interactive = Property(bool, lambda self: self._interactive, lambda self, v: setattr(self, "_interactive", v))
