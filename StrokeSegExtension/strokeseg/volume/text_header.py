"""The text headers of NRRD and MetaImage, read as far as needed to guard the library that reads the voxels.

SimpleITK takes memory before it looks whether the file is complete, fills a broken compressed MetaImage with wrong
values without an error, prints parse errors to the terminal, and takes a missing orientation for a known one. These are
noticed here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from strokeseg.volume.source import damaged, file_hash, reading_errors, unusable

_MAX_HEADER = 1 << 20
_CHUNK = 1 << 20
_NRRD_SPACES = {
    *("right-anterior-superior", "left-anterior-superior", "left-posterior-superior"),
    *("ras", "las", "lps"),
}
_METAIMAGE_TYPES = {
    *("MET_CHAR", "MET_UCHAR", "MET_SHORT", "MET_USHORT", "MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG"),
    *("MET_LONG_LONG", "MET_ULONG_LONG", "MET_FLOAT", "MET_DOUBLE"),
}


@dataclass(frozen=True)
class DataPart:
    """Where the voxels of an image lie.

    Args:
        path: The header's file, or the one that it names.
        offset: First byte of the voxels.
        compressed: Whether they are deflated (gzip or zlib).
        fields: The header's fields; those of NRRD with names in lower case.
        pairs: What programs added to a NRRD header (``key:=value``), keys in lower case.
    """

    path: Path
    offset: int
    compressed: bool
    fields: dict[str, str]
    pairs: dict[str, str] = field(default_factory=dict)

    @property
    def held_bytes(self) -> int:
        """Bytes in the file from `offset` on."""
        with reading_errors(self.path.name):
            return self.path.stat().st_size - self.offset

    def verify(self, name: str, expected_bytes: int) -> None:
        """Unpack compressed voxels once, keeping nothing, and compare their number with the header.

        Raises:
            InputError: Cut off or broken.
        """
        if not self.compressed:
            return
        inflater = zlib.decompressobj(47)  # 32 + 15: zlib or gzip, told by the first bytes
        count = 0
        with reading_errors(name), self.path.open("rb") as file:
            file.seek(self.offset)
            while not inflater.eof and count <= expected_bytes:
                pending = inflater.unconsumed_tail or file.read(_CHUNK)
                if not pending:
                    raise damaged(name, "Its compressed data end too early: the file is cut off.")
                count += len(inflater.decompress(pending, _CHUNK * 16))
        if count != expected_bytes:
            raise damaged(
                name, f"Its header promises {expected_bytes:,} bytes of voxels, its compressed data hold {count:,}."
            )

    def hashes(self, header_path: Path) -> list[str]:
        """Hashes of the files of the image."""
        return [file_hash(path) for path in dict.fromkeys((header_path, self.path))]


def read_nrrd_header(path: Path) -> DataPart:
    """Check the header of a NRRD file.

    Raises:
        InputError: No NRRD, without orientation, or stored in a way that is not read.
    """
    name = path.name
    lines, offset = _lines(path, is_last=lambda line: not line)
    if not lines or not lines[0].startswith("NRRD000"):
        raise unusable(name, "It does not begin with the mark of a NRRD file.", "Check that it is the image itself.")
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in lines[1:]:
        key, separator, value = line.partition(":")
        if separator and not key.startswith("#"):
            (pairs if value.startswith("=") else fields)[key.strip().lower()] = value.removeprefix("=").strip()
    _integers(name, fields, "sizes", count=None)
    if fields.get("space", "").lower() not in _NRRD_SPACES or "space directions" not in fields:
        raise unusable(
            name,
            "Its header does not say in patient directions where the axes point (fields 'space' and "
            "'space directions'), so left and right cannot be told.",
            "Export the image again from a medical program, or give the NIfTI or DICOM original.",
        )
    _check_vectors(name, fields, "space directions", count=3)
    if "space origin" in fields:
        _check_vectors(name, fields, "space origin", count=1)
    encoding = fields.get("encoding", "").lower()
    if encoding not in {"raw", "gzip", "gz"}:
        raise unusable(
            name, "Its voxels are stored with an encoding other than raw and gzip.", "Save it with one of these."
        )
    if fields.get("line skip", "0") != "0" or fields.get("byte skip", "0") not in {"0", "-1"}:
        raise unusable(
            name, "Its header skips lines or bytes of the data file.", "Save it again as a single .nrrd file."
        )
    data = fields.get("data file", fields.get("datafile"))
    part, start = (path, offset) if data is None else (_beside(path, data), 0)
    return DataPart(part, start, encoding != "raw", fields, pairs)


def read_metaimage_header(path: Path) -> DataPart:
    """Check the header of a MetaImage file.

    Raises:
        InputError: No MetaImage, without orientation, or stored in a way that is not read.
    """
    name = path.name
    lines, offset = _lines(path, is_last=lambda line: line.startswith("ElementDataFile"))
    fields = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    data = fields.get("ElementDataFile", "")
    if not data or fields.get("ObjectType") != "Image":
        raise unusable(name, "It does not have the header of a MetaImage file.", "Check that it is the image itself.")
    count = _integers(name, fields, "NDims", count=1)[0]
    _integers(name, fields, "DimSize", count=count)
    matrix = next((key for key in ("TransformMatrix", "Rotation", "Orientation") if key in fields), None)
    if matrix is None:
        raise unusable(
            name,
            "Its header does not say where the axes point (field 'TransformMatrix'), so left and right cannot be told.",
            "Export the image again from a medical program, or give the NIfTI or DICOM original.",
        )
    if list(fields).index("NDims") > min(list(fields).index("DimSize"), list(fields).index(matrix)):
        raise damaged(name, "The field 'NDims' of its header stands behind fields that need it.")
    _reals(name, fields, matrix, count * count)
    for key in ("Offset", "Position", "Origin", "ElementSpacing", "ElementSize"):
        if key in fields:
            _reals(name, fields, key, count)
    for key in ("ElementSpacing", "ElementSize"):
        # A spacing is a length; whether a negative one turns the axis, programs do not agree, so left may be right.
        if key in fields and min(float(word) for word in fields[key].split()) <= 0:
            raise unusable(
                name,
                f"The field '{key}' of its header holds a spacing that is not above 0.",
                "Export the image again from a medical program, or give the NIfTI or DICOM original.",
            )
    if fields.get("ElementType") not in _METAIMAGE_TYPES:
        raise unusable(
            name, "The type of its voxels is unknown.", "Save it with integers or floating point numbers as voxels."
        )
    if not _flag(name, fields, "BinaryData", default="True") or data.startswith("LIST") or "%" in data:
        raise unusable(
            name, "Its voxels are stored as text or in several files.", "Save it again as a single .mha file."
        )
    part, start = (path, offset) if data.upper() == "LOCAL" else (_beside(path, data), 0)
    found = DataPart(part, start, _flag(name, fields, "CompressedData", default="False"), fields)
    if found.compressed:
        # Without this number or with a wrong one the library gives wrong voxels without an error.
        size = _integers(name, fields, "CompressedDataSize", count=1)[0]
        if size != found.held_bytes:
            raise damaged(name, f"Its header promises {size:,} compressed bytes, the file holds {found.held_bytes:,}.")
    return found


def _flag(name: str, fields: dict[str, str], key: str, *, default: str) -> bool:
    value = fields.get(key, default).lower()
    if value not in {"true", "false"}:
        raise damaged(name, f"The field '{key}' of its header is neither True nor False.")
    return value == "true"


def _lines(path: Path, is_last: Callable[[str], bool]) -> tuple[list[str], int]:
    """The header's lines up to and with the last one, and the number of bytes they take."""
    with reading_errors(path.name), path.open("rb") as file:
        head = file.read(_MAX_HEADER)
    lines: list[str] = []
    start = 0
    while start < len(head):
        end = head.find(b"\n", start)
        end = len(head) if end < 0 else end
        lines.append(head[start:end].decode("latin-1").rstrip("\r"))
        start = end + 1
        if is_last(lines[-1]):
            break
    return lines, min(start, len(head))


