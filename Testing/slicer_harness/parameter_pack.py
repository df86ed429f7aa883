"""`@parameterPack`: several values as one parameter, stored as `pack.member`."""

import typing
from typing import Any

import slicer
from slicer_harness import parameter_types as kinds
from slicer_harness.parameter_checks import Validator, unannotatedType


def isParameterPack(obj: Any) -> bool:
    return bool(getattr(obj, "_is_parameterPack", False))


def _field(name: str, store: kinds.Store) -> property:
    def read(self: Any) -> Any:
        return self._values[name]

    def write(self: Any, value: Any) -> None:
        store.check(value)
        self._values[name] = value
        if self._saved is not None:
            self._saved()

    return property(read, write)


def parameterPack(classtype: type | None = None) -> Any:
    """Class decorator; with or without brackets."""
    if classtype is None:
        return parameterPack
    members = typing.get_type_hints(classtype, include_extras=True)
    if not members:
        raise ValueError("Unable to find any members in parameterPack")
    stores = {name: kinds.store_for(kind) for name, kind in members.items()}
    defaults = {name: kinds.initial_value(classtype, name, members[name], stores[name]) for name in members}
    for name, value in defaults.items():
        stores[name].check(value)
    cls: Any = classtype

    def start(self: Any, *args: Any, **named: Any) -> None:
        object.__setattr__(self, "_values", dict(defaults))
        object.__setattr__(self, "_saved", None)
        given = {**dict(zip(members, args, strict=False)), **named}
        unknown = set(given) - set(members)
        if unknown:
            raise TypeError(f"__init__() got an unexpected keyword argument {sorted(unknown)}")
        for name, value in given.items():
            setattr(self, name, value)

    def set_value(self: Any, name: str, value: Any) -> None:
        top, _, rest = name.partition(".")
        if rest:
            getattr(self, top).setValue(rest, value)
        else:
            setattr(self, top, value)

    def get_value(self: Any, name: str) -> Any:
        top, _, rest = name.partition(".")
        return getattr(self, top).getValue(rest) if rest else getattr(self, top)

    def data_type(name: str) -> Any:
        top, _, rest = name.partition(".")
        return unannotatedType(members[top]).dataType(rest) if rest else members[top]

    for name, store in stores.items():
        setattr(cls, name, _field(name, store))
    cls.__init__, cls.setValue, cls.getValue, cls.dataType = start, set_value, get_value, staticmethod(data_type)
    cls.__eq__ = lambda self, other: type(self) is type(other) and self._values == other._values
    cls.__hash__ = None
    cls.__repr__ = lambda self: f"{cls.__name__}({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"
    cls.allParameters, cls._stores, cls._is_parameterPack = members, stores, True
    return cls


class PackStore(kinds.Store):
    """Writes every member under its own name; a pack that was read writes itself back when changed."""

    def __init__(self, pack: Any, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.pack, self.kinds = pack, (pack,)

    def put(self, node: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(node):
            for member, store in self.pack._stores.items():
                store.write(node, f"{name}.{member}", getattr(value, member))

    def is_in(self, node: Any, name: str) -> bool:
        member, store = next(iter(self.pack._stores.items()))
        return store.is_in(node, f"{name}.{member}")

    def read(self, node: Any, name: str) -> Any:
        stores = self.pack._stores
        value = self.pack(**{member: store.read(node, f"{name}.{member}") for member, store in stores.items()})
        object.__setattr__(value, "_saved", lambda: self.put(node, name, value))
        return value

    def remove(self, node: Any, name: str) -> None:
        for member, store in self.pack._stores.items():
            store.remove(node, f"{name}.{member}")

    def default(self) -> Any:
        return self.pack()
