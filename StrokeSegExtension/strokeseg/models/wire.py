"""Reading the wire format of protocol buffers, as strictly as what is read by others afterwards allows.

What no program writes but a parser would accept in its own way (a field twice, an unknown field, groups) is refused:
a check must see what the parser will see. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTH = {FIXED64: 8, FIXED32: 4}
_MOST_VARINT_BYTES = 10


class WireError(ValueError):
    """The bytes are no message of the expected kind; the text says why."""


class Field(NamedTuple):
    """A field of a message: its name, its wire type, and whether it may stand several times."""

    name: str
    kind: int
    many: bool = False


class Message(NamedTuple):
    """A kind of message: its name for the reader, and its fields by number."""

    name: str
    fields: Mapping[int, Field]


class Budget:
    """How many fields may still be read: small fields in large files would take minutes.

    Args:
        fields: At most so many.
    """

    def __init__(self, fields: int) -> None:
        self._most = self._left = fields

    def take(self) -> None:
        """Count one field.

        Raises:
            WireError: There were too many.
        """
        self._left -= 1
        if self._left < 0:
            raise WireError(f"it has more than {self._most} fields")


class Record:
    """A message that was read: the values of each field, in order."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}
        self._data: dict[str, list[memoryview]] = {}

    def numbers(self, name: str) -> list[int]:
        """Values of a field of whole numbers (unsigned, 64 bits) that stand one by one."""
        return self._numbers.get(name, [])

    def number(self, name: str, default: int = 0) -> int:
        """Value of a field of one whole number."""
        return self.numbers(name)[0] if self.numbers(name) else default

    def data(self, name: str) -> list[memoryview]:
        """Values of a field of bytes, messages or floats; packed numbers come as one piece."""
        return self._data.get(name, [])

    def text(self, name: str) -> str:
        """Value of a field of one text; wrong characters are replaced."""
        return bytes(self.data(name)[0]).decode("utf-8", "replace") if self.data(name) else ""

    def texts(self, name: str) -> list[str]:
        """Values of a field of texts; wrong characters are replaced."""
        return [bytes(v).decode("utf-8", "replace") for v in self.data(name)]

    def has(self, name: str) -> bool:
        """Whether a field is there."""
        return name in self._numbers or name in self._data

    def add(self, field: Field, value: int | memoryview) -> None:
        """Note a value."""
        if isinstance(value, int):
            self._numbers.setdefault(field.name, []).append(value)
        else:
            self._data.setdefault(field.name, []).append(value)


def read_message(data: memoryview, message: Message, budget: Budget) -> Record:
    """The fields of one message; messages within it stay bytes.

    Raises:
        WireError: The bytes are cut off or malformed, or a field is unknown, of another type, or stands twice.
    """
    record, seen = Record(), set()
    at, end = 0, len(data)
    while at < end:
        budget.take()
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        field = message.fields.get(number)
        if field is None:
            raise WireError(f"a {message.name} has the field {number}, which is not known")
        packed = field.many and kind == BYTES
        if kind != field.kind and not packed:
            raise WireError(f"'{field.name}' of a {message.name} has the type {kind} instead of {field.kind}")
        if number in seen and not field.many:
            raise WireError(f"'{field.name}' of a {message.name} stands there twice")
        seen.add(number)
        if kind == VARINT:
            value, at = _varint(data, at, end)
            record.add(field, value)
            continue
        if kind == BYTES:
            length, at = _varint(data, at, end)
        else:
            length = _WIDTH[kind]
        if length > end - at:
            raise WireError(f"'{field.name}' of a {message.name} has {length} bytes, {end - at} are left")
        record.add(field, data[at : at + length])
        at += length
    return record


def packed_numbers(data: memoryview, budget: Budget) -> list[int]:
    """Whole numbers (unsigned, 64 bits) that were packed into one field.

    Raises:
        WireError: The last one is cut off.
    """
    values, at = [], 0
    while at < len(data):
        budget.take()
        value, at = _varint(data, at, len(data))
        values.append(value)
    return values


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place behind it."""
    value = shift = 0
    for place in range(at, min(end, at + _MOST_VARINT_BYTES)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + 1
        shift += 7
    raise WireError("it is cut off or damaged" if at + _MOST_VARINT_BYTES > end else "a number in it has no end")
