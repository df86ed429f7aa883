"""NIfTI-1 single files in small steps, so that Slicer goes on answering while a large volume is written or read.

Only what goes between panel and worker: one grey-valued volume, its place in the sform. Written with a view on the
node's own memory, nothing is copied. Standard library and numpy.
"""

from __future__ import annotations

import math
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slicer.i18n import tr as _

from strokeseg.errors import InputError

_CODES = {
    "uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int8": 256, "uint16": 512, "uint32": 768,
    "int64": 1024, "uint64": 1280,
}  # fmt: skip
_TYPES = {code: name for name, code in _CODES.items()}
_HEADER, _OFFSET = 348, 352
_STEP_BYTES = 2**20
_MM = 2
_SCANNER = 1  # the sform's code: positions in the scanner's frame


class NiftiWriting:
    """Writes one volume.

    Args:
        path: Ends in .nii; replaced where it exists.
        array: (x, y, z); Fortran order, as Slicer has its volumes, saves a copy.
        affine: 4x4, voxel index to RAS mm.

    Raises:
        InputError: The file cannot be written, or the voxels are of a type that NIfTI does not know.
    """

    def __init__(self, path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
        self._path = path
        header = _header(path, array, affine)
        little = array.astype(array.dtype.newbyteorder("<"), order="F", copy=False)
        self._content = little.reshape(-1, order="F").view(np.uint8).data
        self._done = 0
        try:
            # Not buffered: the buffer would only be copied through.
            self._file = path.open("wb", buffering=0)
            self._file.write(header)
        except OSError as error:
            raise _notWritten(path, error) from error

    def step(self, seconds: float) -> bool:
        """Write for about this long; True when all is written.

        Raises:
            InputError: The file cannot be written.
        """
        end = time.monotonic() + seconds
        try:
            while self._done < len(self._content):
                self._done += self._file.write(self._content[self._done : self._done + _STEP_BYTES])
                if time.monotonic() >= end:
                    break
            else:
                self._file.close()
                return True
        except OSError as error:
            self.close()
            raise _notWritten(self._path, error) from error
        return False

    def close(self) -> None:
        """Stop; a file that is not whole stays behind."""
        self._file.close()


class NiftiReading:
    """Reads one volume, .nii or .nii.gz.

    Args:
        path: The file.
        kept: dtype of the result.

    Attributes:
        array: (x, y, z) in the file's own voxel order, Fortran-ordered; there when `step` has said True.
        affine: 4x4, voxel index to RAS mm; likewise.

    Raises:
        InputError: The file cannot be opened.
    """

    def __init__(self, path: Path, kept: type[np.generic]) -> None:
        self._path = path
        self._kept = kept
        self.array: NDArray[Any] = np.empty((0, 0, 0), dtype=kept)
        self.affine: NDArray[np.float64] = np.eye(4)
        self._parts: list[bytes] = []
        try:
            self._file = path.open("rb", buffering=0)
            compressed = self._file.read(2) == b"\x1f\x8b"
            self._file.seek(0)
        except OSError as error:
            raise _notRead(path, _words(error)) from error
        self._inflater = zlib.decompressobj(31) if compressed else None

    def step(self, seconds: float) -> bool:
        """Read for about this long; True when `array` and `affine` are there.

        Raises:
            InputError: The file cannot be read, is cut off, or is no such volume.
        """
        end = time.monotonic() + seconds
        try:
            while piece := self._file.read(_STEP_BYTES // 4 if self._inflater else _STEP_BYTES):
                self._parts.append(self._inflater.decompress(piece) if self._inflater else piece)
                if time.monotonic() >= end:
                    return False
        except (OSError, zlib.error) as error:
            self.close()
            raise _notRead(self._path, _words(error)) from error
        self.close()
        if self._inflater is not None and not self._inflater.eof:
            raise _notRead(self._path, _("It is cut off."))
        self._interpret(b"".join(self._parts))
        self._parts = []
        return True

    def close(self) -> None:
        """Stop."""
        self._file.close()

    def _interpret(self, content: bytes) -> None:
        if len(content) < _OFFSET or content[344:348] != b"n+1\0" or content[:4] != struct.pack("<i", _HEADER):
            raise _notRead(self._path, _("It is no NIfTI-1 file."))
        dimensions = struct.unpack_from("<8h", content, 40)
        shape = dimensions[1:4]
        (code,) = struct.unpack_from("<h", content, 70)
        offset, slope, intercept = struct.unpack_from("<3f", content, 108)
        (positioned,) = struct.unpack_from("<h", content, 254)
        if code not in _TYPES or positioned <= 0 or min(shape) < 1 or any(n > 1 for n in dimensions[4:]):
            raise _notRead(self._path, _("It is not one volume of grey values with its place in the patient."))
        stored = np.dtype(_TYPES[code]).newbyteorder("<")
        if len(content) < offset + math.prod(shape) * stored.itemsize:
            raise _notRead(self._path, _("It is cut off."))
        values = np.frombuffer(content, stored, math.prod(shape), int(offset)).reshape(shape, order="F")
        # 0 and NaN mean "not scaled".
        if math.isfinite(slope) and math.isfinite(intercept) and slope != 0 and (slope, intercept) != (1.0, 0.0):
            values = values * np.float64(slope) + intercept
        self.array = values.astype(self._kept, order="F")
        self.affine[:3] = np.array(struct.unpack_from("<12f", content, 280)).reshape(3, 4)


def _header(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> bytes:
    code = _CODES.get(array.dtype.newbyteorder("=").name)
    if code is None or array.ndim != 3 or max(array.shape) > 32767:
        raise InputError(
            _("The volume for '{name}' cannot be handed to the engine.").format(name=path.name),
            _("It has {size} voxels of type {type}.").format(
                size=" x ".join(str(n) for n in array.shape), type=array.dtype
            ),
            _("Give a scalar volume of whole or floating point numbers."),
        )
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    header = bytearray(_OFFSET)
    struct.pack_into("<i", header, 0, _HEADER)
    struct.pack_into("<8h", header, 40, 3, *array.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, 8 * array.dtype.itemsize)
    struct.pack_into("<8f", header, 76, 1.0, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, _OFFSET, 1.0, 0.0)
    struct.pack_into("<B", header, 123, _MM)
    struct.pack_into("<2h", header, 252, 0, _SCANNER)  # no qform: it has fewer digits, and no room for shear
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header)


def _notWritten(path: Path, error: OSError) -> InputError:
    return InputError(
        _("The volume for '{name}' could not be written for the engine.").format(name=path.name),
        _("In '{folder}': {reason}").format(folder=path.parent, reason=_words(error)),
        _("Make room on that disk, then run again."),
    )


def _notRead(path: Path, cause: str) -> InputError:
    return InputError(_("'{name}' of the result could not be read.").format(name=path.name), cause, _("Run again."))


def _words(error: Exception) -> str:
    return f"{getattr(error, 'strerror', None) or error}."
