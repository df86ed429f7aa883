"""What the header of one DICOM file says about its slices: place, size, b-value, and what kind of picture it is."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813  the name that its own documentation uses

from strokeseg.volume.dicom_elements import STORAGE_CLASS, TRANSFER_SYNTAX, UNCOMPRESSED, Tag, find_elements, text_of
from strokeseg.volume.dicom_stack import Frame
from strokeseg.volume.source import check_promise, damaged, reading_errors, unusable

# ITK prints its warnings to the terminal, where they would break the lines of a program that reads ours.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

# Storage classes whose files are images (CT, MR, nuclear medicine, PET, secondary capture): one of them that cannot be
# read is damaged, while reports, presentation states, spectra and raw data lie beside images by right.
_IMAGE_CLASS = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(2|2\.1|4|4\.1|4\.4|7|7\.\d|20|128)")
# A file is read whole. By the standard its uncompressed pixels end at 4 GiB; those of heads stay far below this.
MAX_FILE_BYTES = 2**31
_SLICE_THICKNESS = (0x0018, 0x0050)
_SLICE_DISTANCE = (0x0018, 0x0088)
_B_VALUE = (0x0018, 0x9087)
_POSITION = (0x0020, 0x0032)
_ORIENTATION = (0x0020, 0x0037)
_PIXEL_SPACING = (0x0028, 0x0030)
_RESCALE = ((0x0028, 0x1052), (0x0028, 0x1053))
_NESTED = {_SLICE_THICKNESS, _SLICE_DISTANCE, _B_VALUE, _POSITION, _ORIENTATION, _PIXEL_SPACING, *_RESCALE}


@dataclass(frozen=True)
class DicomHeader:
    """One file of a series.

    Args:
        path: The file.
        sha256: Hash of its bytes.
        series: What all files of the series share.
        number: The number of the series, 0 where the header does not say it.
        modality: Two letters such as MR.
        kind: "image", or the reason why it is none that can be segmented: "colour", "localizer", "mosaic".
        size: Voxels along a row and along a column.
        spacing_mm: Between voxels along a row and along a column.
        thickness_mm: Of a slice, else the distance from slice to slice.
        frames: Its slices.
    """

    path: Path
    sha256: str
    series: str
    number: int
    modality: str
    kind: str
    size: tuple[int, int]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    frames: tuple[Frame, ...]


def image_reader(path: Path) -> Any:
    """A SimpleITK reader for one DICOM file."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    reader.LoadPrivateTagsOn()
    return reader


