"""Whether stored floats are numbers: NaN and infinity are found in the bytes, without numpy. Standard library only."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_CHUNK_BYTES = 1 << 16


class _Layout(NamedTuple):
    """Bits of a float, and how `struct` calls it where it knows it."""

    width: int
    exponent: int
    lowest: int
    code: str


_LAYOUTS = {
    "F16": _Layout(2, 0x7C00, 0x0400, "e"),
    "BF16": _Layout(2, 0x7F80, 0x0080, ""),
    "F32": _Layout(4, 0x7F80_0000, 0x0080_0000, "f"),
    "F64": _Layout(8, 0x7FF0_0000_0000_0000, 0x0010_0000_0000_0000, "d"),
}
FLOATS = frozenset(_LAYOUTS)
"""Number types, as safetensors names them, that can hold what is no finite number."""


def all_finite(data: bytes | memoryview, kind: str) -> bool:
    """Whether little-endian floats of a type in `FLOATS` are all finite.

    NaN and infinity have all bits of the exponent set. Adding the exponent's lowest bit then carries into the place
    of the sign, and into no other number, so that one long integer holds them all at once.
    """
    layout = _LAYOUTS[kind]
    exponent, lowest, sign = _patterns(layout, len(data) // layout.width)
    return not ((int.from_bytes(data, "little") & exponent) + lowest) & sign


def file_is_finite(path: Path, begin: int, end: int, kind: str) -> bool:
    """Whether the floats in the bytes `begin` to `end` of a file are all finite."""
    return all(all_finite(chunk, kind) for chunk in _chunks(path, begin, end))


def has_nan(data: bytes | memoryview, kind: str) -> bool:
    """Whether NaN is among little-endian floats of a type in `FLOATS`; infinity may be."""
    if all_finite(data, kind):
        return False
    data = bytes(data)
    if kind == "BF16":  # the upper half of a float
        data = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))
    code = _LAYOUTS[kind].code or "f"
    return any(math.isnan(value) for (value,) in struct.iter_unpack(f"<{code}", data))


@lru_cache(maxsize=16)
def _patterns(layout: _Layout, count: int) -> tuple[int, int, int]:
    """Exponent bits, lowest exponent bit and sign bit of `count` floats side by side."""
    sign = layout.exponent + layout.lowest
    exponent, lowest, sign = (
        int.from_bytes(bits.to_bytes(layout.width, "little") * count, "little")
        for bits in (layout.exponent, layout.lowest, sign)
    )
    return exponent, lowest, sign


def _chunks(path: Path, begin: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end:
            chunk = file.read(min(_CHUNK_BYTES, end - begin))
            if not chunk:
                raise OSError(f"'{path.name}' became shorter while it was read")
            begin += len(chunk)
            yield chunk
