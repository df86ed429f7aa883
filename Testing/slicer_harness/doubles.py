"""Puts the doubles among Python's modules while an environment runs, and takes them out again.

Afterwards `import qt` fails as in any Python that is not Slicer's, so that tests of headless code are not misled.
"""

import gc
import os
import sys
from functools import cache
from typing import Any

from PySide6 import QtCore


def _show_qt_message(_kind: Any, _context: Any, text: str) -> None:
    if "propagateSizeHints" not in text:  # the offscreen platform says so for every window
        sys.stderr.write(f"Qt: {text}\n")


@cache
def _make_first() -> dict[str, Any]:
    """`qt`, `ctk` and the application: what everything else imports. Made once in a process."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import slicer_core.vtkITK
    import slicer_core.vtkSegmentationCore
    from slicer_harness import native_application, qt_modules, wrapper

    QtCore.qInstallMessageHandler(_show_qt_message)
    native = QtCore.QCoreApplication.instance() or native_application.qSlicerApplication(["Slicer"])
    app = wrapper.wrap(native)
    wrapper.adopt(app, native, keep=True)
    return {
        "vtkITK": slicer_core.vtkITK,
        "vtkSegmentationCorePython": slicer_core.vtkSegmentationCore,
        "qt": qt_modules.make_qt(),
        "ctk": qt_modules.make_ctk(),
        "slicer.app": app,
    }


@cache
def _make_rest() -> dict[str, Any]:
    """The modules that import `qt` and `ctk`."""
    from slicer_harness import dicom, i18n, packaging, parameter_node, sample_data, scripted_module

    library = dicom.make_module()
    return {
        "slicer.ScriptedLoadableModule": scripted_module,
        "slicer.i18n": i18n,
        "slicer.packaging": packaging,
        "slicer.parameterNodeWrapper": parameter_node.make_module(),
        "SampleData": sample_data,
        "DICOMLib": library,
        "DICOMLib.DICOMUtils": library.DICOMUtils,
    }


def _classes() -> dict[str, Any]:
    from slicer_harness import native_application, native_segments, wrapper

    everything = [*native_segments.CLASSES.values(), *vars(native_application).values()]
    return {
        cls.__name__: wrapper.wrapper_class(cls)
        for cls in everything
        if isinstance(cls, type) and cls.__name__.startswith(("qMRML", "qSlicer"))
    }


def offer() -> None:
    """Make the doubles importable."""
    import slicer

    _offer(slicer, _make_first())
    for name, cls in _classes().items():
        setattr(slicer, name, cls)
    _offer(slicer, _make_rest())
    from slicer_harness import scripted_module

    if not _before:
        _before["delayDisplay"] = slicer.util.delayDisplay
        gc.freeze()  # every stop() collects garbage; what was imported by now need not be looked at again
    slicer.util.delayDisplay = scripted_module.delayDisplay


_before: dict[str, Any] = {}


def _offer(slicer: Any, doubles: dict[str, Any]) -> None:
    for name, double in doubles.items():
        if name != "slicer.app":
            sys.modules[name] = double
        if name.startswith("slicer."):
            setattr(slicer, name.removeprefix("slicer."), double)


def withdraw() -> None:
    """Take the doubles out of Python's modules and out of `slicer`."""
    import slicer

    for name in (*_make_first(), *_make_rest(), "slicer.modules"):
        sys.modules.pop(name, None)
        if name.startswith("slicer.") and hasattr(slicer, name.removeprefix("slicer.")):
            delattr(slicer, name.removeprefix("slicer."))
    for name in (*_classes(), "dicomDatabase"):
        if hasattr(slicer, name):
            delattr(slicer, name)
    slicer.util.delayDisplay = _before["delayDisplay"]
