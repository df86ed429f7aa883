"""NIfTI-1 and NIfTI-2: single files (.nii, .nii.gz) and pairs (.hdr with .img, both may be gzip).

nibabel interprets the header; the bytes are fetched here, so that a header that lies cannot take memory and a file is
read once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from strokeseg.volume.grid import Affine, Grid
from strokeseg.volume.placement import check_placement, fault_of
from strokeseg.volume.source import (
    Content,
    ImageSource,
    Payload,
    check_promise,
    combined_hash,
    damaged,
    reading_errors,
    unusable,
)

# Length of the header, which is its first field, to the place and the kinds of its magic: (single file, pair).
_MAGIC = {348: (344, b"n+1\0", b"ni1\0"), 540: (4, b"n+2\0", b"ni2\0")}
_UNIT_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # spatial code of xyzt_units: unknown (taken as mm), m, mm, µm


def open_nifti(path: Path) -> ImageSource:
    """Read and check the header of a NIfTI file or of either half of a pair.

    Raises:
        InputError: No NIfTI, damaged, without a place in the patient, or of a kind that is no grey-valued image.
    """
    header_path, data_path = _files(path)
    name = path.name
    with reading_errors(header_path.name), Content(header_path) as content:
        header = _header(name, bytes(content.read(540)), pair=header_path != data_path)
    shape, volumes = _shape(name, header)
    dtype = _dtype(name, header)
    offset = _offset(name, header, pair=header_path != data_path)
    scale = _scale(name, header)
    with np.errstate(invalid="ignore"):  # an affine of what is not a number is refused in words, without a warning
        affine, notes = _affine(name, header, shape)
    voxels = math.prod(shape) * volumes
    size = offset + voxels * dtype.itemsize
    with reading_errors(data_path.name), Content(data_path) as content:
        check_promise(name, voxels, size, data_path.stat().st_size, compressed=content.compressed)

    def payload() -> Payload:
        with reading_errors(data_path.name), Content(data_path) as content:
            data = content.read(size)
            hashes = [content.finish()]
        if len(data) < size:
            raise damaged(name, f"Its header promises {size:,} bytes, the file holds {len(data):,}: it is cut off.")
        if header_path != data_path:
            with reading_errors(header_path.name), Content(header_path) as content:
                hashes.append(content.finish())
        stored = np.frombuffer(data, dtype=dtype, offset=offset).reshape((*shape, volumes), order="F")
        return Payload(lambda index: _scaled(stored[..., index], *scale), combined_hash(hashes))

    return ImageSource(name, shape, volumes, affine, payload, notes=(*notes, *check_placement(name, shape, affine)))


def _files(path: Path) -> tuple[Path, Path]:
    """Header file and data file; one and the same unless the image is a pair."""
    base, suffix = path.name, ""
    for candidate in (".hdr", ".img", ".hdr.gz", ".img.gz"):
        if path.name.lower().endswith(candidate):
            base, suffix = path.name[: -len(candidate)], candidate
    if not suffix:
        return path, path
    is_header = suffix.startswith(".hdr")
    for other in (".img", ".img.gz") if is_header else (".hdr", ".hdr.gz"):
        partner = path.with_name(base + other)
        if partner.is_file():
            return (path, partner) if is_header else (partner, path)
    raise unusable(
        path.name,
        f"It is one half of a pair, and the other half '{base}{'.img' if is_header else '.hdr'}' is not beside it.",
        "Put both files into the same folder.",
    )


def _header(name: str, head: bytes, *, pair: bool) -> Any:
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")} & set(_MAGIC)
    if not sizes or len(head) < max(sizes):
        raise unusable(
            name,
            f"It is no NIfTI file: its content ({len(head)} bytes of it were read) does not begin with a NIfTI header.",
            "Check that it is the image itself and not a text, a shortcut or a download page with its name.",
        )
    size = sizes.pop()
    place, single, double = _MAGIC[size]
    if head[place : place + 4] != (double if pair else single):
        raise unusable(
            name,
            "Its header lacks the mark of NIfTI; older ANALYZE files look so and do not say where left and right are.",
            "Convert the original DICOM series to NIfTI, for example with dcm2niix.",
        )
    # No repair by nibabel: it would print what it repaired, and every field used is checked here.
    kind = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    return kind(head[:size], check=False)


def _shape(name: str, header: Any) -> tuple[tuple[int, int, int], int]:
    count = int(header["dim"][0])
    dims = [int(d) for d in header["dim"][1 : 1 + max(count, 0)]]
    if not 2 <= count <= 7 or min(dims) < 1:
        raise damaged(name, f"Its header names the dimensions {dims}; an image has two to seven, each at least 1.")
    x, y, z, *more = [*dims, 1][: max(3, count)]
    if sum(d > 1 for d in more) > 1:
        raise unusable(
            name,
            f"It has more than four dimensions: {dims}.",
            "Save the volume that you want to use as a file of its own.",
        )
    return (x, y, z), math.prod(more)


def _dtype(name: str, header: Any) -> np.dtype[Any]:
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        raise damaged(name, f"Its header names an unknown type of voxels (code {int(header['datatype'])}).") from None
    if dtype.names is not None:
        raise unusable(
            name, "It is a colour image.", "Give the grey-valued image that the scanner measured, not a picture of it."
        )
    if dtype.kind not in "iuf":
        raise unusable(
            name,
            f"Its voxels are of the type {dtype.name}; only real numbers have a brightness.",
            "Save the magnitude image and use that.",
        )
    return dtype


def _offset(name: str, header: Any, *, pair: bool) -> int:
    offset = float(header["vox_offset"])
    least = 0 if pair else int(header["sizeof_hdr"]) + 4
    if not math.isfinite(offset) or offset < least or offset > 2**31:
        raise damaged(
            name, f"Its header says that the voxels begin at byte {offset:g}; they cannot begin before {least}."
        )
    return int(offset)


def _scale(name: str, header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of zero or not a number means that the values are stored as they are."""
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError:
        raise damaged(name, "The intercept of its value scaling is not a number.") from None
    return (1.0, 0.0) if slope is None else (float(slope), float(inter))


