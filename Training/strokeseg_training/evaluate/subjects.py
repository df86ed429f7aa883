"""`find_subjects`: who is judged, by which files, and on which side of which split everybody is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.models import ModelCard
from strokeseg_training.datasets import (
    Found,
    Member,
    Patient,
    Problem,
    Split,
    UnusablePatients,
    find_patients,
    read_split,
    split_patients,
    without,
)
from strokeseg_training.evaluate.seen import mark
from strokeseg_training.prepare import DataRecipe, PreparedSet
from strokeseg_training.prepare.prepared_set import Side
from strokeseg_training.prepare.reading import copies, read_patient, source_hashes
from strokeseg_training.prepare.storage import MANIFEST, SPLIT, file_sha256


@dataclass(frozen=True)
class Where:
    """What the user named.

    Args:
        data: Folder of the data set, or a prepared set.
        originals: Folder of the data set, for a prepared set: that holds no scans.
        split: A ``split.json``, or a folder with one; None: that of the prepared set, or made by the recipe's rule.
        side: Which side is judged.
        leave_out: Ids or persons that are not wanted.
        command: What was typed, for advice on how to go on.
    """

    data: Path
    originals: Path | None = None
    split: Path | None = None
    side: Side = "test"
    leave_out: Sequence[str] = ()
    command: Sequence[str] = ("strokeseg-train", "evaluate")


@dataclass(frozen=True)
class Subjects:
    """Those who are judged.

    Args:
        root: Folder of the data set.
        everybody: All patients of it whose files are there.
        patients: Those of the side, sorted by id.
        split: Of everybody.
        left_out: Ids of the side that the user left out.
        prepared: Hashes of the prepared set, where there is one.
        role: Of the image that stands for a patient.
    """

    root: Path
    everybody: tuple[Patient, ...]
    patients: tuple[Patient, ...]
    split: Split
    left_out: tuple[str, ...]
    prepared: Mapping[str, Any]
    role: str

    @cached_property
    def marks(self) -> dict[str, str]:
        """Id to the mark of the image, of everybody; reads every file once."""
        return {p.id: mark(file_sha256(p.images[self.role])) for p in self.everybody}


def find_subjects(recipe: DataRecipe, card: ModelCard, where: Where, monitor: Monitor) -> Subjects:
    """Find them; nobody of the side is passed over in silence.

    Args:
        recipe: Says how the data set is read and split.
        card: Of the model: which images it needs.
        where: Folders and side.
        monitor: Told what is done; notices a cancellation.

    Raises:
        UnusablePatients: All patients of the side that cannot be used.
        InputError: A folder or the split cannot be used, or nobody is on the side.
    """
    prepared = PreparedSet(where.data) if (where.data / MANIFEST).is_file() else None
    root = _root(where, prepared)
    role = recipe.card.reference_role
    required = tuple(dict.fromkeys((role, *card.required_roles)))
    found = find_patients(root, recipe.datasets, required, [r for r in card.optional_roles if r not in required])
    for note in found.notes:
        monitor.warn("files_of_nobody", note)
    dropped = _dropped(found, where, prepared)
    found = without(found, dropped)
    split = _given_split(where, prepared)
    if split is None:
        _refuse([p for p in found.problems if p.serious], where)
        with monitor.stage("split", f"{len(found.patients)} patients"):
            split = _own_split(recipe, found, where, monitor)
    wanted = [i for i in split.sides[where.side] if i not in dropped and split.persons[i] not in dropped]
    by_id = {p.id: p for p in found.patients}
    problems = [p for p in found.problems if p.serious and p.patient in wanted]
    problems += [
        Problem(i, "He is on this side of the split, and his files are not in the folder.")
        for i in wanted
        if i not in by_id and not any(p.patient == i for p in problems)
    ]
    if prepared is not None:
        problems += [p for i in wanted if i in by_id for p in _other_files(by_id[i], prepared, root)]
    _refuse(problems, where)
    if not wanted:
        raise InputError(
            "There is nobody to be judged.",
            f"The side '{where.side}' of the split has {len(split.sides[where.side])} patients"
            + (", and all were left out." if split.sides[where.side] else "."),
            "Choose another side, or leave out fewer.",
        )
    return Subjects(
        root,
        found.patients,
        tuple(by_id[i] for i in wanted),
        split,
        tuple(i for i in split.sides[where.side] if i not in wanted),
        {} if prepared is None else prepared.about,
        role,
    )


def _root(where: Where, prepared: PreparedSet | None) -> Path:
    if prepared is None:
        if where.originals is not None:
            raise InputError(
                "The originals cannot be used.",
                f"'{where.data.name}' is no prepared set, so it is the data set itself.",
                "Leave --originals out, or give a prepared set to --data.",
            )
        return where.data
    if where.originals is None:
        raise InputError(
            "The scans are missing.",
            f"'{where.data.name}' is a prepared set: it holds arrays on the model's grid, and figures are counted on "
            "the scans' own grids.",
            "Add --originals with the folder of the data set that it was prepared from.",
        )
    return where.originals


def _dropped(found: Found, where: Where, prepared: PreparedSet | None) -> list[str]:
    """Whom the user, or whoever prepared the set, left out."""
    before = [] if prepared is None else prepared.manifest["left_out"]
    known = {*found.persons, *found.persons.values()}
    return list(dict.fromkeys([*(n for n in before if n in known), *where.leave_out]))


def _given_split(where: Where, prepared: PreparedSet | None) -> Split | None:
    if where.split is not None:
        return read_split(where.split / SPLIT if where.split.is_dir() else where.split)
    return None if prepared is None else prepared.split


def _own_split(recipe: DataRecipe, found: Found, where: Where, monitor: Monitor) -> Split:
    """The split that `strokeseg-train prepare` makes of the same patients."""
    rule = recipe.datasets.split
    members: list[Member] = []
    images: list[tuple[Patient, str]] = []
    problems: list[Problem] = []
    for number, patient in enumerate(found.patients):
        monitor.progress(number, len(found.patients), patient.id)
        volume = 0.0
        if "size" in rule.by:
            read, said = read_patient(patient, recipe.datasets, recipe.card.reference_role)
            problems += [p for p in said if p.serious]
            volume = 0.0 if read is None else float(np.count_nonzero(read.labels)) * read.grid.voxel_ml
        members.append(Member(patient.id, patient.person, patient.centre, round(volume, 6)))
        images.append((patient, file_sha256(patient.images[recipe.card.reference_role])))
    _refuse([*problems, *copies(images)], where)
    return split_patients(members, rule)


def _other_files(patient: Patient, prepared: PreparedSet, root: Path) -> list[Problem]:
    """What differs from the files of which the prepared patient was made."""
    facts = next((p.facts for p in prepared.patients if p.id == patient.id), None)
    if facts is None:
        return [Problem(patient.id, "He is not in the prepared set.")]
    found, said = source_hashes(patient, root), facts["sources"]
    # A model may need other images than the recipe's; masks must be the same, all of them.
    differs = [n for n in found.keys() & said.keys() if found[n]["sha256"] != said[n]["sha256"]]
    differs += [n for n in found.keys() ^ said.keys() if n.startswith("mask:")]
    return [
        Problem(patient.id, f"In '{root.name}' this is not the file that was prepared: {n}.") for n in sorted(differs)
    ]


def _refuse(problems: Iterable[Problem], where: Where) -> None:
    problems = list(problems)
    if problems:
        raise UnusablePatients(problems, where.command)
