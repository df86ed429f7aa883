"""The elements of a DICOM file, walked without interpreting them.

Needed for two things: GDCM takes as much memory as a damaged length asks for, and SimpleITK does not hand out the
elements of nested sequences, in which multi-frame files keep their geometry.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Container

from strokeseg.volume.source import damaged

Tag = tuple[int, int]

MARK = b"DICM"
MARK_AT = 128
UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
STORAGE_CLASS: Tag = (0x0002, 0x0002)
TRANSFER_SYNTAX: Tag = (0x0002, 0x0010)
PIXEL_DATA: Tag = (0x7FE0, 0x0010)
_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_ITEM_GROUP = 0xFFFE
_ITEM = 0xE000
_SEQUENCE_END = 0xE0DD
_UNDEFINED = 0xFFFFFFFF
# Types whose length takes four bytes after two that are reserved (DICOM PS3.5, section 7.1.2).
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


def find_elements(name: str, data: bytes, wanted: Container[Tag]) -> dict[Tag, list[bytes]]:
    """Values of the wanted elements in order, those in nested sequences included.

    Args:
        name: The file's name for messages.
        data: The whole file.
        wanted: Tags (group, element); those of the storage class and the transfer syntax are always found.

    Raises:
        InputError: No DICOM, or an element is longer than the file.
    """
    if data[MARK_AT : MARK_AT + 4] != MARK:
        raise damaged(name, "It lacks the mark that DICOM files carry at their beginning.")
    found: dict[Tag, list[bytes]] = defaultdict(list)
    position, order, explicit = MARK_AT + 4, "<", True
    in_meta, in_fragments = True, False
    while position + 8 <= len(data):
        if in_meta and data[position : position + 2] != b"\x02\x00":
            in_meta = False
            syntax = text_of(found[TRANSFER_SYNTAX])
            if not syntax.startswith(_IMPLICIT):  # all names of transfer syntaxes begin with that of the first
                raise damaged(name, "Its header names an unknown way in which the file is encoded.")
            if syntax == _DEFLATED:  # what follows is packed as a whole and cannot be walked
                break
            order, explicit = (">" if syntax == _BIG_ENDIAN else "<"), syntax != _IMPLICIT
        tag = struct.unpack_from(order + "HH", data, position)
        kind, length, start = _length(data, position, order, explicit=explicit and tag[0] != _ITEM_GROUP)
        if length != _UNDEFINED and length > len(data) - start:
            left = len(data) - start
            raise damaged(name, f"An element of its header promises {length:,} bytes, {left:,} are left in the file.")
        position = start
        if tag[0] == _ITEM_GROUP:
            # The pieces of a compressed picture are stepped over, the items of a sequence are walked into.
            position += length if in_fragments and tag[1] == _ITEM and length != _UNDEFINED else 0
            in_fragments = in_fragments and tag[1] != _SEQUENCE_END
        elif length == _UNDEFINED:
            in_fragments = tag == PIXEL_DATA
        elif not _is_sequence(data, start, length, kind, order):
            if tag in wanted or tag in {STORAGE_CLASS, TRANSFER_SYNTAX}:
                found[tag].append(data[start : start + length])
            position += length
    return found


def text_of(values: list[bytes]) -> str:
    """The first value as text, "" where there is none."""
    return values[0].decode("latin-1").strip(" \0") if values else ""


def _length(data: bytes, position: int, order: str, *, explicit: bool) -> tuple[bytes, int, int]:
    """Type (empty when it is not written), length and place of the value of the element at `position`."""
    kind = data[position + 4 : position + 6]
    if not explicit or not (kind.isalpha() and kind.isupper()):
        return b"", struct.unpack_from(order + "I", data, position + 4)[0], position + 8
    if kind not in _LONG:
        return kind, struct.unpack_from(order + "H", data, position + 6)[0], position + 8
    if position + 12 > len(data):
        return kind, 0, len(data)
    return kind, struct.unpack_from(order + "I", data, position + 8)[0], position + 12


def _is_sequence(data: bytes, start: int, length: int, kind: bytes, order: str) -> bool:
    """Whether the value is made of items; where the type is not written, its first item shows it."""
    if kind == b"SQ":
        return True
    item = struct.pack(order + "HH", _ITEM_GROUP, _ITEM)
    return kind in {b"", b"UN"} and length >= 8 and data[start : start + 4] == item
