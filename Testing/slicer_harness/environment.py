"""One running double of Slicer: scene, application, modules, and what a test does to them."""

import gc
import importlib.util
import os
import stat
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6 import QtCore

_LOGICS = {
    "volumes": "vtkSlicerVolumesLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "transforms": "vtkSlicerTransformLogic",
    "colors": "vtkSlicerColorLogic",
    "plots": "vtkSlicerPlotsLogic",
}
_NAMES = {"subjecthierarchy": "SubjectHierarchy"}


class SlicerEnvironment:
    """A running double of Slicer.

    Attributes:
        folder: Holds everything the double writes: settings, `Slicer` (its home), `tmp`, `cache`.
        module_widgets: Wrapper of every loaded module's widget by module name.
    """

    def __init__(self, folder: Path, *, main_window: bool, testing: bool) -> None:
        import slicer
        import vtk
        from slicer_harness import dicom, native_application, native_files, wrapper

        self.folder, self.testing = folder, testing
        self._stopped = False
        self._excepthook = sys.excepthook
        sys.excepthook = self._note
        self._wrap = wrapper.wrap
        self._path = os.environ.get("PATH", "")
        self._make_folders()
        self.settings = QtCore.QSettings()
        self.scene = slicer.mrmlScene = slicer.vtkMRMLScene()
        self._allow_bundles(slicer)
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetMRMLScene(self.scene)
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        logic.GetColorLogic().SetMRMLScene(self.scene)
        logic.GetColorLogic().AddDefaultColorNodes()
        self.application_logic = logic
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self.module_manager = native_application.qSlicerModuleManager()
        self.io_manager = native_files.qSlicerCoreIOManager()
        self.extensions = native_application.qSlicerExtensionsManagerModel()
        self.dicom_database = dicom.ctkDICOMDatabase()
        self.layout_manager: Any = None
        self.main_window: Any = None
        slicer.app._native.state = self
        self._make_modules()
        slicer.dicomDatabase = self._wrap(self.dicom_database)
        if main_window:
            self._make_main_window()

    def _note(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """VTK hands exceptions of its Python observers to sys.excepthook and goes on."""
        from slicer_harness.wrapper import UNHANDLED

        UNHANDLED.append(error)
        self._excepthook(kind, error, trace)

    def _make_folders(self) -> None:
        for name in ("tmp", "cache", "extensions", "Slicer/bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        python = self.folder / "Slicer" / "bin" / "PythonSlicer"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        os.environ["PATH"] = f"{python.parent}{os.pathsep}{self._path}"
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
            QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, str(self.folder / "settings"))

    def _allow_bundles(self, slicer: Any) -> None:
        """A scene opens an .mrb only with a cache and a manager of remote files."""
        cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        cache.SetRemoteCacheDirectory(str(self.folder / "cache"))
        cache.SetMRMLScene(self.scene)
        manager.SetCacheManager(cache)
        self.scene.SetCacheManager(cache)
        self.scene.SetDataIOManager(manager)

    def _make_modules(self) -> None:
        import slicer

        # Slicer's own terminology and colour files are not in the wheel; their absence is told once in README.md.
        import vtk
        from slicer_harness import native_application

        vtk.vtkObject.GlobalWarningDisplayOff()
        modules = types.ModuleType("slicer.modules")
        slicer.modules = sys.modules["slicer.modules"] = modules
        for name, class_name in _LOGICS.items():
            logic = getattr(slicer, class_name)()
            logic.SetMRMLApplicationLogic(self.application_logic)
            logic.SetMRMLScene(self.scene)
            if hasattr(self.application_logic, "SetModuleLogic"):
                self.application_logic.SetModuleLogic(_NAMES.get(name, name.capitalize()), logic)
            module = native_application.qSlicerCoreModule(_NAMES.get(name, name.capitalize()), logic)
            self.module_manager.factoryManager().modules[_NAMES.get(name, name.capitalize())] = module
            setattr(modules, name, self._wrap(module))
        vtk.vtkObject.GlobalWarningDisplayOn()

    def _make_main_window(self) -> None:
        import slicer
        from slicer_harness import native_application

        logics = {}
        for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(self.application_logic)
            self.application_logic.GetSliceLogics().AddItem(logic)
            logic.SetMRMLScene(self.scene)
            logic.AddSliceNode(name).SetOrientation(orientation)
            logic.ResizeSliceNode(400, 400)
            logics[name] = logic
        self.layout_manager = native_application.qSlicerLayoutManager(logics)
        self.main_window = native_application.qSlicerMainWindow(self.module_manager)

    def loadModule(self, path: str | Path) -> Any:
        """Load a scripted module as the module factory does; gives the Python module that was executed."""
        import slicer
        from slicer_harness import native_application

        path = Path(path)
        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        native = native_application.qSlicerScriptedLoadableModule(str(path), lambda: self._make_widget(name))
        parent = self._wrap(native)
        self.module_manager.factoryManager().modules[name] = native
        setattr(slicer.modules, name.lower(), parent)
        instance = getattr(module, name)(parent)
        setattr(slicer.modules, f"{name}Instance", instance)
        if hasattr(instance, "setup"):
            instance.setup()
        self.module_manager.moduleLoaded.emit(name)
        return module

    def _make_widget(self, name: str) -> Any:
        import slicer
        from slicer_harness import native_application

        def make(native: Any) -> Any:
            widget = getattr(sys.modules[name], f"{name}Widget")(self._wrap(native))
            setattr(slicer.modules, f"{name}Widget", widget)
            return widget

        native = native_application.qSlicerScriptedLoadableModuleWidget(name, make)
        native.setup()
        return native

    def openModule(self, name: str) -> Any:
        """Make the module's widget, enter it, and give the Python widget object."""
        representation = self.module_manager.module(name).widgetRepresentation()
        if self.main_window is not None:
            self.main_window.moduleSelector().selectModule(name)
        else:
            representation.enter()
        return representation.self()

    def announceStartup(self) -> None:
        """Emit startupCompleted, as after loading every module."""
        import slicer

        slicer.app._native.startupCompleted.emit()

    def processEvents(self, seconds: float = 0.0) -> None:
        """Let Qt work for at least this long."""
        end = time.monotonic() + seconds
        while True:
            QtCore.QCoreApplication.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 10)
            QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
            if time.monotonic() >= end:
                return
            time.sleep(0.001)

    def waitUntil(self, condition: Callable[[], bool], timeout: float = 30.0) -> None:
        """Let Qt work until the condition holds; TimeoutError after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not so within {timeout:g} s")
            self.processEvents(0.005)

    def dropFiles(self, widget: Any, paths: list[str]) -> bool:
        """Drag files from outside onto a widget and let go; False where the widget does not want them."""
        from PySide6 import QtGui

        data = QtCore.QMimeData()
        data.setUrls([QtCore.QUrl.fromLocalFile(path) for path in paths])
        point, action = QtCore.QPoint(2, 2), QtCore.Qt.DropAction.CopyAction
        rest = (data, QtCore.Qt.MouseButton.LeftButton, QtCore.Qt.KeyboardModifier.NoModifier)
        if not widget._native.acceptDrops():
            return False
        with warnings.catch_warnings():  # the constructor that Qt 5.15 has, too
            warnings.simplefilter("ignore", DeprecationWarning)
            enter = QtGui.QDragEnterEvent(point, action, *rest)
        QtCore.QCoreApplication.sendEvent(widget._native, enter)
        if not enter.isAccepted():
            return False
        drop = QtGui.QDropEvent(QtCore.QPointF(point), action, *rest)
        QtCore.QCoreApplication.sendEvent(widget._native, drop)
        return True

    def unloadModules(self) -> None:
        """Announce the unloading of every scripted module, as Slicer does at its end."""
        for name, module in list(self.module_manager.factoryManager().modules.items()):
            if type(module).__name__ == "qSlicerScriptedLoadableModule":
                self.module_manager.moduleAboutToBeUnloaded.emit(name)
                del self.module_manager.factoryManager().modules[name]

    def quit(self) -> None:
        """What happens when Slicer closes: aboutToQuit, then modules are unloaded. The process goes on."""
        import slicer

        slicer.app._native.aboutToQuit.emit()
        self.unloadModules()
        self.processEvents()

    def takeUnhandled(self) -> list[BaseException]:
        """Exceptions that slots and event handlers let through since the last call."""
        from slicer_harness.wrapper import UNHANDLED

        taken = list(UNHANDLED)
        UNHANDLED.clear()
        return taken

    def stop(self) -> None:
        """End this environment: unload modules, delete every window, clear the scene, forget the settings."""
        if self._stopped:
            return
        self._stopped = True
        import slicer
        from slicer_harness import doubles, i18n, native_mrml, packaging

        self.unloadModules()
        self.scene.Clear(1)
        native_mrml.Observations.drop_all()
        app = slicer.app._native
        for window in app.topLevelWidgets():
            window.close()
            window.deleteLater()
        self.processEvents()
        self.settings.sync()
        i18n.MARKER.clear()
        packaging.REQUESTS.clear()
        os.environ["PATH"] = self._path
        sys.excepthook = self._excepthook
        for name in [n for n in sys.modules if n.startswith("slicer.modules")]:
            del sys.modules[name]
        if hasattr(slicer, "selfTests"):
            del slicer.selfTests
        gc.collect()
        app.state = None
        doubles.withdraw()
