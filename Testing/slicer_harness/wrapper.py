"""Objects of Qt as PythonQt shows them to Python: a wrapper around the PySide6 object, open where PythonQt is.

Properties are attributes (`label.text`), methods take no keyword arguments, lists come back as tuples, enumerations as
integers, a destroyed object raises ValueError, a foreign attribute raises AttributeError, and `isinstance(button,
qt.QWidget)` is False, because PythonQt derives every wrapper class from one base. Rules read in MeVisLab/pythonqt:
PythonQtInstanceWrapper.cpp@01e1206, PythonQtClassInfo.cpp@0c739e6, PythonQtSignal.cpp@100cb30.
"""

import enum
import sys
import traceback
import types
import weakref
from typing import Any

import shiboken6
from PySide6 import QtCore
from slicer_harness import class_info, enums

_CLASSES: dict[type, "ClassWrapper"] = {}
UNHANDLED: list[BaseException] = []
"""Exceptions raised in slots and event handlers: PythonQt prints them and goes on, a test must not."""


def report_unhandled(error: BaseException) -> None:
    """Print an exception of a slot the way PythonQt does, and keep it for the test that is running."""
    UNHANDLED.append(error)
    traceback.print_exception(error, file=sys.stderr)


class ClassWrapper(type):
    """The class object: `qt.QProcess`. Gives enumeration values, static and unbound functions."""

    native: type

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from slicer_harness import decorators

        special = decorators.find_static(cls.native, name)
        if special is not None:
            return special
        member = class_info.member_of(cls.native, name)
        if member is None or member.kind in {"property", "signal"}:
            raise AttributeError(f"{cls.native.__name__} has no attribute named '{name}'")
        if member.kind == "enum":
            return member.value
        return _ClassFunction(cls, member)

    def __repr__(cls) -> str:
        return f"<class '{cls.native.__name__}' (test double)>"


class _ClassFunction:
    """`qt.QDir.tempPath()` or, unbound, `qt.QObject.eventFilter(self, watched, event)`."""

    def __init__(self, owner: ClassWrapper, member: class_info.Member) -> None:
        self._owner, self._member = owner, member
        self.__name__ = member.native

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        _refuse_keywords(self._owner.native, self.__name__, keywords)
        if args and isinstance(args[0], InstanceWrapper) and isinstance(args[0]._native, self._owner.native):
            return _call(getattr(self._owner.native, self.__name__), self._owner.native, self.__name__, args)
        native = getattr(self._owner.native, self.__name__)
        if not isinstance(native, types.BuiltinFunctionType | types.FunctionType | types.MethodType):
            raise ValueError(f"{self._owner.native.__name__}.{self.__name__}() needs an object to work on")
        return _call(native, self._owner.native, self.__name__, args)


class BoundSlot:
    """A function of one object, called with positional arguments only."""

    def __init__(self, wrapper: "InstanceWrapper", member: class_info.Member) -> None:
        self._wrapper, self._member = wrapper, member
        self.__name__ = member.native

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        native = self._wrapper._native
        _refuse_keywords(type(native), self.__name__, keywords)
        alive(self._wrapper, f"call '{self.__name__}' on")
        return _call(getattr(native, self.__name__), class_info.public_class(type(native)), self.__name__, args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundSlot) and (self._wrapper, self._member) == (other._wrapper, other._member)

    def __hash__(self) -> int:
        return hash((self._wrapper, self.__name__))


class BoundSignal:
    """A signal of one object: connect, disconnect, emit, or call it to emit."""

    def __init__(self, wrapper: "InstanceWrapper", name: str) -> None:
        self._wrapper, self._name = wrapper, name

    def _signature(self) -> str:
        known = class_info.signal_signatures(type(self._wrapper._native))
        return next(signature for signature in known if signature.split("(")[0] == self._name)

    def connect(self, slot: Any) -> bool:
        return connect(self._wrapper, self._signature(), slot)

    def disconnect(self, *slot: Any) -> bool:
        return disconnect(self._wrapper, self._signature(), *slot)

    def emit(self, *args: Any) -> None:
        alive(self._wrapper, f"emit '{self._name}' of")
        getattr(self._wrapper._native, self._name).emit(*[unwrap(a) for a in args])

    __call__ = emit