def read_header(path: Path) -> DicomHeader | None:
    """Read the header of a file; None for DICOM that is no image.

    Raises:
        InputError: An image that is damaged, or whose place in the patient the header does not say.
    """
    with reading_errors(path.name):
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise damaged(path.name, f"It has {size:,} bytes; more than {MAX_FILE_BYTES:,} are not read.")
        data = path.read_bytes()
    found = find_elements(path.name, data, _NESTED)  # before GDCM, which believes every length
    reader = image_reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        if _IMAGE_CLASS.fullmatch(text_of(found[STORAGE_CLASS])):
            raise damaged(path.name, "It cannot be read as a DICOM image: it is cut off or broken.") from None
        return None
    tags = {key: reader.GetMetaData(key).strip(" \0") for key in reader.GetMetaDataKeys()}
    columns, rows, count = (int(s) for s in reader.GetSize())
    bits = _integer(tags, "0028|0100") or 16
    voxels = columns * rows * count
    compressed = text_of(found[TRANSFER_SYNTAX]) not in UNCOMPRESSED
    check_promise(path.name, voxels, voxels * bits // 8, len(data), compressed=compressed)
    nested = _Nested(path.name, found, tags)
    spacing = _per_frame(nested.reals(_PIXEL_SPACING, 2), 1)
    if spacing is None:
        raise unusable(
            path.name, "Its header does not say the voxel size.", "Give the series that the scanner measured."
        )
    modality = tags.get("0008|0060", "")
    return DicomHeader(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        series=tags.get("0020|000e", ""),
        number=_integer(tags, "0020|0011"),
        modality=modality if re.fullmatch(r"[A-Z]{2}", modality) else "unknown modality",
        kind=_kind(tags),
        size=(columns, rows),
        spacing_mm=(spacing[0][1], spacing[0][0]),  # DICOM names the distance between rows first
        thickness_mm=_thickness(nested),
        frames=_frames(path, nested, tags, count),
    )


class _Nested:
    """Numbers of a header wherever they stand in it: at its top, or in the nested sequences of a multi-frame file."""

    def __init__(self, name: str, found: dict[Tag, list[bytes]], tags: dict[str, str]) -> None:
        self._name = name
        self._found = found
        self._tags = tags

    def raw(self, tag: Tag) -> list[bytes]:
        """Values of all elements with this tag, as stored."""
        return self._found.get(tag, [])

    def reals(self, tag: Tag, count: int) -> list[tuple[float, ...]]:
        """All values of a decimal string with `count` numbers: the one at the header's top, else the nested ones."""
        top = self._tags.get(f"{tag[0]:04x}|{tag[1]:04x}")
        texts = [top] if top else [text_of([value]) for value in self.raw(tag)]
        values = []
        for text in texts:
            try:
                numbers = tuple(float(part) for part in text.split("\\"))
            except ValueError:
                numbers = ()
            if len(numbers) != count or not all(math.isfinite(n) for n in numbers):
                raise damaged(
                    self._name, f"The field ({tag[0]:04x},{tag[1]:04x}) of its header does not hold {count} number(s)."
                )
            values.append(numbers)
        return values


def _per_frame(values: list[tuple[float, ...]], count: int) -> list[tuple[float, ...]] | None:
    """One value a frame; a single value holds for all, and alike ones count as one."""
    if len(set(values)) == 1:
        return [values[0]] * count
    return values if len(values) == count else None


def _frames(path: Path, nested: _Nested, tags: dict[str, str], count: int) -> tuple[Frame, ...]:
    positions = nested.reals(_POSITION, 3)
    orientations = _per_frame(nested.reals(_ORIENTATION, 6), count)
    if len(positions) != count or orientations is None:
        raise unusable(
            path.name,
            f"Its header does not say where in the patient its {count} slice(s) lie: "
            f"{len(positions)} position(s) were found in it.",
            "Give the series that the scanner measured, or convert it to NIfTI, for example with dcm2niix.",
        )
    scales = {value for tag in _RESCALE for value in nested.raw(tag)}
    if count > 1 and len(scales) > 2:
        raise unusable(
            path.name,
            "Its slices are scaled with different factors, of which only one can be read.",
            "Convert the series to NIfTI, for example with dcm2niix, and give the result.",
        )
    b_values = _b_values(nested, tags, count)
    order = tuple(_integer(tags, tag) for tag in ("0020|0100", "0020|0012", "0020|0013"))
    return tuple(
        Frame(path, i, positions[i], orientations[i], (*order, i), None if b_values is None else b_values[i])
        for i in range(count)
    )


def _b_values(nested: _Nested, tags: dict[str, str], count: int) -> list[float] | None:
    """b-value of every frame from the standard's element, else from those of Siemens and GE."""
    value: float | None = None
    if "0018|9087" in tags:
        value = _number(tags["0018|9087"])
    elif tags.get("0019|0010", "").startswith("SIEMENS MR HEADER"):
        value = _number(tags.get("0019|100c", ""))
    elif tags.get("0043|0010", "").startswith("GEMS_PARM_01"):
        value = _number(tags.get("0043|1039", ""))
        if value is not None:
            value %= 1_000_000  # GE adds 10^9 to mark that the number of directions is stored elsewhere
    if value is not None:
        return [value] * count
    stored = [struct.unpack("<d", v)[0] for v in nested.raw(_B_VALUE) if len(v) == 8]
    if len(stored) == 1:
        stored *= count
    return stored if len(stored) == count and all(math.isfinite(b) and b >= 0 for b in stored) else None


def _number(text: str) -> float | None:
    """The first number of a value; private elements whose type was lost on the way arrive in base64."""
    for candidate in (text, _decoded(text)):
        try:
            value = float(candidate.split("\\")[0])
        except ValueError:
            continue
        return value if math.isfinite(value) and value >= 0 else None
    return None


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("ascii").strip(" \0")
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _integer(tags: dict[str, str], key: str) -> int:
    text = tags.get(key, "")
    return int(text) if re.fullmatch(r"-?\d{1,12}", text) else 0


def _kind(tags: dict[str, str]) -> str:
    if _integer(tags, "0028|0002") > 1 or tags.get("0028|0004", "").startswith(("RGB", "YBR", "PALETTE")):
        return "colour"
    image_type = tags.get("0008|0008", "").upper().split("\\")
    return next((kind for kind in ("localizer", "mosaic") if kind.upper() in image_type), "image")


def _thickness(nested: _Nested) -> float | None:
    for tag in (_SLICE_THICKNESS, _SLICE_DISTANCE):
        values = nested.reals(tag, 1)
        if values and values[0][0] > 0:  # the distance is negative in some files
            return values[0][0]
    return None
