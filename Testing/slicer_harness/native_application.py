"""PySide6 doubles of the application object and its managers."""

import os
import platform
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal
from slicer_harness import native_mrml
from slicer_harness.native_modules import (
    qSlicerCoreModule,
    qSlicerExtensionsManagerModel,
    qSlicerModuleFactoryManager,
    qSlicerModuleManager,
    qSlicerScriptedLoadableModule,
    qSlicerScriptedLoadableModuleWidget,
)

__all__ = [
    "qMRMLSliceWidget",
    "qSlicerApplication",
    "qSlicerCoreModule",
    "qSlicerExtensionsManagerModel",
    "qSlicerLayoutManager",
    "qSlicerMainWindow",
    "qSlicerModuleFactoryManager",
    "qSlicerModuleManager",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
]

VERSION = (5, 12)
"""The Slicer that the doubles speak for."""


class qMRMLSliceWidget(native_mrml.qMRMLWidget):
    """One slice view: its nodes and its real logic, without a picture (see slice_view.py for that)."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic = logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def setSliceOrientation(self, orientation: str) -> None:
        self._logic.GetSliceNode().SetOrientation(orientation)

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    sliceOrientation = Property(str, lambda self: self._logic.GetSliceNode().GetOrientation(), setSliceOrientation)


class qSlicerLayoutManager(QtCore.QObject):
    """Three slice views, no 3D view."""

    layoutChanged = Signal(int)

    def __init__(self, logics: dict[str, Any]) -> None:
        super().__init__()
        self._widgets = {name: qMRMLSliceWidget(logic) for name, logic in logics.items()}
        self._layout, self._enabled = 3, True

    def sliceViewNames(self) -> list[str]:
        return list(self._widgets)

    def sliceWidget(self, name: str) -> Any:
        return self._widgets.get(name)

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def mrmlSliceLogics(self) -> Any:
        return slicer.app._native.applicationLogic().GetSliceLogics()

    def resetSliceViews(self) -> None:
        for widget in self._widgets.values():
            widget.sliceLogic().FitSliceToAll()

    def resetThreeDViews(self) -> None:
        """Nothing to reset: there is no 3D view."""

    def threeDWidget(self, _: int) -> None:
        return None

    def setLayout(self, layout: int) -> None:
        self._layout = layout
        self.layoutChanged.emit(layout)

    def setEnabled(self, on: bool) -> None:
        self._enabled = on

    layout = Property(int, lambda self: self._layout, setLayout)
    enabled = Property(bool, lambda self: self._enabled, setEnabled)
    threeDViewCount = Property(int, lambda self: 0)
    tableViewCount = Property(int, lambda self: 0)
    plotViewCount = Property(int, lambda self: 0)


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """The module menu: choosing a module leaves the old one and enters the new one."""

    def __init__(self, modules: Any) -> None:
        super().__init__()
        self._modules, self._selected = modules, ""

    def selectModule(self, name: str) -> None:
        old = self._modules.module(self._selected)
        if isinstance(old, qSlicerScriptedLoadableModule) and self._selected != name:
            old.widgetRepresentation().exit()
        self._selected = name
        new = self._modules.module(name)
        if isinstance(new, qSlicerScriptedLoadableModule):
            new.widgetRepresentation().enter()

    selectedModule = Property(str, lambda self: self._selected, selectModule)


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The main window, as far as slicer.util asks for it."""

    def __init__(self, modules: Any) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(modules)

    def moduleSelector(self) -> qSlicerModuleSelectorToolBar:
        return self._selector


class qSlicerApplication(QtWidgets.QApplication):
    """`slicer.app`."""

    mrmlSceneChanged = Signal(object)
    urlReceived = Signal(str)
    startupCompleted = Signal()
    renderPaused = Signal(bool)

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(arguments)
        self.setApplicationName("Slicer")
        self.setOrganizationName("NA-MIC")
        self.state: Any = None
        """The running test environment (see start.py); None between tests."""
        self._paused = 0

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def applicationLogic(self) -> Any:
        return self.state.application_logic

    def moduleLogic(self, name: str) -> Any:
        module = self.moduleManager().module(name)
        return module.logic() if module is not None else None

    def moduleManager(self) -> qSlicerModuleManager:
        return self.state.module_manager

    def layoutManager(self) -> Any:
        return self.state.layout_manager

    def coreIOManager(self) -> Any:
        return self.state.io_manager

    ioManager = coreIOManager

    def extensionsManagerModel(self) -> qSlicerExtensionsManagerModel:
        return self.state.extensions

    def dicomDatabase(self) -> Any:
        return self.state.dicom_database

    def testingEnabled(self) -> bool:
        return self.state.testing

    def userSettings(self) -> QtCore.QSettings:
        return self.state.settings

    settings = revisionUserSettings = defaultSettings = userSettings

    def environment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def setEnvironmentVariable(self, key: str, value: str) -> None:
        os.environ[key] = value

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://slicer.readthedocs.io/en/latest/user_guide/modules/{name.lower()}.html"

    def setRenderPaused(self, pause: bool) -> None:
        self._paused += 1 if pause else -1
        self.renderPaused.emit(pause)

    def pauseRender(self) -> None:
        self.setRenderPaused(True)

    def resumeRender(self) -> None:
        self.setRenderPaused(False)

    def pythonConsole(self) -> None:
        return None

    def toSlicerHomeAbsolutePath(self, path: str) -> str:
        return str(self.state.folder / "Slicer" / path)

    def restart(self) -> None:
        raise RuntimeError("slicer.app.restart(): the test double does not start Slicer again")

    slicerHome = Property(str, lambda self: str(self.state.folder / "Slicer"))
    temporaryPath = Property(str, lambda self: str(self.state.folder / "tmp"))
    cachePath = Property(str, lambda self: str(self.state.folder / "cache"))
    defaultScenePath = Property(str, lambda self: str(self.state.folder))
    extensionsInstallPath = Property(str, lambda self: str(self.state.folder / "extensions"))
    startupWorkingPath = Property(str, lambda self: str(self.state.folder))
    slicerSharePath = Property(str, lambda self: f"share/Slicer-{VERSION[0]}.{VERSION[1]}")
    slicerUserSettingsFilePath = Property(str, lambda self: self.state.settings.fileName())
    launcherExecutableFilePath = Property(str, lambda self: str(self.state.folder / "Slicer" / "Slicer"))
    isInstalled = Property(bool, lambda self: True)
    releaseType = Property(str, lambda self: "Stable")
    revision = Property(str, lambda self: "test double")
    repositoryRevision = Property(str, lambda self: "test double")
    majorVersion = Property(int, lambda self: VERSION[0])
    minorVersion = Property(int, lambda self: VERSION[1])
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")
    platform = Property(str, lambda self: platform.system().lower())
    os = Property(str, lambda self: platform.system().lower())
    arch = Property(str, lambda self: platform.machine())
