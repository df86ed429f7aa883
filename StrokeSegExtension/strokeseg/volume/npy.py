"""NumPy arrays: ``<name>.npy`` (x, y, z[, volume]) with the affine in ``<name>.affine.npy`` (4x4, RAS mm)."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from strokeseg.volume.grid import Affine
from strokeseg.volume.placement import check_placement
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

_HEADER_BYTES = 1 << 16


def affine_path(path: Path) -> Path:
    """Where the affine of ``<name>.npy`` lies."""
    return path.with_name(path.name[: -len(".npy")] + ".affine.npy")


def open_npy(path: Path) -> ImageSource:
    """Read and check the headers of an array and of its affine; nothing is ever unpickled.

    Raises:
        InputError: No array of real numbers with three or four axes, no affine beside it, or damaged.
    """
    name = path.name
    dims, dtype, _, offset = _header(path)
    if len(dims) not in {3, 4} or min(dims) < 1:
        raise unusable(
            name,
            f"Its array has the shape {dims}.",
            "Save an array with three axes (x, y, z) or four (x, y, z, volume).",
        )
    shape, volumes = (dims[0], dims[1], dims[2]), math.prod(dims[3:])
    with reading_errors(name):
        held = path.stat().st_size - offset
    check_promise(name, math.prod(dims), math.prod(dims) * dtype.itemsize, held, compressed=False)
    beside = affine_path(path)
    if not beside.is_file():
        raise unusable(
            name,
            f"The file '{beside.name}' with its affine is not beside it, so left, right and voxel size cannot be told.",
            "Save the 4x4 matrix from voxel index to RAS mm under this name in the same folder.",
        )
    affine, affine_hash = _affine(beside)

    def payload() -> Payload:
        array, digest = _array(path)
        return Payload(lambda index: array.reshape((*shape, volumes))[..., index], combined_hash([digest, affine_hash]))

    return ImageSource(name, shape, volumes, affine, payload, notes=check_placement(name, shape, affine))


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    with reading_errors(path.name), Content(path) as content:
        head = BytesIO(content.read(_HEADER_BYTES))
    try:
        version = npy_format.read_magic(head)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        dims, fortran, dtype = read(head)
    except (ValueError, TokenError):
        raise unusable(
            path.name, "It does not begin with the header of a NumPy array.", "Write it with numpy.save."
        ) from None
    if dtype.kind not in "biuf":
        raise unusable(
            path.name,
            f"Its array holds values of the type {dtype.name}.",
            "Save real numbers: integers, floating point or bool.",
        )
    return dims, dtype, fortran, head.tell()


def _array(path: Path) -> tuple[NDArray[Any], str]:
    """The array and the hash of its file; the file's size was compared with the header before."""
    dims, dtype, fortran, offset = _header(path)
    size = math.prod(dims) * dtype.itemsize
    with reading_errors(path.name), Content(path) as content:
        data = content.read(offset + size)
        digest = content.finish()
    if len(data) < offset + size:
        raise damaged(
            path.name, f"Its header promises {size:,} bytes of voxels, the file holds {len(data) - offset:,}."
        )
    return np.frombuffer(data, dtype, offset=offset).reshape(dims, order="F" if fortran else "C"), digest


def _affine(path: Path) -> tuple[Affine, str]:
    dims, *_ = _header(path)
    if dims != (4, 4):
        raise unusable(path.name, f"Its array has the shape {dims}.", "Save a 4x4 matrix from voxel index to RAS mm.")
    matrix, digest = _array(path)
    affine = matrix.astype(np.float64)
    if not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise unusable(
            path.name,
            f"The last row of its matrix is {affine[3].tolist()}, that of an affine is [0, 0, 0, 1].",
            "Save a 4x4 matrix from voxel index to RAS mm.",
        )
    return affine, digest
