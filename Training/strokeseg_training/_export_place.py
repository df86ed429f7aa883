"""Where a model folder appears: whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from strokeseg.errors import InputError


@contextmanager
def appearing(place: Path) -> Iterator[Path]:
    """A folder to write to that becomes `place` when the block ends well, and vanishes otherwise."""
    _clear_leftovers(place)
    partial = place.parent / f".partial-{place.name}-{os.getpid()}"
    made = [p for p in partial.parents if not p.exists()]
    try:
        partial.mkdir(parents=True)
        yield partial
        refuse_used(place)
        if place.exists():
            place.rmdir()
        partial.rename(place)
        made = []
    except OSError as error:
        raise InputError(
            "The model could not be written.",
            f"The system said about '{place.name}' or the folder around it: {error.strerror or error}.",
            "Choose a folder in which you may write and that has room.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # somebody else uses it by now, or it was never made
            for parent in made:
                parent.rmdir()


def _clear_leftovers(place: Path) -> None:
    """Delete what exports to the same place left that were killed."""
    pattern = re.compile(re.escape(f".partial-{place.name}-") + r"(\d+)")
    for path in place.parent.iterdir() if place.parent.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def refuse_used(place: Path) -> None:
    """Refuse a place where something is.

    Raises:
        InputError: It is no folder, or not empty.
    """
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(
            "The model cannot be written there.",
            f"'{place.name}' is not an empty folder; a model is never written over something.",
            "Give another folder, or delete this one first.",
        )
