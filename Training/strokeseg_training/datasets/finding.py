"""`find_patients`: the patients of a data set's folder, with everything that is missing said by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from strokeseg.case import COMPANION_ROLES, ROLE_TITLES, roles_in_name
from strokeseg.errors import InputError
from strokeseg_training.datasets import atlas_r1, bids
from strokeseg_training.datasets.bids import Examination
from strokeseg_training.datasets.files import ImageFile, walk
from strokeseg_training.datasets.patients import Found, Patient, Problem
from strokeseg_training.recipe_data import Datasets

_SHOWN = 8


def find_patients(
    folder: str | os.PathLike[str], data: Datasets, required: Sequence[str], optional: Sequence[str] = ()
) -> Found:
    """The patients in a folder. Names of files decide; no file is opened.

    Args:
        folder: The data set, or a folder above it.
        data: Layout, patterns and classes.
        required: Roles that each patient must have.
        optional: Roles that are taken where they are there; so is a brain mask.

    Raises:
        InputError: The folder cannot be read, or holds no patient of this layout.
    """
    root = Path(folder)
    tree = walk(root)
    if data.layout == "atlas-r1":
        groups, strangers = atlas_r1.examinations(tree)
    else:
        groups, strangers = bids.examinations(tree, root, data.layout)
    if not groups:
        names = ", ".join(i.path.name for i in strangers[:_SHOWN])
        raise InputError(
            f"No patient of the layout '{data.layout}' was found.",
            f"'{root}' holds {len(strangers)} NIfTI files of other names" + (f": {names}, …" if names else "") + ".",
            "Give --data the folder of the data set, or correct 'datasets.layout' in the recipe.",
        )
    patients: list[Patient] = []
    problems: list[Problem] = []
    for group in groups:
        patient, said = _patient(group, data, required, optional)
        problems += said
        if not any(p.serious for p in said):
            patients.append(patient)
    problems += _same_names(groups)
    notes: tuple[str, ...] = ()
    if strangers:
        shown = ", ".join(f"'{i.path.name}'" for i in strangers[:_SHOWN])
        notes = (f"{len(strangers)} NIfTI files belong to no patient: {shown}{', …' * (len(strangers) > _SHOWN)}.",)
    persons = {group.id: group.person for group in groups}
    return Found(tuple(sorted(patients, key=lambda p: p.id)), tuple(problems), persons, notes)


def without(found: Found, names: Sequence[str]) -> Found:
    """The same less some patients, named by `Patient.id` or `Patient.person`.

    Raises:
        InputError: There is no patient of such a name, or nobody is left.
    """
    known = {*found.persons, *found.persons.values()}
    for name in names:
        if name not in known:
            near = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            raise InputError(
                "A patient to be left out is not there.",
                f"There is no '{name}' among the {len(found.persons)} patients of the data set.",
                f"Did you mean --without {near[0]}?" if near else "Correct --without.",
            )
    left = {i: person for i, person in found.persons.items() if i not in names and person not in names}
    if not left:
        raise InputError("No patient is left.", f"All {len(found.persons)} were left out.", "Leave out fewer.")
    return Found(
        tuple(p for p in found.patients if p.id in left),
        tuple(p for p in found.problems if p.patient in left),
        left,
        found.notes,
    )


def _patient(
    group: Examination, data: Datasets, required: Sequence[str], optional: Sequence[str]
) -> tuple[Patient, list[Problem]]:
    problems: list[Problem] = []

    def report(text: str, *, serious: bool = True) -> None:
        problems.append(Problem(group.id, text, serious))

    masks, unused = _masks(group, data)
    for kind in data.classes:
        files = masks[kind.name]
        if not files and kind.required:
            report(f"The mask of '{kind.name}' is missing.")
        if len(files) > 1 and not kind.merge:
            report(f"There are {len(files)} masks of '{kind.name}': {_shown(files)}.")
    if unused:
        report(f"Masks of no class were left out: {_shown(unused)}.", serious=False)
    taken = {f.path for files in masks.values() for f in files}
    images: dict[str, Path] = {}
    for role in (*required, *optional, "brain_mask"):
        files = _images(group, data, role, taken)
        if not files and role in required:
            report(f"The {ROLE_TITLES[role]} is missing.")
        if len(files) > 1:
            report(f"There are {len(files)} files for the {ROLE_TITLES[role]}: {_shown(files)}.")
        for file in files:
            images[role] = file.path
            if file.fault:
                report(f"The {ROLE_TITLES[role]} is missing: {file.fault}.")
    for files in masks.values():
        for file in files:
            if file.fault:
                report(f"A mask is missing: {file.fault}.")
    paths = {name: tuple(f.path for f in files) for name, files in masks.items()}
    return Patient(group.id, group.person, group.centre, images, paths), problems


def _masks(group: Examination, data: Datasets) -> tuple[dict[str, list[ImageFile]], list[ImageFile]]:
    """Class to its mask files, and those of no class."""
    references = [f for f in group.files if "reference" in roles_in_name(f.label)]
    masks = {
        kind.name: [f for f in group.files if f.matches(kind.masks)] if kind.masks else references
        for kind in data.classes
    }
    taken = {f for files in masks.values() for f in files}
    return masks, [f for f in references if f not in taken]


def _images(group: Examination, data: Datasets, role: str, masks: set[Path]) -> list[ImageFile]:
    """The files of a role; what lies under ``derivatives`` counts only where there is nothing else."""
    patterns = data.images.get(role, ())
    files = [
        f
        for f in group.files
        if f.path not in masks and (f.matches(patterns) if patterns else roles_in_name(f.label) == (role,))
    ]
    raw = [f for f in files if not f.is_derived]
    return raw if raw and role not in COMPANION_ROLES else files


def _same_names(groups: Sequence[Examination]) -> list[Problem]:
    """Names that only upper and lower case tell apart would share a folder on some systems."""
    first: dict[str, str] = {}
    problems = []
    for group in groups:
        other = first.setdefault(group.id.lower(), group.id)
        if other != group.id:
            problems.append(Problem(group.id, f"His name differs from '{other}' only in upper and lower case."))
    return problems


def _shown(files: Sequence[ImageFile]) -> str:
    return ", ".join(f"'{f.path.name}'" for f in files)
