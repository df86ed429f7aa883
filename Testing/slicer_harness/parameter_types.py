"""Types of a parameter node: how a value is checked and written into a vtkMRMLScriptedModuleNode.

The stored form is Slicer's (Slicer/Slicer Base/Python/slicer/parameterNodeWrapper/serializers.py@57a10be), so that a
scene saved here opens there: numbers and texts as parameters, "True"/"False", an enumeration by name, a node as a node
reference of the parameter's name, a list as `name.0`, `name.1`, …, `name.len`, a union as `name.<position of the
type>`.
"""

import enum
import pathlib
import types
import typing
from typing import Any, Union

import slicer
from slicer_harness.parameter_checks import Default, Validator, findFirstAnnotation, splitAnnotations


class Store:
    """Reads and writes one type under one name of a parameter node."""

    kinds: tuple[Any, ...] = (object,)
    none_allowed = False

    def __init__(self, validators: list[Validator]) -> None:
        self.validators = validators

    def check(self, value: Any) -> None:
        if value is None:
            if not self.none_allowed:
                raise ValueError("Value must not be None")
        elif not isinstance(value, self.kinds):
            raise TypeError(f"Value must be of type {self.kinds}, is {type(value)} {value!r}")
        for validator in self.validators:
            validator.validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.check(value)
        self.put(node, name, value)

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, str(value))

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)

    def read(self, node: Any, name: str) -> Any:
        raise NotImplementedError

    def default(self) -> Any:
        raise NotImplementedError


class NumberStore(Store):
    def __init__(self, kind: type, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.kind, self.kinds = kind, (int, float) if kind is float else (int,)

    def read(self, node: Any, name: str) -> Any:
        return self.kind(node.GetParameter(name))

    def default(self) -> Any:
        return 0


class TextStore(Store):
    kinds = (str,)

    def read(self, node: Any, name: str) -> str:
        return str(node.GetParameter(name))

    def default(self) -> str:
        return ""


class PathStore(Store):
    def __init__(self, kind: type, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.kind, self.kinds = kind, (kind,)

    def read(self, node: Any, name: str) -> Any:
        return self.kind(node.GetParameter(name))

    def default(self) -> Any:
        return self.kind()


class BoolStore(Store):
    kinds = (bool,)

    def read(self, node: Any, name: str) -> bool:
        return node.GetParameter(name) == "True"

    def default(self) -> bool:
        return False


class EnumStore(Store):
    def __init__(self, kind: type[enum.Enum], validators: list[Validator]) -> None:
        super().__init__(validators)
        self.kind, self.kinds = kind, (kind,)

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name)

    def read(self, node: Any, name: str) -> Any:
        return self.kind[node.GetParameter(name)]

    def default(self) -> Any:
        return next(iter(self.kind))


class NodeStore(Store):
    none_allowed = True

    def __init__(self, kind: type, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.kinds = (kind,)

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)

    def default(self) -> None:
        return None


class NoneStore(Store):
    none_allowed = True
    kinds = (type(None),)

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "True")

    def read(self, node: Any, name: str) -> None:
        return None

    def default(self) -> None:
        return None


class ListStore(Store):
    kinds = (list, tuple)

    def __init__(self, element: Store, validators: list[Validator]) -> None:
        super().__init__(validators)
        self.element = element

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def put(self, node: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            for index, element in enumerate(value):
                self.element.write(node, f"{name}.{index}", element)
            node.SetParameter(f"{name}.len", str(len(value)))

    def read(self, node: Any, name: str) -> list[Any]:
        return [self.element.read(node, f"{name}.{i}") for i in range(int(node.GetParameter(f"{name}.len")))]

    def remove(self, node: Any, name: str) -> None:
        if self.is_in(node, name):
            for index in range(int(node.GetParameter(f"{name}.len"))):
                self.element.remove(node, f"{name}.{index}")
            node.UnsetParameter(f"{name}.len")

    def default(self) -> list[Any]:
        return []


class UnionStore(Store):
    none_allowed = True

    def __init__(self, choices: list[Store], validators: list[Validator]) -> None:
        super().__init__(validators)
        self.choices = choices

    def _index(self, value: Any) -> int:
        for index, choice in enumerate(self.choices):
            try:
                choice.check(value)
            except (TypeError, ValueError):
                continue
            return index
        raise TypeError(f"Unable to write value {value!r} of type {type(value)}")

    def check(self, value: Any) -> None:
        self._index(value)
        for validator in self.validators:
            validator.validate(value)

    def put(self, node: Any, name: str, value: Any) -> None:
        index = self._index(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self.choices[index].write(node, f"{name}.{index}", value)

    def is_in(self, node: Any, name: str) -> bool:
        return any(choice.is_in(node, f"{name}.{i}") for i, choice in enumerate(self.choices))

    def read(self, node: Any, name: str) -> Any:
        for index, choice in enumerate(self.choices):
            if choice.is_in(node, f"{name}.{index}"):
                return choice.read(node, f"{name}.{index}")
        raise KeyError(f"Unable to find value for '{name}'")

    def remove(self, node: Any, name: str) -> None:
        for index, choice in enumerate(self.choices):
            if choice.is_in(node, f"{name}.{index}"):
                choice.remove(node, f"{name}.{index}")

    def default(self) -> Any:
        return None if len(self.choices) == 2 and isinstance(self.choices[1], NoneStore) else self.choices[0].default()


_PATHS = (pathlib.Path, pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath)


def store_for(annotated: Any) -> Store:
    """The store of a possibly annotated type; TypeError where Slicer knows no serializer for it."""
    from slicer_harness import parameter_pack

    kind, annotations = splitAnnotations(annotated)
    validators = [a for a in annotations if isinstance(a, Validator)]
    origin = typing.get_origin(kind)
    if isinstance(kind, types.UnionType):
        raise TypeError(f"{kind}: Slicer's parameter nodes understand typing.Optional and typing.Union, not 'A | B'")
    if origin is Union:
        return UnionStore([store_for(a) for a in typing.get_args(kind)], validators)
    if origin is list:
        return ListStore(store_for(typing.get_args(kind)[0]), validators)
    if kind is type(None):
        return NoneStore(validators)
    if parameter_pack.isParameterPack(kind):
        return parameter_pack.PackStore(kind, validators)
    if kind is bool:
        return BoolStore(validators)
    if kind in {int, float}:
        return NumberStore(kind, validators)
    if kind is str:
        return TextStore(validators)
    if kind in _PATHS:
        return PathStore(kind, validators)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return EnumStore(kind, validators)
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeStore(kind, validators)
    raise TypeError(f"Unable to create serializer for type {kind!r} (dict, tuple and Any are not doubled)")


def initial_value(owner: type, name: str, annotated: Any, store: Store) -> Any:
    """The default: after the equals sign, from Default(...), or the type's own."""
    if name in vars(owner):
        return vars(owner)[name]
    given = findFirstAnnotation(splitAnnotations(annotated)[1], Default)
    return given.value if given is not None else store.default()
