"""Enumerations the way PythonQt shows them: integers, reached without naming their type (`qt.QProcess.Running`)."""

import enum
from functools import cache
from typing import Any


class EnumInt(int):
    """An enumeration value: an int for Python, and the PySide6 member it stands for when handed to Qt."""

    member: Any

    def __new__(cls, member: Any) -> "EnumInt":
        self = super().__new__(cls, member.value)
        self.member = member
        return self

    def __or__(self, other: Any) -> Any:
        if isinstance(other, EnumInt):
            return EnumInt(_flags(self.member) | _flags(other.member))
        return int(self) | other

    def __and__(self, other: Any) -> Any:
        if isinstance(other, EnumInt):
            return EnumInt(_flags(self.member) & _flags(other.member))
        return int(self) & other

    def __repr__(self) -> str:
        return f"{self.member.name} ({int(self)})"


def _flags(member: Any) -> Any:
    if not isinstance(member, enum.Flag):
        raise TypeError(f"{member} is no flag and cannot be combined")
    return member


@cache
def values_of(native: type) -> dict[str, EnumInt]:
    """Every enumeration value of a PySide6 class and its bases by plain name; the nearest class wins."""
    found: dict[str, EnumInt] = {}
    for cls in native.__mro__:
        for value in vars(cls).values():
            if isinstance(value, type) and issubclass(value, enum.Enum):
                for name, member in value.__members__.items():
                    if isinstance(member.value, int):
                        found.setdefault(name, EnumInt(member))
    return found


def has_enum_type(native: type, name: str) -> bool:
    """True where `name` is the enumeration's own name, as in `Qt.AlignmentFlag`."""
    value = getattr(native, name, None)
    return isinstance(value, type) and issubclass(value, enum.Enum)
