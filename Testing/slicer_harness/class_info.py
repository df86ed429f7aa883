"""What a name means on a class: property, signal, method, enumeration value, or nothing at all.

Qt's own classes answer from Qt's meta-object (properties, signals) and from PySide6 (methods), less what Qt 5.15 lacks
and less what only PySide6 has. Stand-ins of CTK and Slicer classes answer from `allow_lists`: what real headers
declare,
and nothing else. A name that the header has and the stand-in has not raises `NotInHarnessError`, which is a wish, not a
fault of the panel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets
from slicer_harness import enums
from slicer_harness.allow_lists import STAND_INS, Allowed

# In PySide6 only, or with another meaning there.
PYSIDE_ONLY = frozenset(
    [
        "Signal",
        "Slot",
        "Property",
        "emit",
        "receivers",
        "sender",
        "staticMetaObject",
        "toPython",
        "toTuple",
        "fromPyObject",
        "keywords",
        "isQmlExposed",
        "isQuickItemType",
        "connectNotify",
        "disconnectNotify",
    ]
)
# PySide6 gives a tuple where C++ writes through a pointer, which PythonQt does not offer in a portable way.
OUT_PARAMETERS = {
    "QLocale": {"toDouble", "toFloat", "toInt", "toLong", "toLongLong", "toShort", "toUInt"},
    "QSplitter": {"getRange"},
    "QFormLayout": {"getItemPosition", "getLayoutPosition", "getWidgetPosition"},
    "QGridLayout": {"getItemPosition"},
    "QLayout": {"getContentsMargins"},
    "QWidget": {"getContentsMargins"},
}


class NotInHarnessError(NotImplementedError):
    """Real Slicer has it, the test double does not (yet)."""


@dataclass(frozen=True)
class Member:
    """What a name is: `kind` one of property, signal, method, enum; `native` how the PySide6 object calls it."""

    kind: str
    native: str
    value: Any = None


def _read_newer() -> dict[str, frozenset[str] | None]:
    table: dict[str, frozenset[str] | None] = {}
    for line in (Path(__file__).parent / "qt_newer_than_5_15.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, *members = line.split()
            table[name] = frozenset(members) or None
    return table


NEWER = _read_newer()


@dataclass(frozen=True)
class Meta:
    """What one class of Qt adds to its base: property names and signal signatures."""

    properties: frozenset[str]
    signals: tuple[str, ...]


def _text(raw: QtCore.QByteArray) -> str:
    return bytes(raw.data()).decode()


def _read_meta() -> dict[type, Meta]:
    # Read once at import: PySide6 may drop a class's static meta-object when a garbage collection comes by later.
    found: dict[type, Meta] = {}
    for module in (QtCore, QtGui, QtWidgets, QtNetwork):
        for cls in [getattr(module, name) for name in dir(module)]:
            if isinstance(cls, type) and issubclass(cls, QtCore.QObject) and "staticMetaObject" in vars(cls):
                meta = cls.staticMetaObject  # type: ignore[attr-defined]  # not in the stubs
                methods = [meta.method(i) for i in range(meta.methodOffset(), meta.methodCount())]
                found[cls] = Meta(
                    frozenset(meta.property(i).name() for i in range(meta.propertyOffset(), meta.propertyCount())),
                    tuple(
                        _text(m.methodSignature())
                        for m in methods
                        if m.methodType() == QtCore.QMetaMethod.MethodType.Signal
                    ),
                )
    return found


META = _read_meta()


def is_new_class(name: str) -> bool:
    """True where Qt 5.15 has no such class at all."""
    return name in NEWER and NEWER[name] is None


def is_stand_in(native: type) -> bool:
    """True for our own double of a CTK or Slicer class."""
    return native.__name__ in STAND_INS


_Result = TypeVar("_Result")


def _remember(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """As functools.cache, whose types do not take PySide6's classes for hashable."""
    known: dict[Any, _Result] = {}

    def call(*key: Any) -> _Result:
        if key not in known:
            known[key] = function(*key)
        return known[key]

    return call


