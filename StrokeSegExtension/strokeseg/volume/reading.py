"""`read_volume`: one entry for all file formats, from a path to a checked `Volume`.

The formats' modules import nibabel and SimpleITK and are loaded when a file of their kind is opened.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import MemoryLimitError
from strokeseg.volume.series import B0_LIMIT, Choice, b_values_beside, choose
from strokeseg.volume.source import ImageSource, Payload, damaged, reading_errors, unusable
from strokeseg.volume.volume import Volume

MAX_REPAIRED = 0.01
"""Share of voxels that may be NaN or infinite; programs write them outside of the brain or where a fit failed."""
_MASK_ROLES = {"mask", "reference", "brain_mask"}
_NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
_ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
_DICOM = (".dcm", ".ima", ".dicom")


def read_volume(path: str | Path, *, role: str = "", b_value: float | None = None) -> Volume:
    """Read an image of any supported format.

    NIfTI (.nii, .nii.gz, .hdr with .img), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), NumPy (.npy with
    <name>.affine.npy) and DICOM series (a folder, or any file of the series).

    Args:
        path: The file or folder; ``dwi.nii.gz#3`` chooses a volume of a four-dimensional image, counted from 0.
        role: What the image is used for ("dwi", "b0", "adc", "flair", "t1", "mask", "reference", "brain_mask"). Without
            a number, "dwi" and "" take the geometric mean of a shell of a 4D image and "b0" the mean of its volumes at
            b = 0 (`series.choose`); other roles need a number there. Only the mask roles may be zero everywhere.
        b_value: The shell that is wanted, s/mm².

    Returns:
        float32 voxels (x, y, z), C-contiguous, after the file's scaling; the affine to RAS mm; notes on what was
        decided. Whole numbers beyond 2**24 are rounded.

    Raises:
        InputError: The file is missing, damaged, of an unknown kind, without a place in the patient, or without
            content; or nothing tells which volume of it is meant. The message names the file, not its folder, and
            quotes no text of its header.
        MemoryLimitError: The image does not fit into the memory.
    """
    source, number = _open(path)
    try:
        return _volume(source, source.payload(), number, role, b_value)
    except MemoryError:
        raise _too_large(source) from None


def read_dwi_and_b0(path: str | Path, *, b_value: float | None = None) -> tuple[Volume, Volume | None]:
    """Read the diffusion-weighted image and, where the same file holds one, the image without diffusion weighting.

    Args:
        path: As for `read_volume`.
        b_value: The shell that is wanted for the first, s/mm².

    Returns:
        What `read_volume` gives for the role "dwi"; and for the role "b0", None where the file has no volumes at b = 0
        or one volume was chosen by its number. The file is read once.

    Raises:
        InputError: As for `read_volume`.
        MemoryLimitError: The image does not fit into the memory.
    """
    source, number = _open(path)
    try:
        payload = source.payload()
        dwi = _volume(source, payload, number, "dwi", b_value)
        has_b0 = (
            source.volumes > 1 and number is None and source.b_values is not None and min(source.b_values) <= B0_LIMIT
        )
        return dwi, _volume(source, payload, None, "b0", None) if has_b0 else None
    except MemoryError:
        raise _too_large(source) from None


def available_b_values(path: str | Path) -> list[float] | None:
    """The b-values of all volumes in s/mm², from the header or the file beside it; None where nothing says them.

    With a number (``name#3``) that of this volume. Reads headers only.

    Raises:
        InputError: As for `read_volume`, as far as the header tells.
    """
    source, number = _open(path)
    if source.b_values is None:
        return None
    if number is None:
        return list(source.b_values)
    choice = choose(source, number=number, role="", b_value=None, mean_of=lambda _: 0.0)
    return [source.b_values[i] for i in choice.indices]


def _open(path: str | Path) -> tuple[ImageSource, int | None]:
    """The opened image and the number of the volume that the path asks for."""
    if not str(path):
        raise unusable(
            "", "The name of the file is empty.", "Give the name of a file, or of a folder with a DICOM series."
        )
    path = Path(path)
    number = None
    selector = re.fullmatch(r"(.+)#(\d{1,6})", path.name)
    if selector and not path.exists():  # a file whose own name ends like this wins
        path, number = path.with_name(selector.group(1)), int(selector.group(2))
    with reading_errors(path.name):
        path.stat()
    source = _open_format(path)
    if source.b_values is None:
        source = replace(source, b_values=b_values_beside(path, source.name, source.volumes))
    return source, number


def _open_format(path: Path) -> ImageSource:
    name = path.name.lower()
    if path.is_dir() or name.endswith(_DICOM):
        return _open_dicom(path)
    if not path.is_file():
        raise unusable(
            path.name, "It is neither a file nor a folder.", "Give an image file or the folder of a DICOM series."
        )
    if name.endswith(_NIFTI):
        from strokeseg.volume.nifti import open_nifti  # noqa: PLC0415  nibabel is loaded when it is needed

        return open_nifti(path)
    if name.endswith(_ITK):
        from strokeseg.volume.itk import open_itk  # noqa: PLC0415  SimpleITK is loaded when it is needed

        return open_itk(path)
    if name.endswith(".npy"):
        from strokeseg.volume.npy import open_npy  # noqa: PLC0415  with the other formats

        return open_npy(path)
    with reading_errors(path.name), path.open("rb") as file:
        is_dicom = file.read(132)[128:] == b"DICM"
    if is_dicom:  # its files often have no suffix
        return _open_dicom(path)
    raise unusable(
        path.name,
        "Its kind is not known.",
        "Give a NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha, .mhd) or NumPy (.npy) file, or a DICOM series.",
    )


def _open_dicom(path: Path) -> ImageSource:
    from strokeseg.volume.dicom import open_dicom  # noqa: PLC0415  SimpleITK is loaded when it is needed

    return open_dicom(path)


def _volume(source: ImageSource, payload: Payload, number: int | None, role: str, b_value: float | None) -> Volume:
    def mean_of(index: int) -> float:
        return float(np.mean(payload.volume(index), dtype=np.float64))

    choice = choose(source, number=number, role=role, b_value=b_value, mean_of=mean_of)
    with np.errstate(all="ignore"):  # what is not a number afterwards is counted below
        array, notes = _finite(source.name, _combine(payload, choice))
    _check_content(source.name, array, role)
    notes = tuple(note for note in (*source.notes, choice.note, *notes) if note)
    return Volume(array, source.affine, choice.b_value, notes, payload.sha256)


def _combine(payload: Payload, choice: Choice) -> NDArray[np.float32]:
    """The mean of the chosen volumes; one is taken as it is. Memory: one volume in float64, however many there are."""
    first = payload.volume(choice.indices[0])
    if len(choice.indices) == 1:
        return np.ascontiguousarray(first, dtype=np.float32)
    total = np.zeros(first.shape)
    for index in choice.indices:
        volume = payload.volume(index).astype(np.float64)
        # A value of zero or below has no logarithm: the geometric mean is zero there, as its limit is.
        total += np.log(np.where(volume < 0, 0.0, volume)) if choice.geometric else volume
    total /= len(choice.indices)
    return np.ascontiguousarray(np.exp(total) if choice.geometric else total, dtype=np.float32)


def _finite(name: str, array: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    bad = ~np.isfinite(array)
    count = int(np.count_nonzero(bad))
    if not count:
        return array, ()
    share = count / array.size
    if share > MAX_REPAIRED:
        raise damaged(
            name,
            f"{count:,} of its {array.size:,} voxels ({share:.1%}) are not numbers; at most {MAX_REPAIRED:.0%} may be.",
        )
    array[bad] = 0
    return array, (f"{count:,} voxels that were not numbers were set to 0.",)


def _check_content(name: str, array: NDArray[Any], role: str) -> None:
    value = float(array.flat[0])
    if not (array == array.flat[0]).all() or (role in _MASK_ROLES and value == 0):
        return
    what = {"mask": "A mask", "reference": "A reference", "brain_mask": "A brain mask"}.get(role)
    cause = f"All its {array.size:,} voxels have the same value, {value:g}"
    cause += f". {what} marks a part of the image only." if what else ", so there is nothing to see in it."
    named = f" as {role}" if role else ""
    raise unusable(name, cause, f"Check that the right file was given{named} and that it was exported completely.")


def _too_large(source: ImageSource) -> MemoryLimitError:
    voxels = " x ".join(str(s) for s in source.shape)
    return MemoryLimitError(
        f"The image '{source.name}' does not fit into the memory.",
        f"It has {voxels} voxels in {source.volumes} volume(s).",
        "Close other programs, or cut the image to the head.",
    )
