"""ATLAS R1.x (Liew et al., Scientific Data 2018): several lesion masks a patient, no BIDS.

``Site/NNNNNN/t01/NNNNNN_t1w_deface_stx`` (R1.1) or ``cNNNN/cNNNNsNNNNtNN/cNNNNsNNNNtNN_t1w_stx`` (R1.2); the main mask
is ``…_LesionSmooth[_stx]``, each further lesion has a mask ``…_LesionSmooth_1[_stx]`` and so on. ``cNNNN`` is the
centre, ``sNNNN`` the person and ``tNN`` the time; in R1.1 the folder above the person's is the centre.
"""

from __future__ import annotations

import re

from strokeseg_training.datasets.bids import Examination
from strokeseg_training.datasets.files import ImageFile, Tree

MAIN_MASKS = ("*_LesionSmooth", "*_LesionSmooth_stx")
FURTHER_MASKS = ("*_LesionSmooth_[0-9]", "*_LesionSmooth_[0-9][0-9]", "*_LesionSmooth_[0-9]_stx",
                 "*_LesionSmooth_[0-9][0-9]_stx")  # fmt: skip
"""Patterns for `recipe_data.DataClass.masks`."""

_R12 = re.compile(r"(?P<centre>c\d{4})(?P<person>s\d{4})(?P<time>t\d{2})", re.IGNORECASE)
_R11 = re.compile(r"\d{6}")
_TIME = re.compile(r"t\d{2}", re.IGNORECASE)


def examinations(tree: Tree) -> tuple[list[Examination], list[ImageFile]]:
    """The examinations of a folder, those without any file, too, and the files that belong to none."""
    groups: dict[str, Examination] = {}
    strangers = []
    for image in tree.images:
        found = _whose(image.label.split("_")[0], image.place)
        if found is None:
            strangers.append(image)
        else:
            groups.setdefault(found.id, found).files.append(image)
    for place in tree.folders:
        found = _of_folder(place)
        if found is not None and not any(_same(found, other) for other in groups.values()):
            groups[found.id] = found
    return [groups[key] for key in sorted(groups)], strangers


def _whose(name: str, place: tuple[str, ...]) -> Examination | None:
    new = _R12.fullmatch(name)
    if new:
        return Examination(name, f"{new['centre']}{new['person']}", new["centre"])
    if not _R11.fullmatch(name):
        return None
    above = [part for part in place if not _TIME.fullmatch(part) and part != name]
    time = next((part for part in reversed(place) if _TIME.fullmatch(part)), "")
    return Examination(f"{name}_{time}" if time else name, name, above[-1] if above else "")


def _of_folder(place: tuple[str, ...]) -> Examination | None:
    """The examination whose files a folder should hold."""
    if place and (_R12.fullmatch(place[-1]) or _R11.fullmatch(place[-1])):
        return _whose(place[-1], place[:-1])
    return None


def _same(folder: Examination, found: Examination) -> bool:
    """Whether the folder's examination is there; the folder of R1.1 holds one or more of its person."""
    return folder.id == found.id or (_R11.fullmatch(folder.id) is not None and folder.person == found.person)