def _beside(path: Path, data: str) -> Path:
    # Names of other encodings than latin-1, in which every byte can be read, are written in UTF-8.
    part = path.parent / data.encode("latin-1").decode("utf-8", errors="replace")
    if not part.is_file():
        raise unusable(
            path.name, "The data file that its header names is not there.", "Put both files into the same folder."
        )
    return part


def _integers(name: str, fields: dict[str, str], key: str, count: int | None) -> list[int]:
    words = fields.get(key, "").split()
    if not words or (count is not None and len(words) != count) or not all(re.fullmatch(r"\d{1,12}", w) for w in words):
        raise damaged(name, f"The field '{key}' of its header is missing or does not hold whole numbers.")
    numbers = [int(word) for word in words]
    if min(numbers) < 1:
        raise damaged(name, f"Its header names the dimensions {numbers}; each must be at least 1.")
    return numbers


def _check_vectors(name: str, fields: dict[str, str], key: str, *, count: int) -> None:
    """Refuse what the library would fill up by a guess: vectors of NRRD that are missing, "none" or not finite."""
    vectors = re.findall(r"\(([^()]*)\)", fields[key])
    try:
        numbers = np.array([[float(part) for part in vector.split(",")] for vector in vectors])
    except ValueError:
        numbers = np.empty((0, 0))
    if numbers.shape != (count, 3) or not np.isfinite(numbers).all():
        raise damaged(name, f"The field '{key}' of its header does not hold {count} vector(s) of three numbers.")


def _reals(name: str, fields: dict[str, str], key: str, count: int) -> None:
    try:
        numbers = np.array(fields[key].split(), dtype=np.float64)
    except ValueError:
        numbers = np.empty(0)
    if numbers.size != count or not np.isfinite(numbers).all():
        raise damaged(name, f"The field '{key}' of its header does not hold {count} numbers.")
