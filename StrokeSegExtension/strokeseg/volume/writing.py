"""Writing of volumes: the same voxels and affine give the same bytes, and a file is there whole or not at all."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from strokeseg.errors import InputError
from strokeseg.volume.grid import Grid
from strokeseg.volume.placement import LPS_TO_RAS, MAX_SHEAR
from strokeseg.volume.volume import Volume

COMPRESSION_LEVEL = 1
"""On a smooth float32 probability map of 112x112x73 voxels level 1 takes 0.08 s and 955 kB, level 6 0.12 s and 941 kB;
on its mask 6 ms and 7.5 kB against 4 ms and 2.9 kB (one core): the time is worth more than 1.5 % of the size."""


def write_nifti(
    path: str | Path,
    array: ArrayLike,
    affine: ArrayLike,
    *,
    dtype: DTypeLike | None = None,
    compression_level: int = COMPRESSION_LEVEL,
) -> None:
    """Write a NIfTI-1 file (.nii or .nii.gz).

    The affine is stored as sform (code 1, scanner) and, where it has no shear, as qform too; no text and no time is
    written. The header holds the affine in float32: one that came from the sform of a NIfTI file is given back bit for
    bit, one with more digits (DICOM, NRRD, a qform) to 1e-7 of its size.

    Args:
        path: Ends in .nii or .nii.gz.
        array: (x, y, z) or (x, y, z, volume).
        affine: 4x4, voxel index to RAS mm.
        dtype: How voxels are stored; None keeps the array's type (bool becomes uint8, 64-bit integers int32).
        compression_level: 0 to 9, for .nii.gz.

    Raises:
        InputError: The file could not be written; none is left behind.
        ValueError: The name has another suffix, or `dtype` cannot hold the values.
    """
    path = Path(path)
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"a NIfTI file ends in .nii or .nii.gz, not like '{path.name}'")
    content = _nifti_bytes(_storable(np.asarray(array), dtype), np.asarray(affine, dtype=np.float64))
    if name.endswith(".gz"):
        # A zlib stream in a gzip frame: unlike the gzip module's, its header has neither time nor file name.
        deflater = zlib.compressobj(compression_level, zlib.DEFLATED, 31)
        content = deflater.compress(content) + deflater.flush()
    with _in_place(path) as part:
        part.write_bytes(content)


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume in the format that the suffix names: .nii, .nii.gz, .nrrd, .mha, or .npy with <name>.affine.npy.

    NRRD, MetaImage and NPY hold the affine in full. The b-value and the notes are not stored.

    Raises:
        InputError: Another suffix, or the file could not be written.
    """
    path = Path(path)
    name = path.name.lower()
    writers: dict[str, Callable[[Path, Volume], None]] = {
        ".nii": lambda p, v: write_nifti(p, v.array, v.affine),
        ".nii.gz": lambda p, v: write_nifti(p, v.array, v.affine),
        ".nrrd": _write_itk,
        ".mha": _write_itk,
        ".npy": _write_npy,
    }
    for suffix, write in writers.items():
        if name.endswith(suffix):
            write(path, volume)
            return
    raise InputError(
        f"The image '{path.name}' cannot be written.",
        "Its suffix names no format that can be written.",
        f"Choose a name that ends in one of {', '.join(writers)}.",
    )


def _storable(array: NDArray[Any], dtype: DTypeLike | None) -> NDArray[Any]:
    """The array in the type that it is stored in, refused where values would change."""
    target: np.dtype[Any] = array.dtype if dtype is None else np.dtype(dtype)
    if dtype is None and (target.kind == "b" or (target.kind in "iu" and target.itemsize == 8)):
        target = np.dtype({"b": "uint8", "i": "int32", "u": "uint32"}[target.kind])
    if target.kind in "iu" and array.size:
        limits = np.iinfo(target)
        low, high = array.min(), array.max()
        if not (limits.min <= low and high <= limits.max) or (array.dtype.kind == "f" and (array % 1 != 0).any()):
            raise ValueError(f"values from {low} to {high} cannot be stored as {target.name} without changing them")
    return array.astype(target, copy=False)


def _nifti_bytes(array: NDArray[Any], affine: NDArray[np.float64]) -> bytes:
    import nibabel as nib  # noqa: PLC0415  loaded when a NIfTI file is written

    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units(xyz="mm")
    image.set_sform(affine, code=1)
    shape = array.shape[:3]
    sheared = Grid((shape[0], shape[1], shape[2]), affine).shear > MAX_SHEAR
    # A qform cannot hold shear: better none than one that disagrees.
    image.set_qform(None if sheared else affine, code=0 if sheared else 1)
    return bytes(image.to_bytes())


def _write_itk(path: Path, volume: Volume) -> None:
    import SimpleITK as sitk  # noqa: N813, PLC0415  see above; usual name

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    lps = LPS_TO_RAS @ volume.affine
    array = volume.array.astype(np.uint8) if volume.array.dtype == np.bool_ else volume.array
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing = volume.grid.spacing_mm
    image.SetSpacing(spacing)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    with _in_place(path) as part:
        try:
            sitk.WriteImage(image, str(part), True)
        except RuntimeError as error:
            raise OSError(0, "the image library could not write it") from error


def _write_npy(path: Path, volume: Volume) -> None:
    from strokeseg.volume.npy import affine_path  # noqa: PLC0415  with the other formats

    for target, array in ((affine_path(path), volume.affine), (path, volume.array)):
        buffer = BytesIO()
        np.save(buffer, array, allow_pickle=False)
        with _in_place(target) as part:
            part.write_bytes(buffer.getvalue())


@contextmanager
def _in_place(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, moved to `path` at the end; after an error nothing half-written is left."""
    # The suffix stays last: image libraries choose the format by it.
    part = path.with_name(f".part-{path.name}")
    try:
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"The image '{path.name}' cannot be written.",
            f"The operating system refused it ({error.strerror or type(error).__name__}).",
            "Check that the folder exists, that you may write to it and that the disk is not full.",
        ) from error
