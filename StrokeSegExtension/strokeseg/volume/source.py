"""What every file format hands over: an opened image whose header was checked, and whose voxels are fetched on demand.

Here lie the guards that all formats share: how much memory a header may ask for, how compressed bytes are read without
trusting what they promise, and how an error of the operating system becomes a sentence. Imports the standard library.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.volume.grid import Affine

MAX_VOXELS = 2**29
MAX_INFLATION = 1032  # deflate cannot shrink data by more (zlib technical details, "Maximum compression factor")
GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Payload:
    """The voxels of an opened image.

    Args:
        volume: Index of a volume to its voxels, (x, y, z), real numbers after the file's scaling.
        sha256: Hash of the file's bytes; of several files, see `combined_hash`.
    """

    volume: Callable[[int], NDArray[Any]]
    sha256: str


@dataclass(frozen=True)
class ImageSource:
    """An image file whose header was read and checked.

    Args:
        name: The file's name without its folder.
        shape: Voxels along (x, y, z) of one volume.
        volumes: Number of volumes; 1 for an ordinary image.
        affine: 4x4, voxel index to RAS mm.
        payload: Fetches the voxels and raises `InputError` when they are damaged.
        b_values: One a volume in s/mm², where the header says them.
        notes: What had to be decided while reading the header.
    """

    name: str
    shape: tuple[int, int, int]
    volumes: int
    affine: Affine
    payload: Callable[[], Payload]
    b_values: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


def unusable(name: str, cause: str, next_step: str) -> InputError:
    """The error for an image file; `name` is shown without its folder, which may tell who the patient is."""
    return InputError(f"The image '{name}' cannot be used.", cause, next_step)


def damaged(name: str, cause: str) -> InputError:
    """The error for a file that is broken or incomplete."""
    return unusable(name, cause, "Copy or export the file again from where it came from, then try once more.")


@contextmanager
def reading_errors(name: str) -> Iterator[None]:
    """Turn what the operating system and zlib raise while `name` is read into an `InputError`."""
    try:
        yield
    except FileNotFoundError:
        raise unusable(name, "There is no such file.", "Check the name and the folder.") from None
    except PermissionError:
        raise unusable(
            name, "You have no permission to read it.", "Ask its owner for access, or copy it to a folder of your own."
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise unusable(
            name,
            f"The operating system could not read it ({reason}).",
            "Check that the disk or the network share is connected, then try again.",
        ) from error
    except zlib.error:
        raise damaged(name, "Its compressed data are broken: they fail their own checksum or structure.") from None


def check_promise(name: str, voxels: int, data_bytes: int, available_bytes: int, *, compressed: bool) -> None:
    """Refuse a header that promises more than the file can hold, before any memory is taken.

    Args:
        name: The file's name for the message.
        voxels: Voxels of all volumes that the header promises.
        data_bytes: Bytes of these voxels.
        available_bytes: Bytes that the file holds for them.
        compressed: Whether these are compressed with deflate.

    Raises:
        InputError: Too many voxels, or more bytes than the file can hold.
    """
    if voxels > MAX_VOXELS:
        raise damaged(name, f"Its header promises {voxels:,} voxels; more than {MAX_VOXELS:,} are not read.")
    if data_bytes > available_bytes * (MAX_INFLATION if compressed else 1):
        kind = "compressed bytes, which cannot hold them" if compressed else "bytes: it is cut off"
        raise damaged(
            name, f"Its header promises {data_bytes:,} bytes of voxels, the file holds {available_bytes:,} {kind}."
        )


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with reading_errors(path.name), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_hash(hashes: Iterable[str]) -> str:
    """One SHA-256 for an image of several files: of their sorted hashes, so that file names and order do not matter."""
    hashes = sorted(hashes)
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


class Content:
    """The content of a file, unpacked when it is gzip, hashed on the way, and never more in memory than asked for.

    Args:
        path: A regular file. Whether it is gzip is told by its first bytes, not by its name.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._hash = hashlib.sha256()
        self._file = path.open("rb")
        self._pending = self._next_chunk()
        self.compressed = self._pending[:2] == GZIP_MAGIC
        self._inflater = zlib.decompressobj(31) if self.compressed else None

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytearray:
        """The next `size` bytes of the content, fewer where it ends.

        Raises:
            InputError: The compressed stream is cut off.
        """
        # One buffer of the final size: joining pieces would hold a large series twice.
        out = bytearray(size)
        filled = 0
        while filled < size:
            piece = self._piece(size - filled)
            if not piece:
                break
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
        if filled < size:
            del out[filled:]
        return out

    def finish(self) -> str:
        """Read on to the end and return the hash of the file's bytes; the checksum at the end of gzip is verified.

        What follows the promised content is unpacked for at most a mebibyte: that is where the checksum is, and more
        than this only a file made to fill the memory has.
        """
        self.read(_CHUNK)
        while self._next_chunk():
            pass
        return self._hash.hexdigest()

    def _next_chunk(self) -> bytes:
        chunk = self._file.read(_CHUNK)
        self._hash.update(chunk)
        return chunk

    def _piece(self, limit: int) -> bytes:
        if self._inflater is None:
            piece, self._pending = (self._pending or self._next_chunk()), b""
            self._pending = piece[limit:]
            return piece[:limit]
        while True:
            if self._inflater.eof:
                # Several gzip members in a row are one content (parallel compressors write so); padding is none.
                rest = self._inflater.unused_data or self._next_chunk()
                if rest[:2] != GZIP_MAGIC:
                    return b""
                self._inflater, self._pending = zlib.decompressobj(31), rest
            piece = self._inflater.decompress(self._pending, limit)
            self._pending = self._inflater.unconsumed_tail
            if piece:
                return piece
            if not self._pending and not self._inflater.eof:
                self._pending = self._next_chunk()
                if not self._pending:
                    raise damaged(self._name, "Its compressed data end too early: the file is cut off.")
