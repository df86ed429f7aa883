"""Writing into the user's folder: one at a time, a model whole or not at all, and errors in words.

A model is prepared in a hidden folder beside its place and renamed in. Who prepares one holds the lock, which the
system takes back from a process that dies; so every hidden folder seen under the lock is a leftover. Standard library
only.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from strokeseg.errors import ModelError

_PARTIAL = ".partial-"
_LOCK = ".lock"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextmanager
def prepared(folder: Path) -> Iterator[Path]:
    """A new folder within `folder` to prepare a model in; what is still there when the block ends is deleted.

    Args:
        folder: The user's folder of models; made if it is not there.

    Raises:
        ModelError: Another process is preparing one.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / _LOCK, "Another process is adding or removing a model at this moment."):
        for leftover in folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = folder / f"{_PARTIAL}{secrets.token_hex(6)}"
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def move_in(partial: Path, place: Path) -> None:
    """Make a prepared folder a model: its bytes reach the disk before its name does.

    Raises:
        OSError: The place is taken, or cannot be written.
    """
    for path in partial.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    rename(partial, place)
    if os.name == "posix":
        with suppress(OSError):  # some network file systems cannot do this for folders
            number = os.open(place.parent, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


def rename(source: Path, target: Path) -> None:
    """Rename; on Windows, where a virus scanner may hold a new file for a moment, with patience."""
    patience = 20 if sys.platform == "win32" else 0
    for _ in range(patience):
        try:
            source.rename(target)
        except PermissionError:
            time.sleep(0.1)
        else:
            return
    source.rename(target)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock that only one process, and in it only one thread, can have.

    Args:
        path: A file for it; it stays, empty.
        busy: What to say when another one has it.

    Raises:
        ModelError: Another one has it.
        OSError: The file system cannot lock.
    """
    with path.open("ab") as file:
        try:
            _take(file.fileno())
        except OSError as error:
            if error.errno not in _BUSY:
                raise
            raise ModelError(
                "Another StrokeSeg is at work on the models.", busy, "Wait until it is done, then do this again."
            ) from error
        yield  # closing the file gives the lock back


if sys.platform == "win32":
    import msvcrt

    def _take(number: int) -> None:
        os.lseek(number, 0, os.SEEK_SET)
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Errors of the file system as errors for people.

    Args:
        folder: The user's folder of models.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ModelError(
                "The model could not be stored.",
                f"The disk that holds '{folder}' is full, or a limit on file sizes was reached.",
                "Free some space, or point STROKESEG_HOME to a folder on another disk, and do it again.",
            ) from error
        about = error.filename if isinstance(error.filename, str) else str(folder)
        reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
        raise ModelError(
            "The model's files could not be read or written.",
            f"The system said about '{about}': {reason}.",
            "Make sure that you may read the model and write there, or point STROKESEG_HOME to a folder of yours.",
        ) from error
