"""Signals and slots by C++ signature, as `widget.connect('clicked(bool)', self.onClicked)` does in PythonQt.

PythonQt hands a slot as many arguments as its code object counts (defaults included), all of them to anything that is
no plain function or method, such as functools.partial (PythonQtSignalReceiver.cpp). Exceptions do not come back to the
emitter.
"""

import inspect
import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore
from slicer_harness import class_info
from slicer_harness.wrapper import BoundSignal, InstanceWrapper, alive, report_unhandled, wrap


def _count(slot: Any) -> int | None:
    """How many arguments PythonQt passes: None for all."""
    function, bound = (slot.__func__, 1) if isinstance(slot, types.MethodType) else (slot, 0)
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - bound


def _trampoline(slot: Any) -> Callable[..., None]:
    count = _count(slot)

    def deliver(*args: Any) -> None:
        try:
            passed = [wrap(a) for a in args]
            slot(*(passed if count is None else passed[:count]))
        except BaseException as error:  # noqa: BLE001 - nothing may travel through C++
            report_unhandled(error)

    return deliver


def _resolve(wrapper: InstanceWrapper, signature: str) -> tuple[str, str]:
    """Normalised signature and the native signal's name ('' where Qt knows the signature itself)."""
    alive(wrapper, f"connect '{signature}' of")
    if not isinstance(signature, str):
        raise ValueError(f"a signal is named by its signature, as in 'clicked(bool)', not by {signature!r}")
    text: Any = signature.lstrip("012")  # PySide6's stubs ask for bytes, the function for text
    normal = bytes(QtCore.QMetaObject.normalizedSignature(text).data()).decode()
    known = class_info.signal_signatures(type(wrapper._native))
    if normal not in known:
        raise ValueError(
            f"QObject::connect() signal '{signature}' does not exist on {type(wrapper).__name__}, available are: "
            + ", ".join(sorted(known))
        )
    return normal, known[normal]


def connect(wrapper: InstanceWrapper, signature: str, slot: Any) -> bool:
    """Connect; see the module's docstring."""
    if not callable(slot):
        raise ValueError(f"cannot connect '{signature}' to {slot!r}, which cannot be called")
    normal, attribute = _resolve(wrapper, signature)
    native = wrapper._native
    deliver = _trampoline(slot.emit if isinstance(slot, BoundSignal) else slot)
    if attribute:
        getattr(native, attribute).connect(deliver)
    elif not QtCore.QObject.connect(native, QtCore.SIGNAL(normal), deliver):
        raise ValueError(f"Qt refused to connect '{signature}' of {type(wrapper).__name__}")
    _table(native).append((normal, slot, deliver))
    return True


def disconnect(wrapper: InstanceWrapper, signature: str, *slots: Any) -> bool:
    """Disconnect one slot, or all where none is named; False where there was no such connection."""
    normal, attribute = _resolve(wrapper, signature)
    native = wrapper._native
    found = [row for row in _table(native) if row[0] == normal and (not slots or row[1] == slots[0])]
    for row in found:
        _table(native).remove(row)
        if attribute:
            getattr(native, attribute).disconnect(row[2])
        else:
            QtCore.QObject.disconnect(native, QtCore.SIGNAL(normal), row[2])
    return bool(found)


def _table(native: QtCore.QObject) -> list[tuple[str, Any, Callable[..., None]]]:
    if not hasattr(native, "_harness_connections"):
        native._harness_connections = []  # type: ignore[attr-defined]
    return native._harness_connections  # type: ignore[attr-defined]
