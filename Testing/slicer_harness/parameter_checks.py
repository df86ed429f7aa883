"""Annotations of a parameter: what a value must be, its default, and how a widget shows it.

Names as in Slicer/Slicer Base/Python/slicer/parameterNodeWrapper/validators.py@01c2def and default.py.
"""

import typing
from dataclasses import dataclass
from typing import Annotated, Any


class Validator:
    """Refuses values by raising ValueError in `validate`."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


class _Test(Validator):
    def _refuse(self, value: Any, wanted: str) -> None:
        raise ValueError(f"Value must be {wanted}, is {value!r}")


class NotNone(_Test):
    def validate(self, value: Any) -> None:
        if value is None:
            self._refuse(value, "not None")


class WithinRange(_Test):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            self._refuse(value, f"within range [{self.minimum}, {self.maximum}]")


class Minimum(_Test):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            self._refuse(value, f"at least {self.minimum}")


class Maximum(_Test):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            self._refuse(value, f"at most {self.maximum}")


class Choice(_Test):
    def __init__(self, choices: list[Any]) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            self._refuse(value, f"one of {self.choices}")


class Exclude(_Test):
    def __init__(self, excludedValues: list[Any]) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            self._refuse(value, f"none of {self.excludedValues}")


@dataclass
class Default:
    """`Annotated[float, Default(0.5)]`."""

    value: Any


@dataclass
class Decimals:
    value: int


@dataclass
class SingleStep:
    value: float


def splitAnnotations(annotated: Any) -> tuple[Any, list[Any]]:
    """The plain type and its annotations."""
    if typing.get_origin(annotated) is Annotated:
        plain, *rest = typing.get_args(annotated)
        return plain, rest
    return annotated, []


def unannotatedType(annotated: Any) -> Any:
    return splitAnnotations(annotated)[0]


def findFirstAnnotation(annotations: list[Any], kind: type) -> Any:
    return next((a for a in annotations if isinstance(a, kind)), None)