def _scaled(stored: NDArray[Any], slope: float, inter: float) -> NDArray[Any]:
    if (slope, inter) == (1.0, 0.0):
        return stored
    return stored.astype(np.float64) * slope + inter


def _affine(name: str, header: Any, shape: tuple[int, int, int]) -> tuple[Affine, tuple[str, ...]]:
    """The affine in mm and what had to be decided: the sform, as nibabel prefers it, else the qform."""
    code = int(header["xyzt_units"]) & 7
    to_mm = _UNIT_TO_MM.get(code)
    if to_mm is None:
        raise damaged(name, f"Its header names an unknown unit of length (code {code}).")
    notes = []
    if to_mm != 1.0:
        notes.append(
            f"The header gives lengths in {'metres' if code == 1 else 'micrometres'}; they were converted to mm."
        )
    forms: dict[str, Affine] = {}
    if int(header["sform_code"]) > 0:
        forms["sform"] = header.get_sform()
    if int(header["qform_code"]) > 0:
        forms["qform"] = _qform(header)
    if not forms:
        raise unusable(
            name,
            "Its header says nothing about orientation (sform and qform are unset), so left and right cannot be told.",
            "Convert the original DICOM series again, for example with dcm2niix, or copy the geometry from the image "
            "that it was made from.",
        )
    for matrix in forms.values():
        matrix[:3] *= to_mm
    faults = {form: fault_of(matrix) for form, matrix in forms.items()}
    usable = [form for form, fault in faults.items() if fault is None]
    if not usable:
        reasons = "; ".join(f"the {form} cannot be used, {fault}" for form, fault in faults.items())
        raise unusable(
            name, f"Its place in the patient is unknown: {reasons}.", "Export the image again with its geometry."
        )
    chosen = usable[0]
    for form, fault in faults.items():
        if fault is not None:
            notes.append(f"The {form} of the header cannot be used, {fault}; the {chosen} was taken.")
    if len(usable) == 2:
        notes.extend(_disagreement(shape, forms["sform"], forms["qform"]))
    return forms[chosen], tuple(notes)


def _qform(header: Any) -> Affine:
    # Some converters write negative voxel sizes or a handedness other than +1 or -1; nibabel repairs both like this.
    repaired = header.copy()
    repaired["pixdim"][1:4] = np.abs(repaired["pixdim"][1:4])
    if repaired["pixdim"][0] not in (-1, 1):
        repaired["pixdim"][0] = 1
    try:
        return np.asarray(repaired.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):  # quaternion that is no rotation
        return np.full((4, 4), np.nan)


def _disagreement(shape: tuple[int, int, int], sform: Affine, qform: Affine) -> list[str]:
    grid = Grid(shape, sform)
    apart = float(np.linalg.norm(grid.corners_mm() - Grid(shape, qform).corners_mm(), axis=1).max())
    if apart <= min(1.0, min(grid.spacing_mm) / 2):
        return []
    return [
        f"The two places that the header gives (sform and qform) are up to {apart:.1f} mm apart; the sform was taken."
    ]
