"""Reading typed fields out of a card's JSON, with errors that name the field and say what was expected.

Standard library only.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from strokeseg.errors import ModelError

_MOST_LEVELS = 16


class Fields:
    """One JSON object of a card, read field by field; what was not read at the end is unknown and refused.

    Args:
        data: The object.
        where: Its place in the card, e.g. ``"preparation"``; "" for the card itself.
        card: Name of the model, for the messages.
    """

    def __init__(self, data: Any, where: str, card: str) -> None:
        self.card = card
        self.where = where
        self._data: Mapping[str, Any] = {}
        self._read: set[str] = set()
        if not isinstance(data, Mapping):
            raise self.wrong("", "an object with named fields", data)
        self._data = data

    def wrong(self, field: str, expected: str, seen: Any) -> ModelError:
        """The error for a field that is not what it should be."""
        name = ".".join(p for p in (self.where, field) if p)
        place = f"Field {_shown(name)}" if name else "The card"
        near = get_close_matches(field, set(self._data) - self._read, n=1, cutoff=0.75) if seen is ... else []
        hint = f"; did you write {_shown(near[0])}?" if near else ""
        return ModelError(
            f"The card of the model '{self.card}' is not valid.",
            f"{place}: expected {expected}, found {_shown(seen)}{hint}.",
            "Correct the field in card.json; the card format is described in the documentation under 'models'.",
        )

    def _get(self, field: str, expected: str, default: Any) -> Any:
        self._read.add(field)
        if field not in self._data:
            if default is ...:
                raise self.wrong(field, expected, ...)
            return default
        return self._data[field]

    def text(self, field: str, default: Any = ...) -> str:
        """A text; required fields must not be empty."""
        value = self._get(field, "a text", default)
        if not isinstance(value, str) or (default is ... and not value.strip()):
            raise self.wrong(field, "a text that is not empty", value)
        if not _printable(value):
            raise self.wrong(field, "a text of one line without control characters", value)
        return value

    def choice(self, field: str, choices: Sequence[str], default: Any = ...) -> str:
        """One of several texts."""
        expected = "one of " + ", ".join(f"'{c}'" for c in choices)
        value = self._get(field, expected, default)
        if value not in choices:
            raise self.wrong(field, expected, value)
        return str(value)

    def number(self, field: str, low: float, high: float, default: Any = ...) -> float:
        """A finite number within bounds, both included."""
        expected = f"a number from {low:g} to {high:g}"
        value = self._get(field, expected, default)
        # The comparison is False for NaN, and, unlike math.isfinite, takes whole numbers of any length.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.wrong(field, expected, value)
        return float(value)

    def whole(self, field: str, low: int, high: int, default: Any = ...) -> int:
        """A whole number within bounds, both included."""
        value = self.number(field, low, high, default)
        if value != int(value):
            raise self.wrong(field, "a whole number", value)
        return int(value)

    def flag(self, field: str, default: Any = ...) -> bool:
        """True or false."""
        value = self._get(field, "true or false", default)
        if not isinstance(value, bool):
            raise self.wrong(field, "true or false", value)
        return value

    def items(self, field: str, default: Any = ...) -> list[Any]:
        """A list."""
        value = self._get(field, "a list", default)
        if not isinstance(value, list):
            raise self.wrong(field, "a list", value)
        return value

    def texts(self, field: str, default: Any = ...) -> tuple[str, ...]:
        """A list of texts."""
        values = self.items(field, default)
        if not all(isinstance(v, str) and _printable(v) for v in values):
            raise self.wrong(field, "a list of texts without control characters", values)
        return tuple(values)

    def mapping(self, field: str, default: Any = ...) -> dict[str, Any]:
        """An object whose fields are free."""
        value = self._get(field, "an object with named fields", default)
        if not isinstance(value, Mapping) or not _plain(value):
            raise self.wrong(
                field, f"an object with named fields and finite numbers, at most {_MOST_LEVELS} levels deep", value
            )
        return dict(value)

    def mappings(self, field: str) -> tuple[dict[str, Any], ...]:
        """A list of objects whose fields are free."""
        values = self.items(field)
        if not all(isinstance(v, Mapping) and _plain(v) for v in values):
            raise self.wrong(
                field, f"a list of objects with finite numbers, at most {_MOST_LEVELS} levels deep", values
            )
        return tuple(dict(v) for v in values)

    def part(self, field: str) -> Fields:
        """An object whose fields are read one by one."""
        return Fields(
            self._get(field, "an object with named fields", ...),
            ".".join(p for p in (self.where, field) if p),
            self.card,
        )

    def parts(self, field: str) -> list[Fields]:
        """A list of objects whose fields are read one by one; at least one."""
        values = self.items(field)
        if not values:
            raise self.wrong(field, "at least one entry", values)
        base = ".".join(p for p in (self.where, field) if p)
        return [Fields(v, f"{base}[{i}]", self.card) for i, v in enumerate(values)]

    def done(self) -> None:
        """Refuse fields that nobody asked for: a misspelt field must not be silently ignored."""
        unknown = sorted(set(self._data) - self._read)
        if unknown:
            near = get_close_matches(unknown[0], self._read, n=1)
            hint = f"no field of this name (did you mean '{near[0]}'?)" if near else "no field of this name"
            raise self.wrong(unknown[0], hint, self._data[unknown[0]])


def _shown(value: Any) -> str:
    """A value as it can be printed in one line."""
    if value is ...:
        return "nothing (the field is missing)"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more than 4300 digits, or thousands of nested lists
        return "something too long to be shown"
    return text if len(text) <= 80 else text[:77] + "..."


def _printable(text: str) -> bool:
    """Whether a text can be printed and stored: no control characters, no halves of UTF-16 pairs."""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def _plain(value: Any, levels: int = _MOST_LEVELS) -> bool:
    """Whether a JSON value can be written again: finite numbers, whole characters, not nested without end."""
    if isinstance(value, Mapping | list):
        parts = value if isinstance(value, list) else [*value.keys(), *value.values()]
        return levels > 0 and all(_plain(v, levels - 1) for v in parts)
    if isinstance(value, str):
        return not any(unicodedata.category(c) == "Cs" for c in value)
    return not isinstance(value, float) or math.isfinite(value)
