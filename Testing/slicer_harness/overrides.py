"""Python classes that derive from a Qt class and reimplement its virtual functions, such as `dropEvent`."""

from functools import cache
from types import FunctionType
from typing import Any

from slicer_harness import class_info
from slicer_harness.wrapper import ClassWrapper, InstanceWrapper, report_unhandled, unwrap, wrap


def _reimplemented(cls: ClassWrapper) -> dict[str, FunctionType]:
    found: dict[str, FunctionType] = {}
    for base in cls.__mro__:
        if base is InstanceWrapper or base.__dict__.get("native") is not None:
            break
        for name, value in vars(base).items():
            if (
                isinstance(value, FunctionType)
                and not name.startswith("_")
                and callable(getattr(cls.native, name, None))
            ):
                found.setdefault(name, value)
    return found


def _override(name: str, function: FunctionType, native: type) -> Any:
    def call(self: Any, *args: Any) -> Any:
        wrapper = getattr(self, "_harness_wrapper", lambda: None)()
        if wrapper is None:  # the C++ constructor is still running
            return getattr(native, name)(self, *args)
        try:
            return unwrap(function(wrapper, *[wrap(a) for a in args]))
        except Exception as error:  # noqa: BLE001 - nothing may travel through C++
            report_unhandled(error)
            return getattr(native, name)(self, *args)

    return call


@cache
def shadow(cls: ClassWrapper) -> type:
    """A PySide6 class whose virtual functions call those of the Python class."""
    native = class_info.public_class(cls.native)
    body = {name: _override(name, function, native) for name, function in _reimplemented(cls).items()}
    return type(cls.__name__, (native,), body)
