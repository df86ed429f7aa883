"""BIDS, and the two data sets that follow it: ISLES'22 and ATLAS R2.

- **bids**: ``sub-X[/ses-Y]/{dwi,anat}/sub-X[_ses-Y]_…``, masks beside the images or under ``derivatives/**/sub-X…``.
  ``participants.tsv`` may tell a subject's centre in a column ``centre``, ``center`` or ``site``.
- **isles22** (Hernandez Petzsche et al., Scientific Data 2022): subjects are called ``sub-strokecaseNNNN``.
- **atlas-r2** (Liew et al., Scientific Data 2022): subjects are called ``sub-rNNNsNNN``; ``rNNN`` is the cohort, which
  stands for the centre, and ``sNNN`` the person in it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from strokeseg.errors import InputError
from strokeseg_training.datasets.files import ImageFile, Tree

_SUBJECT = re.compile(r"(?:^|_)(sub-[A-Za-z0-9+]+)(?=_|$)")
_SESSION = re.compile(r"(?:^|_)(ses-[A-Za-z0-9+]+)(?=_|$)")
_OWN = {
    "bids": re.compile(r"sub-.+"),
    "isles22": re.compile(r"sub-strokecase\d+", re.IGNORECASE),
    "atlas-r2": re.compile(r"sub-r\d{3}s\d{3}", re.IGNORECASE),
}
_COHORT = re.compile(r"sub-(r\d{3})s\d{3}", re.IGNORECASE)
_CENTRE_COLUMNS = ("centre", "center", "site")


@dataclass
class Examination:
    """The files of one examination while they are collected.

    Attributes:
        id: Names it.
        person: Who was examined.
        centre: Where, or "".
        files: All images, masks too.
    """

    id: str
    person: str
    centre: str
    files: list[ImageFile] = field(default_factory=list)


def examinations(tree: Tree, folder: Path, layout: str) -> tuple[list[Examination], list[ImageFile]]:
    """The examinations of a folder, those without any file, too, and the files that belong to none.

    Raises:
        InputError: ``participants.tsv`` cannot be read.
    """
    centres = _centres(folder, tree)
    groups: dict[tuple[str, str], Examination] = {}
    strangers = []

    def group(person: str, session: str) -> Examination:
        name = f"{person}_{session}" if session else person
        cohort = _COHORT.fullmatch(person)
        centre = centres.get(person) or (cohort[1].lower() if cohort else "")
        return groups.setdefault((person, session), Examination(name, person, centre))

    for image in tree.images:
        person, session = _entity(_SUBJECT, image), _entity(_SESSION, image)
        if _OWN[layout].fullmatch(person):
            group(person, session).files.append(image)
        else:
            strangers.append(image)
    for place in tree.folders:
        own = [part for part in place if _OWN[layout].fullmatch(part)]
        if own and own[-1] not in {person for person, _ in groups}:
            group(own[-1], "")
    return _sessions_joined(groups), strangers


def _sessions_joined(groups: dict[tuple[str, str], Examination]) -> list[Examination]:
    """A mask under ``derivatives`` may leave out the session where a subject has only one."""
    for person, session in list(groups):
        others = [s for p, s in groups if p == person and s]
        if not session and len(others) == 1:
            groups[person, others[0]].files += groups.pop((person, "")).files
    return [groups[key] for key in sorted(groups)]


def _entity(pattern: re.Pattern[str], image: ImageFile) -> str:
    """In the file's name, or else in the nearest folder's; "" where it is nowhere."""
    for text in (image.label, *reversed(image.place)):
        found = pattern.search(text)
        if found:
            return found[1]
    return ""


def _centres(folder: Path, tree: Tree) -> dict[str, str]:
    """Person to centre, of the tables in the folder and in those that hold subjects."""
    roots = {(), *(place[:-1] for place in tree.folders if place and _SUBJECT.fullmatch(place[-1]))}
    centres: dict[str, str] = {}
    for place in sorted(roots):
        path = folder.joinpath(*place, "participants.tsv")
        if path.is_file():
            centres |= _table(path)
    return centres


def _table(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows: Iterable[dict[str, str]] = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "The table of participants cannot be read.",
            f"{path}: {error}.",
            "Correct it: BIDS wants text in UTF-8 with tabs between the columns.",
        ) from error
    centres = {}
    for row in rows:
        columns = {(key or "").strip().lower(): (value or "").strip() for key, value in row.items() if key}
        centre = next((columns[c] for c in _CENTRE_COLUMNS if columns.get(c)), "")
        if columns.get("participant_id") and centre not in ("", "n/a"):
            centres[columns["participant_id"]] = centre
    return centres
