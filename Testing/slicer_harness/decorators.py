"""Functions that PythonQt adds to Qt's classes or whose form differs from PySide6 (PythonQtStdDecorators.h@10a3e49)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import shiboken6
from PySide6 import QtCore, QtWidgets
from slicer_harness import class_info, connections
from slicer_harness.wrapper import ClassWrapper, InstanceWrapper, alive, report_unhandled, unwrap, wrap


def _class_name(wrapper: InstanceWrapper) -> str:
    return class_info.public_class(type(wrapper._native)).__name__


def _inherits(wrapper: InstanceWrapper, name: str) -> bool:
    if not isinstance(name, str):
        raise ValueError("inherits() takes the class's name")
    return any(base.__name__ == name for base in type(wrapper._native).__mro__)


def _children(wrapper: InstanceWrapper) -> tuple[Any, ...]:
    alive(wrapper, "call 'children' on")
    return tuple(wrap(child) for child in wrapper._native.children())


def _find_children(wrapper: InstanceWrapper, kind: Any, name: str = "") -> tuple[Any, ...]:
    alive(wrapper, "call 'findChildren' on")
    if not isinstance(kind, str | ClassWrapper):
        raise ValueError("findChildren() takes a Qt class or its name first")
    wanted = kind if isinstance(kind, str) else kind.native.__name__
    found = wrapper._native.findChildren(QtCore.QObject)
    return tuple(
        wrap(child)
        for child in found
        if any(base.__name__ == wanted for base in type(child).__mro__) and (not name or child.objectName() == name)
    )


def _find_child(wrapper: InstanceWrapper, kind: Any, name: str = "") -> Any:
    found = _find_children(wrapper, kind, name)
    return found[0] if found else None


def _property(wrapper: InstanceWrapper, name: str) -> Any:
    alive(wrapper, "call 'property' on")
    return wrap(wrapper._native.property(name))


def _set_property(wrapper: InstanceWrapper, name: str, value: Any) -> bool:
    alive(wrapper, "call 'setProperty' on")
    return bool(wrapper._native.setProperty(name, unwrap(value)))


def _delete(wrapper: InstanceWrapper) -> None:
    alive(wrapper, "delete")
    shiboken6.delete(wrapper._native)


def _connect(wrapper: InstanceWrapper, *args: Any) -> bool:
    if len(args) == 2:
        return connections.connect(wrapper, args[0], args[1])
    if len(args) in {3, 4} and isinstance(args[1], InstanceWrapper):
        return connections.connect(wrapper, args[0], _slot_of(args[1], args[2]))
    raise ValueError("connect() takes a signal's signature and a callable, or a receiver and its slot's signature")


def _slot_of(receiver: InstanceWrapper, signature: str) -> Any:
    """A slot by C++ signature: it must exist, and it takes as many arguments as the signature names."""
    name = signature.lstrip("012").split("(")[0]
    member = class_info.member_of(type(receiver._native), name)
    if member is None or member.kind not in {"method", "signal"}:
        raise ValueError(f"{_class_name(receiver)} has no slot '{signature}'")
    inside = signature[signature.index("(") + 1 : signature.rindex(")")].strip()
    count = len(inside.split(",")) if inside else 0
    return lambda *args: getattr(receiver, name)(*args[:count])


def _disconnect(wrapper: InstanceWrapper, signature: str, *slot: Any) -> bool:
    return connections.disconnect(wrapper, signature, *slot)


def _exec(wrapper: InstanceWrapper, name: str) -> Any:
    from slicer_harness import dialogs

    alive(wrapper, f"call '{name}' on")
    answer = dialogs.answer_for(class_info.public_class(type(wrapper._native)), name)
    return wrap(answer[0]) if answer else None


def _bytes_of(wrapper: InstanceWrapper) -> bytes:
    return bytes(wrapper._native.data())


def _write_bytes(wrapper: InstanceWrapper, data: Any) -> int:
    alive(wrapper, "call 'write' on")
    raw = unwrap(data)
    if not isinstance(raw, bytes | QtCore.QByteArray):
        raise ValueError("write() takes bytes or a QByteArray; encode the text first")
    return int(wrapper._native.write(raw))


_OBJECT: dict[str, Callable[..., Any]] = {
    "className": _class_name,
    "inherits": _inherits,
    "children": _children,
    "findChild": _find_child,
    "findChildren": _find_children,
    "property": _property,
    "setProperty": _set_property,
    "delete": _delete,
    "connect": _connect,
    "disconnect": _disconnect,
}


def find(native: Any, name: str) -> Callable[..., Any] | None:
    """The function that stands for `name` on this object, None where the plain rules hold."""
    if isinstance(native, QtCore.QObject):
        if name in _OBJECT:
            return _OBJECT[name]
        if isinstance(native, QtCore.QIODevice) and name == "write":
            return _write_bytes
        if isinstance(native, QtWidgets.QDialog | QtWidgets.QMenu) and name in {"exec", "exec_"}:
            return partial(_exec, name="exec")
    elif name in {"className", "inherits"}:
        return _OBJECT[name]
    elif isinstance(native, QtCore.QByteArray) and name == "data":
        return _bytes_of
    return None


def bind(function: Callable[..., Any], wrapper: InstanceWrapper, name: str) -> Callable[..., Any]:
    """A bound form that refuses keyword arguments."""

    def call(*args: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{name}() takes no keyword arguments; Qt has none")
        return function(wrapper, *args)

    call.__name__ = name
    return call


def _single_shot(milliseconds: int, slot: Any) -> None:
    if not isinstance(milliseconds, int) or not callable(slot):
        raise ValueError("QTimer.singleShot() takes whole milliseconds and a callable")

    def run() -> None:
        try:
            slot()
        except BaseException as error:  # noqa: BLE001 - nothing may travel through C++
            report_unhandled(error)

    QtCore.QTimer.singleShot(milliseconds, run)


def find_static(native: type, name: str) -> Any:
    """The function that stands for a static one, None where the plain rules hold."""
    if native is QtCore.QTimer and name == "singleShot":
        return _single_shot
    if issubclass(native, QtCore.QObject) and name in {"connect", "disconnect", "findChild", "findChildren"}:
        return _OBJECT[name]
    return None
