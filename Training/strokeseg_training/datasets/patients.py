"""`Patient`: one examination of a data set by its files; `Problem`: what keeps one from being used."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strokeseg.errors import InputError


@dataclass(frozen=True)
class Patient:
    """The files of one examination, found but not read.

    Args:
        id: Names the examination; different for each of a data set, usable as a file name.
        person: Who was examined; all examinations of a person stay on one side of a split.
        centre: Where, as far as the layout tells; "" where it does not.
        images: Role (also ``brain_mask``) to file.
        masks: Name of a class to its mask files, in order; a class that may be absent has none.
    """

    id: str
    person: str
    centre: str
    images: Mapping[str, Path]
    masks: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True)
class Problem:
    """Something about a patient that has to be said before anything is trained.

    Args:
        patient: His `Patient.id`.
        text: What is the matter, a sentence.
        serious: He cannot be used; otherwise it is only said.
    """

    patient: str
    text: str
    serious: bool = True

    def __str__(self) -> str:
        return f"{self.patient}: {self.text}"


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Args:
        patients: Those whose files are all there, sorted by `id`.
        problems: About these and others.
        persons: Id to person, of the others, too.
        notes: About files that belong to nobody.
    """

    patients: tuple[Patient, ...]
    problems: tuple[Problem, ...]
    persons: Mapping[str, str]
    notes: tuple[str, ...] = ()


class UnusablePatients(InputError):  # noqa: N818  an `InputError` that is told from others by its name
    """Patients of a data set that cannot be used, all at once.

    Args:
        problems: The serious ones.
        command: What the user typed, in words, to be continued with ``--without``.
    """

    def __init__(self, problems: Sequence[Problem], command: Sequence[str]) -> None:
        names = sorted({p.patient for p in problems})
        one = len(names) == 1
        super().__init__(
            f"{len(names)} patient{'' if one else 's'} of the data set cannot be used.",
            " ".join(str(p) for p in sorted(problems, key=str)),
            f"Correct the files, or go on without {'this patient' if one else 'these patients'}: "
            f"{without_command(names, command)}",
        )
        self.problems = tuple(problems)


def without_command(names: Sequence[str], command: Sequence[str]) -> str:
    """The command that leaves patients out."""
    return shlex.join([*command, *(word for name in names for word in ("--without", name))])
