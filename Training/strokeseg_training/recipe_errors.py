"""What is said about a recipe that is not valid: the key, what was found, and the nearest right key."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from difflib import get_close_matches
from types import UnionType
from typing import Any

from pydantic import BaseModel, ValidationError

from strokeseg.errors import InputError


def not_valid(error: ValidationError, recipe: type[BaseModel], where: str) -> InputError:
    """The error in words.

    Args:
        error: What pydantic says; its first fault is told, and how many there are.
        recipe: The type of a recipe.
        where: Name of the recipe.
    """
    faults = error.errors(include_url=False)
    first = faults[0]
    key = ".".join(map(str, first["loc"])) or "the recipe"
    more = f" There are {len(faults) - 1} more faults." if len(faults) > 1 else ""
    title = f"The recipe '{where}' is not valid."
    if first["type"] == "extra_forbidden":
        known = _keys(_model_at(recipe, first["loc"][:-1]))
        cause = f"There is no key '{key}'; known here: " + ", ".join(known) + "." + more
        return InputError(title, cause, _nearest(str(first["loc"][-1]), list(first["loc"][:-1]), known, recipe))
    if first["type"] == "missing":
        return InputError(title, f"The key '{key}' is missing.{more}", "Add it to the recipe, or give it with --set.")
    message = first["msg"].removeprefix("Value error, ")
    # A group of keys is not shown: the message says what is wrong in it.
    found = first["input"]
    seen = "" if isinstance(found, dict | BaseModel) or found is None else f"; found is {found!r:.80}"
    return InputError(title, f"'{key}': {message}{seen}.{more}", "Correct this key in the recipe or in --set.")


def _nearest(wrong: str, place: list[Any], known: list[str], recipe: type[BaseModel]) -> str:
    near = get_close_matches(wrong, known, n=1)
    if near:
        return "Did you mean '" + ".".join(map(str, [*place, near[0]])) + "'?"
    elsewhere = [path for path in _paths(recipe) if path.rsplit(".", 1)[-1] == wrong]
    if elsewhere:
        return f"Did you mean '{elsewhere[0]}'?"
    return "Use one of the known keys."


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The type of the group of keys at a place such as ``("stages", 0, "loss")``."""
    for part in place:
        if isinstance(part, str):
            model = next((m for key, m in _groups(model) if key == part), model)
    return model


def _groups(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Keys that hold a group of keys, and the group's type."""
    for name, field in model.model_fields.items():
        kind = _model_in(field.annotation)
        if kind is not None:
            yield field.alias or name, kind


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is not None:
        return next((m for a in typing.get_args(annotation) if (m := _model_in(a)) is not None), None)
    return None


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Dotted names of all keys."""
    groups = dict(_groups(model))
    for key in _keys(model):
        yield before + key
        if key in groups:
            yield from _paths(groups[key], f"{before}{key}.")
