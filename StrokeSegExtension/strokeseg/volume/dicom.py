"""A DICOM series as one image or as several volumes: which files belong to it, and their voxels.

SimpleITK (GDCM) reads every file; `dicom_header` says what is in one, `dicom_stack` how the slices stand in space.
Header texts never reach a message: they may name the patient.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  the name that its own documentation uses
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.volume.dicom_header import DicomHeader, image_reader, read_header
from strokeseg.volume.dicom_stack import arrange
from strokeseg.volume.placement import affine_from_lps, check_placement
from strokeseg.volume.source import ImageSource, Payload, combined_hash, damaged, reading_errors, unusable

_SUFFIXES = (".dcm", ".ima", ".dicom")
_OTHER_IMAGES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".npy")


def is_dicom(path: Path) -> bool:
    """Whether a file carries the mark of DICOM, or at least a name of it."""
    with reading_errors(path.name), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.name.lower().endswith(_SUFFIXES)


def open_dicom(path: Path) -> ImageSource:
    """Read and check the headers of a series.

    Args:
        path: A folder with the files of one series, or any file of the series: then all files beside it that belong to
            the same series are read. Sub-folders are not looked into.

    Raises:
        InputError: No series, several series, or slices that do not make up a volume.
    """
    name = path.name
    headers, notes = _series(path)
    _check_alike(name, headers)
    first = headers[0]
    stacks = arrange(name, [frame for header in headers for frame in header.frames], first.thickness_mm)
    shape = (*first.size, len(stacks.volumes[0]))
    affine = affine_from_lps(stacks.direction, (*first.spacing_mm, stacks.slice_spacing_mm), stacks.origin)
    digest = combined_hash(header.sha256 for header in headers)

    def payload() -> Payload:
        # A file with many frames is read once for all its neighbouring slices.
        pixels = lru_cache(maxsize=1)(_pixels)

        def volume(index: int) -> NDArray[np.float32]:
            return np.stack([pixels(frame.path)[:, :, frame.index] for frame in stacks.volumes[index]], axis=2)

        return Payload(volume, digest)

    notes.extend(check_placement(name, shape, affine))
    return ImageSource(name, shape, len(stacks.volumes), affine, payload, stacks.b_values, tuple(notes))


def _series(path: Path) -> tuple[list[DicomHeader], list[str]]:
    """Headers of the one series that is meant, and notes on files that were left out."""
    is_folder = path.is_dir()
    folder = path if is_folder else path.parent
    with reading_errors(path.name):
        beside = sorted(p for p in folder.iterdir() if _is_candidate(p) and p != path)
    wanted = None if is_folder else read_header(path)
    if not is_folder and wanted is None:
        raise unusable(path.name, "It is DICOM, but no image.", "Give a file of the image series itself.")
    read = [header for header in (read_header(p) for p in beside) if header is not None]
    if wanted is not None:
        read = [wanted, *(header for header in read if header.series == wanted.series)]
    if not read:
        raise _nothing(path, len(beside))
    if len({header.series for header in read}) > 1:
        raise _several(path.name, read)
    distinct = {header.sha256: header for header in sorted(read, key=lambda h: h.path.name, reverse=True)}
    notes = []
    if len(distinct) < len(read):
        notes.append(f"{len(read) - len(distinct)} file(s) of the series are exact copies of others and were left out.")
    return list(reversed(distinct.values())), notes


def _is_candidate(path: Path) -> bool:
    # DICOMDIR carries the mark of DICOM, too, but is a table of contents.
    return path.is_file() and not path.name.startswith(".") and path.name.upper() != "DICOMDIR" and is_dicom(path)


def _nothing(folder: Path, others: int) -> InputError:
    images = sorted(p.name for p in folder.iterdir() if p.name.lower().endswith(_OTHER_IMAGES))
    if images:
        cause = f"It is a folder without DICOM images; {len(images)} image file(s) of other kinds lie in it."
        return unusable(folder.name, cause, f"Give the file itself, for example '{images[0]}'.")
    seen = f"none of the {others} DICOM files in it is an image" if others else "no file in it is DICOM"
    return unusable(
        folder.name, f"It is a folder, and {seen}.", "Give an image file, or the folder in which the series lies."
    )


def _several(name: str, headers: list[DicomHeader]) -> InputError:
    counts = Counter(header.series for header in headers)
    examples = {header.series: header for header in sorted(headers, key=lambda h: h.path.name, reverse=True)}
    listed = sorted(examples.values(), key=lambda h: (h.number, h.path.name))
    lines = [f"series {h.number} ({h.modality}, {counts[h.series]} files, for example '{h.path.name}')" for h in listed]
    more = f" and {len(lines) - 12} more" if len(lines) > 12 else ""
    return unusable(
        name,
        f"The folder holds {len(lines)} series: {'; '.join(lines[:12])}{more}.",
        "Choose one by giving any file of it instead of the folder.",
    )


def _check_alike(name: str, headers: list[DicomHeader]) -> None:
    kinds = {header.kind for header in headers}
    for kind, advice in (
        ("colour", "Give the grey-valued series that the scanner measured, not a picture of it."),
        ("localizer", "Choose a series that covers the brain."),
        ("mosaic", "Convert the series to NIfTI, for example with dcm2niix, and give the result."),
    ):
        if kind in kinds:
            raise unusable(name, f"The series is marked as {kind} by its headers.", advice)
    sizes = sorted({header.size for header in headers})
    spacings = sorted({header.spacing_mm for header in headers})
    if len(sizes) > 1 or np.ptp(np.array(spacings), axis=0).max() > 1e-3:
        seen = ", ".join(" x ".join(str(s) for s in size) for size in sizes)
        raise unusable(
            name,
            f"The slices of the series differ in size ({seen} voxels) or in voxel size ({len(spacings)} of them).",
            "Give each of its images as a series of its own.",
        )


def _pixels(path: Path) -> NDArray[np.float32]:
    """(x, y, frame) after this file's own rescale slope and intercept, which may differ from slice to slice."""
    reader = image_reader(path)
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        array: NDArray[np.float32] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        raise damaged(path.name, "Its picture is cut off, broken or compressed in a way that is not read.") from None
    return array.T