class InstanceWrapper(metaclass=ClassWrapper):
    """Base of every wrapper; the only base PythonQt gives, too."""

    native = object
    _native: Any

    def __init__(self, *args: Any, **keywords: Any) -> None:
        cls = type(self)
        _refuse_keywords(cls.native, cls.native.__name__, keywords)
        from slicer_harness import overrides

        native_class = cls.native if _is_plain(cls) else overrides.shadow(cls)
        native = _call_raw(native_class, cls.native, "the constructor", args)
        adopt(self, native, keep=native_class is not cls.native)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_native":
            raise AttributeError(name)
        native = self._native
        from slicer_harness import decorators

        special = decorators.find(native, name)
        if special is not None:
            return decorators.bind(special, self, name)
        member = class_info.member_of(type(native), name)
        if member is None:
            if isinstance(native, QtCore.QObject) and shiboken6.isValid(native) and _is_dynamic(native, name):
                return wrap(native.property(name))
            raise AttributeError(f"{class_info.public_class(type(native)).__name__} has no attribute named '{name}'")
        if member.kind == "property":
            alive(self, f"read property '{name}' from")
            return wrap(native.property(member.native))
        if member.kind == "signal":
            return BoundSignal(self, member.native)
        if member.kind == "enum":
            return member.value
        return BoundSlot(self, member)

    def __setattr__(self, name: str, value: Any) -> None:
        native: Any = self.__dict__.get("_native")
        member = None if native is None or name.startswith("_") else class_info.member_of(type(native), name)
        if member is None:
            if native is not None and isinstance(native, QtCore.QObject) and _is_dynamic(native, name):
                native.setProperty(name, unwrap(value))
                return
            if _is_plain(type(self)):
                raise AttributeError(
                    f"'{name}' does not exist on {type(self).__name__} "
                    "and creating new attributes on C++ objects is not allowed"
                )
            object.__setattr__(self, name, value)
            return
        if member.kind != "property":
            raise AttributeError(
                f"{member.kind.capitalize()} '{name}' can not be overwritten on {type(self).__name__} object"
            )
        alive(self, f"set property '{name}' on")
        _write_property(native, member.native, value)

    def __bool__(self) -> bool:
        native = self._native
        if isinstance(native, QtCore.QObject):
            return bool(shiboken6.isValid(native))
        empty = getattr(native, "isNull", None) or getattr(native, "isEmpty", None)
        return not empty() if empty is not None else True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InstanceWrapper):
            return NotImplemented
        if isinstance(self._native, QtCore.QObject):
            return self._native is other._native
        return bool(self._native == other._native)

    def __hash__(self) -> int:
        return id(self._native) if isinstance(self._native, QtCore.QObject) else hash(repr(self._native))

    def __repr__(self) -> str:
        return f"{type(self).__name__} (test double of {class_info.public_class(type(self._native)).__name__})"

    def __str__(self) -> str:
        if isinstance(self._native, QtCore.QByteArray):
            return bytes(self._native.data()).decode()
        return repr(self)


def _is_plain(cls: ClassWrapper) -> bool:
    """True for a class of Qt itself, False for a Python class derived from one."""
    return "native" in vars(cls)


def adopt(wrapper: InstanceWrapper, native: Any, *, keep: bool) -> None:
    """Tie wrapper and PySide6 object to each other; a Python subclass lives as long as its Qt object."""
    object.__setattr__(wrapper, "_native", native)
    if isinstance(native, QtCore.QObject):
        native._harness_wrapper = (lambda: wrapper) if keep else weakref.ref(wrapper)  # type: ignore[attr-defined]


def wrapper_class(native: type) -> ClassWrapper:
    """The class object of one Qt, CTK or Slicer class; the same every time."""
    native = class_info.public_class(native)
    if native not in _CLASSES:
        _CLASSES[native] = ClassWrapper(native.__name__, (InstanceWrapper,), {"native": native, "__module__": "qt"})
    return _CLASSES[native]


