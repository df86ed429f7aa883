"""A model from a zip: nothing is written outside its folder, nothing that no model has, and not more than it may be.

Standard library only.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from pathlib import Path

from strokeseg.errors import ModelError
from strokeseg.models.contents import MOST_BYTES, is_leftover, most_bytes

MOST_ENTRIES = 64
# Weights are noise: they shrink by a half at most. Zeros shrink a thousandfold.
_MOST_RATIO = 200
_SMALL_BYTES = 16 * 1024**2
_END, _END_BYTES, _MOST_COMMENT = b"PK\x05\x06", 22, 0xFFFF
# An entry of the list of contents takes 46 bytes, its name and what its writer adds.
_MOST_LIST_BYTES = MOST_ENTRIES * 4096
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK_BYTES = 1 << 20


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of a model, which lie at the top of the zip or in one folder of it, into an empty folder.

    Raises:
        ModelError: It is no zip, is damaged or encrypted, or holds what a model has not.
        OSError: It cannot be read, or the folder not be written.
    """
    try:
        _refuse_long_list(archive)
        with zipfile.ZipFile(archive) as zipped:
            for name, entry in _model_entries(zipped.infolist(), archive.name).items():
                _write(zipped, entry, folder / name)
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, NotImplementedError) as error:
        reason = "a name in it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error) or "it is cut off"
        raise _refused(
            archive.name,
            f"It is no zip, or a damaged one: {reason.rstrip('.')}",
            "Copy or download it again, or give the unpacked folder instead.",
        ) from error


def _refused(name: str, cause: str, next_step: str = "") -> ModelError:
    usual = "Zip the model folder as 'strokeseg-train export' wrote it, and nothing else."
    return ModelError(f"The archive '{name}' was refused.", f"{cause}.", next_step or usual)


def _refuse_long_list(archive: Path) -> None:
    """Look at the zip's own count before its list is read: a list of millions would fill the memory."""
    size = archive.stat().st_size
    if size > MOST_BYTES:
        raise _refused(archive.name, f"It has {size} bytes; {MOST_BYTES} are the most that is taken in")
    with archive.open("rb") as file:
        file.seek(max(0, size - _END_BYTES - _MOST_COMMENT - 20))
        tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < _END_BYTES:
        raise zipfile.BadZipFile("the list of its contents, which ends a zip, is missing")
    entries = int.from_bytes(tail[end + 10 : end + 12], "little")
    list_bytes = int.from_bytes(tail[end + 12 : end + 16], "little")
    # A second end record, for zips of more than 65535 files or 4 GB, would be believed instead of this one.
    large = tail[max(0, end - 20) : end].startswith(b"PK\x06\x07")
    if entries > MOST_ENTRIES or list_bytes > _MOST_LIST_BYTES or large:
        count = f"{entries} files" if entries < 0xFFFF and not large else "65535 files or more"
        long = "" if entries > MOST_ENTRIES or large else f", but its list of contents has {list_bytes} bytes"
        raise _refused(archive.name, f"It holds {count}{long}; a model has at most {MOST_ENTRIES}")


def _model_entries(entries: list[zipfile.ZipInfo], archive: str) -> dict[str, zipfile.ZipInfo]:
    """Plain name to entry of every file to unpack, after all of them were found harmless."""
    if len(entries) > MOST_ENTRIES:
        raise _refused(archive, f"It holds {len(entries)} files; a model has at most {MOST_ENTRIES}")
    places: dict[tuple[str, ...], zipfile.ZipInfo] = {}
    seen = set()
    for entry in entries:
        parts = _parts(entry, archive)
        same = tuple(p.casefold() for p in parts)  # what one folder of Windows or macOS cannot hold
        if same in seen:
            raise _refused(archive, f"It holds {_shown(entry)} twice")
        seen.add(same)
        if not any(is_leftover(p) for p in parts):
            places[parts] = entry
    files = {parts: entry for parts, entry in places.items() if not entry.is_dir()}
    tops = {parts[:-1] for parts in files} | {parts for parts, entry in places.items() if entry.is_dir()}
    if len(tops) > 1 or any(len(top) > 1 for top in tops):
        raise _refused(archive, "Its files lie in several folders; a model is one folder without folders in it")
    result = {parts[-1]: entry for parts, entry in files.items()}
    _refuse_sizes(result, archive)
    return result


def _parts(entry: zipfile.ZipInfo, archive: str) -> tuple[str, ...]:
    """The path of an entry, which stays within the archive."""
    # `filename` ends at the first NUL and has Windows' separators replaced: as the system would write it, not as it is.
    name = entry.orig_filename
    shown = _shown(entry)
    if "\\" in name or "\0" in name or any(ord(c) < 32 for c in name):
        raise _refused(archive, f"The name {shown} holds a backslash or a control character")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise _refused(archive, f"The name {shown} is an absolute path: it would be written outside the model's folder")
    parts = tuple(name.removesuffix("/").split("/"))
    if any(p in ("", ".", "..") for p in parts):
        raise _refused(archive, f"The name {shown} leads out of the model's folder")
    if entry.flag_bits & 0x1:
        raise _refused(archive, f"{shown} is encrypted", "Zip the model folder without a password.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link; its target could be any file" if kind == stat.S_IFLNK else "no plain file"
        raise _refused(archive, f"{shown} is {what}")
    if entry.compress_type not in _KINDS:
        raise _refused(archive, f"{shown} is packed by a method other than deflate", "Zip it with the usual settings.")
    return parts


def _refuse_sizes(files: dict[str, zipfile.ZipInfo], archive: str) -> None:
    for name, entry in files.items():
        most = most_bytes(name)
        if most is None:
            raise _refused(archive, f"It holds {_shown(entry)}, which is no file of a model")
        if entry.file_size > most:
            raise _refused(archive, f"{_shown(entry)} says that it has {entry.file_size} bytes; {most} are the most")
        if entry.file_size > _SMALL_BYTES and entry.file_size > _MOST_RATIO * max(1, entry.compress_size):
            raise _refused(archive, f"{_shown(entry)} would grow {entry.file_size // max(1, entry.compress_size)}-fold")
    total = sum(e.file_size for e in files.values())
    if total > MOST_BYTES:
        raise _refused(archive, f"Unpacked it would have {total} bytes; {MOST_BYTES} are the most")


def _write(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """Unpack one file, never more of it than it says to have."""
    left = entry.file_size
    with zipped.open(entry) as packed, path.open("xb") as file:
        while chunk := packed.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile(f"'{path.name}' is longer than it says")
            file.write(chunk)
    if left:
        raise zipfile.BadZipFile(f"'{path.name}' is shorter than it says")


def _shown(entry: zipfile.ZipInfo) -> str:
    return repr(entry.orig_filename[:60])
