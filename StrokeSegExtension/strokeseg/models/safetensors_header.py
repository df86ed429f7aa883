"""The structure of a weights file, checked without the library that will read it. Standard library only.

The format (github.com/huggingface/safetensors): the length of a header in 8 bytes, a JSON object of name to type,
shape and place, and the numbers without any gap.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from strokeseg.errors import ModelError

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8,
    "I64": 8, "F64": 8,
}  # fmt: skip
"""Number types that a weights file may hold, as safetensors names them, and bytes of one number."""
# A header takes some 100 bytes a tensor; the largest of our networks has a few hundred.
_MOST_HEADER_BYTES = 16 * 1024**2
_MOST_AXES = 8
_LENGTH_BYTES = 8
# What other files begin with. As the length of a header, each would be far more than any file has.
_OTHER_FORMATS = (
    (rb"PK\x03\x04", "a zip, as PyTorch's checkpoints are; the pickle in it can run code"),
    (rb"\x80[\x02-\x05]", "a pickle, which can run code"),
    (rb"\x89HDF", "HDF5"),
    (rb"\x93NUMPY", "a numpy array"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
    (rb"\s*<(!|html)", "a web page"),
)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a weights file.

    Attributes:
        kind: Number type as safetensors names it, e.g. ``F16``.
        shape: Its axes.
        begin: Its first byte, counted from the start of the file.
        end: The byte behind its last.
    """

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Name to place of every tensor in a weights file.

    Raises:
        ModelError: It is another format, cut off, or its header contradicts itself or the file's size.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
        file.seek(0)
        try:
            return _read(file, size)
        except _HeaderError as error:
            other = next((f"it is {kind}" for begin, kind in _OTHER_FORMATS if re.match(begin, start)), str(error))
            raise ModelError(
                f"The weights file '{path.name}' was refused.",
                f"It is no safetensors file that can be trusted: {other}.",
                "Export the model again with 'strokeseg-train export', or get it again from where it came from.",
            ) from error


class _HeaderError(ValueError):
    """The reason why a header is wrong."""


def _read(file: BinaryIO, size: int) -> dict[str, StoredTensor]:
    if size < _LENGTH_BYTES:
        raise _HeaderError(f"it has {size} bytes, less than the length of a header")
    (length,) = struct.unpack("<Q", file.read(_LENGTH_BYTES))
    if length > size - _LENGTH_BYTES:
        raise _HeaderError(f"its header should have {length} bytes, the whole file has {size}")
    if length > _MOST_HEADER_BYTES:
        raise _HeaderError(f"its header has {length} bytes, at most {_MOST_HEADER_BYTES} are read")
    begin = _LENGTH_BYTES + length
    header = _parsed(file.read(length))
    tensors = {name: _tensor(name, entry, begin) for name, entry in header.items() if name != "__metadata__"}
    _refuse_gaps(tensors, begin, size)
    return tensors


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repetition)
    except _HeaderError:
        raise
    except (ValueError, RecursionError) as error:
        raise _HeaderError("its header is no JSON text") from error
    if not text.startswith(b"{") or not isinstance(header, dict):
        raise _HeaderError("its header is no JSON object")
    about = header.get("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(v, str) for v in about.values()):
        raise _HeaderError("'__metadata__' in its header holds more than texts")
    return header


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _HeaderError("its header names something twice")
    return fields


def _tensor(name: str, entry: Any, data_begin: int) -> StoredTensor:
    shown = repr(name[:60])
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _HeaderError(f"the entry of {shown} does not consist of 'dtype', 'shape' and 'data_offsets'")
    kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in ITEM_BYTES:
        raise _HeaderError(f"{shown} is of the type {str(kind)[:20]!r}; known are {', '.join(ITEM_BYTES)}")
    if not _are_sizes(shape) or len(shape) > _MOST_AXES:
        raise _HeaderError(f"the shape of {shown} is no list of at most {_MOST_AXES} sizes")
    if not _are_sizes(place) or len(place) != 2 or place[0] > place[1]:
        raise _HeaderError(f"the place of {shown} is no pair of rising offsets")
    expected = math.prod(shape) * ITEM_BYTES[kind]
    if place[1] - place[0] != expected:
        raise _HeaderError(
            f"{shown} has {place[1] - place[0]} bytes; its shape {shape} and type {kind} need {expected}"
        )
    return StoredTensor(kind, tuple(shape), data_begin + place[0], data_begin + place[1])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**40 for v in values)


def _refuse_gaps(tensors: dict[str, StoredTensor], data_begin: int, size: int) -> None:
    """Every byte belongs to exactly one tensor: nothing hides in between or behind."""
    at = data_begin
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != at:
            what = "overlaps the tensor before it" if tensor.begin < at else "comes after bytes that belong to nothing"
            raise _HeaderError(f"{name[:60]!r} {what}")
        at = tensor.end
    if at != size:
        raise _HeaderError(f"its header describes {at} bytes, the file has {size}")