def wrap(value: Any) -> Any:
    """What PythonQt would hand to Python for this PySide6 value."""
    if isinstance(value, InstanceWrapper | EnumLike):
        return value
    if isinstance(value, enum.Enum):
        return enums.EnumInt(value)
    if isinstance(value, QtCore.QObject):
        kept = getattr(value, "_harness_wrapper", lambda: None)()
        if kept is not None:
            return kept
    if isinstance(value, shiboken6.Object):
        cls: Any = wrapper_class(type(value))
        wrapper = cls.__new__(cls)
        adopt(wrapper, value, keep=False)
        return wrapper
    if isinstance(value, list | tuple):
        return tuple(wrap(v) for v in value)
    if isinstance(value, dict):
        return {k: wrap(v) for k, v in value.items()}
    return value


EnumLike = enums.EnumInt


def unwrap(value: Any) -> Any:
    """What PySide6 needs for a value that Python code hands over."""
    if isinstance(value, InstanceWrapper):
        alive(value, "hand over")
        return value._native
    if isinstance(value, enums.EnumInt):
        return value.member
    if isinstance(value, list | tuple):
        return [unwrap(v) for v in value]
    if isinstance(value, dict):
        return {k: unwrap(v) for k, v in value.items()}
    if isinstance(value, ClassWrapper):
        return value.native
    if isinstance(value, enum.Enum):
        raise ValueError(f"{value!r} is no value PythonQt knows; use the plain number or the Qt constant")
    return value


def alive(wrapper: InstanceWrapper, what: str) -> None:
    """Raise as PythonQt does when the C++ object is gone."""
    native = wrapper._native
    if isinstance(native, QtCore.QObject) and not shiboken6.isValid(native):
        raise ValueError(f"Trying to {what} a destroyed {type(wrapper).__name__} object")


def _refuse_keywords(native: type, name: str, keywords: dict[str, Any]) -> None:
    if keywords:
        raise TypeError(f"{native.__name__}: {name} takes no keyword arguments ({', '.join(keywords)}); Qt has none")


def _call(function: Any, native: type, name: str, args: tuple[Any, ...]) -> Any:
    return wrap(_call_raw(function, native, name, args))


def _call_raw(function: Any, native: type, name: str, args: tuple[Any, ...]) -> Any:
    from slicer_harness import dialogs

    if any(isinstance(a, types.FunctionType | types.MethodType | types.LambdaType) for a in args):
        raise ValueError(f"{native.__name__}.{name} takes no Python function; connect a signal instead")
    answer = dialogs.answer_for(native, name)
    if answer is not None:
        return answer[0]
    try:
        return function(*[unwrap(a) for a in args])
    except (TypeError, NotImplementedError) as error:
        if isinstance(error, class_info.NotInHarnessError) or class_info.is_stand_in(native):
            raise
        raise ValueError(f"Could not call {native.__name__}.{name} with {args!r}: {error}") from error


def _is_dynamic(native: QtCore.QObject, name: str) -> bool:
    return any(bytes(known.data()).decode() == name for known in native.dynamicPropertyNames())


_PLAIN = {"QString": str, "bool": (bool, int), "int": (int,), "double": (float, int)}


def _write_property(native: QtCore.QObject, name: str, value: Any) -> None:
    meta = native.metaObject().property(native.metaObject().indexOfProperty(name))
    public = class_info.public_class(type(native)).__name__
    if not meta.isWritable():
        raise AttributeError(f"Property '{name}' of {public} object is not writable")
    kind: Any = meta.typeName()
    expected: Any = _PLAIN.get(kind)
    if kind == "int" and isinstance(value, enums.EnumInt):
        value = int(value)
    if (expected is not None and not isinstance(value, expected)) or not native.setProperty(name, unwrap(value)):
        raise AttributeError(f"Property '{name}' of type '{kind}' does not accept {value!r} ({type(value).__name__})")


def connect(wrapper: InstanceWrapper, signature: str, slot: Any) -> bool:
    """Old-style connection by C++ signature; raises ValueError where the signature does not exist."""
    from slicer_harness import connections

    return connections.connect(wrapper, signature, slot)


def disconnect(wrapper: InstanceWrapper, signature: str, *slot: Any) -> bool:
    """Undo `connect`; without a slot every connection of that signature."""
    from slicer_harness import connections

    return connections.disconnect(wrapper, signature, *slot)
