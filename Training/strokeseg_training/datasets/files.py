"""The NIfTI files of a folder, each with the name that says what it is and the folders that it lies in.

In a mirror of ISLES'22 each NIfTI lies in a folder that carries the file's name and its suffix: there, the folder's
name counts. Links are followed, also those that lead nowhere: a file that was not downloaded must be missed by name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from strokeseg.errors import InputError

_NIFTI = re.compile(r"(?P<stem>.+?)\.nii(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFile:
    """A file and what its name says.

    Args:
        path: Of the file; of its folder where that has to hold exactly one and does not.
        label: Name without suffix.
        place: Names of the folders above it, from the data set's folder on.
        fault: Why it cannot be a file, a sentence; "" where it can.
    """

    path: Path
    label: str
    place: tuple[str, ...]
    fault: str = ""

    @property
    def is_derived(self) -> bool:
        """Whether it lies under ``derivatives``."""
        return any(part.lower() == "derivatives" for part in self.place)

    def matches(self, patterns: tuple[str, ...]) -> bool:
        """Whether one of the patterns fits the name; case does not matter."""
        return any(fnmatchcase(self.label.lower(), pattern.lower()) for pattern in patterns)


@dataclass(frozen=True)
class Tree:
    """A folder's images and the places of all its folders."""

    images: tuple[ImageFile, ...]
    folders: tuple[tuple[str, ...], ...]


def walk(folder: Path) -> Tree:
    """Everything in a folder; what is hidden and results of StrokeSeg are passed over.

    Raises:
        InputError: The folder is not there, or one in it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(
            "The folder of the data set was not found.",
            f"'{folder}' is {'a file' if folder.exists() else 'not there'}.",
            "Give --data the folder into which the data set was unpacked.",
        )
    images: list[ImageFile] = []
    folders: list[tuple[str, ...]] = []
    visited: set[str] = set()
    todo: list[tuple[Path, tuple[str, ...]]] = [(folder, ())]
    while todo:
        here, place = todo.pop()
        real = os.path.realpath(here)
        if real in visited:
            continue
        visited.add(real)
        names = _names(here)
        if {"summary.json", "lesion_mask.nii.gz"} <= set(names):
            continue
        folders.append(place)
        for name in names:
            path, match = here / name, _NIFTI.fullmatch(name)
            if match and path.is_dir():
                images.append(_in_named_folder(path, match["stem"], place))
            elif match:
                images.append(ImageFile(path, match["stem"], place))
            elif path.is_dir():
                todo.append((path, (*place, name)))
    return Tree(tuple(sorted(images, key=lambda i: (i.place, i.label, i.path.name))), tuple(sorted(folders)))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            "A folder of the data set cannot be read.",
            f"{folder}: {error.strerror or error}.",
            "Check the permissions of the folder.",
        ) from error


def _in_named_folder(folder: Path, label: str, place: tuple[str, ...]) -> ImageFile:
    inside = [name for name in _names(folder) if _NIFTI.fullmatch(name)]
    if len(inside) == 1:
        return ImageFile(folder / inside[0], label, place)
    seen = "no NIfTI file" if not inside else f"{len(inside)} NIfTI files"
    return ImageFile(folder, label, place, f"the folder '{folder.name}' holds {seen} instead of one")