@_remember
def public_class(native: type) -> type:
    """The nearest class that PythonQt would know: a stand-in or a class of Qt, never a helper in between."""
    for cls in native.__mro__:
        if is_stand_in(cls) or cls.__module__.startswith("PySide6"):
            return cls
    raise TypeError(f"{native} is no Qt class")


@_remember
def member_of(native: type, name: str) -> Member | None:
    """The meaning of `name` on `native`, None where real Slicer has nothing of that name."""
    if name == "name" and issubclass(native, QtCore.QObject):
        # CTK and Slicer build PythonQt with PYTHONQT_SUPPORT_NAME_PROPERTY (PythonQtClassInfo.cpp,
        # lookForPropertyAndCache).
        declared = next((STAND_INS[c.__name__] for c in native.__mro__ if c.__name__ in STAND_INS), None)
        if declared is None or "name" not in declared.properties:
            return Member("property", "objectName")
    for cls in native.__mro__:
        if is_stand_in(cls):
            found = _of_stand_in(native, cls, STAND_INS[cls.__name__], name)
            if found is not None:
                return found
        elif cls.__module__.startswith("PySide6"):
            return _of_qt(cls, name)
    return None


def _of_stand_in(native: type, cls: type, allowed: Allowed, name: str) -> Member | None:
    if name in allowed.enums:
        return Member("enum", name, allowed.enums[name])
    if name in allowed.properties:
        return Member("property", _implemented(native, cls, name))
    if any(signature.split("(")[0] == name for signature in allowed.signals):
        return Member("signal", _implemented(native, cls, name))
    plain = name[:-1] if name.endswith("_") else name
    if plain in allowed.methods:
        return Member("method", _implemented(native, cls, plain))
    return None


def _implemented(native: type, cls: type, name: str) -> str:
    if not hasattr(native, name):
        raise NotInHarnessError(
            f"Slicer's {cls.__name__} has '{name}' ({STAND_INS[cls.__name__].source}), the test double has not. "
            f"Add it to the stand-in {cls.__name__} under Testing/slicer_harness."
        )
    return name


def _of_qt(cls: type, name: str) -> Member | None:
    if name.startswith("_") or name in PYSIDE_ONLY or _refused(cls, name):
        return None
    is_object = issubclass(cls, QtCore.QObject)
    # PythonQt leaves QTimer's property out so that the static function of the same name can be reached
    # (PythonQtClassInfo.cpp).
    if is_object and not (cls.__name__ == "QTimer" and name == "singleShot"):
        tables = [META[base] for base in cls.__mro__ if base in META]
        if any(name in table.properties for table in tables):
            return Member("property", name)
        if any(name == signature.split("(")[0] for table in tables for signature in table.signals):
            return Member("signal", name)
    value = enums.values_of(cls).get(name)
    if value is not None:
        return Member("enum", name, value)
    if enums.has_enum_type(cls, name):
        raise AttributeError(
            f"Write {cls.__name__}.<value>, not {cls.__name__}.{name}.<value>: Qt 5.15 has no such names."
        )
    # PythonQt finds `exec` for `exec_` and `raise` for `raise_` (PythonQtClassInfo::member).
    for candidate in (name, name[:-1] if name.endswith("_") else name + "_"):
        if callable(getattr(cls, candidate, None)) and not isinstance(getattr(cls, candidate), type):
            return Member("method", candidate)
    return None


def _refused(cls: type, name: str) -> bool:
    for base in cls.__mro__:
        if name in (NEWER.get(base.__name__) or ()) or name in OUT_PARAMETERS.get(base.__name__, ()):
            return True
        if name in vars(base):
            return False
    return False


@_remember
def signal_signatures(native: type) -> dict[str, str]:
    """Every signal as C++ signature -> name on the PySide6 object ('' where Qt itself knows the signature)."""
    found: dict[str, str] = {}
    for cls in native.__mro__:
        if is_stand_in(cls):
            for signature, attribute in STAND_INS[cls.__name__].signals.items():
                found.setdefault(signature, attribute)
        else:
            for signature in META[cls].signals if cls in META else ():
                found.setdefault(signature, "")
    return found
