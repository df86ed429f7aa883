"""What a case of damaged input is: a change to a sound pair of scans, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from small_brain import Brain, save_nifti


class CaseSkippedError(Exception):
    """The case cannot be set up on this machine; says why."""


@dataclass(frozen=True)
class Expectation:
    """What must come of a case.

    Args:
        codes: Exit codes that are right.
        says: Regular expression that an error's three parts must match, or the summary of a success.
        lesion: Of a success: "same" as without damage to half a percent, "close" to a tenth, or "any".
        usage: The refusal is that of a wrong command line, not an error of three parts.
    """

    codes: tuple[int, ...]
    says: str = ""
    lesion: str = "same"
    usage: bool = False

    def __str__(self) -> str:
        return " or ".join(str(code) for code in self.codes)


def refused(says: str = "") -> Expectation:
    """Exit code 3 with an error that matches `says`."""
    return Expectation((3,), says)


def succeeds(says: str = "", lesion: str = "same") -> Expectation:
    """A result; its warnings, notes and assumptions match `says`."""
    return Expectation((0,), says, lesion)


def either(lesion: str = "any") -> Expectation:
    """A result or a refusal: for damage of which nobody can tell beforehand how deep it goes."""
    return Expectation((0, 3), "", lesion)


@dataclass
class Trial:
    """One case being set up: sound scans in `folder`, to be damaged.

    Args:
        place: Working directory of the run.
        folder: Where the scans lie; its own path must never come out.
        brain: The simulated patient.
        rng: Everything random comes from it.
        other_user: Number of a user whom permissions bind, the own one (None), or why there is none (text).
        options: What is typed, option to value.
        earlier_result: A result to copy where an older one shall be.
        note: Said in the table beside the case's name.
        limits: Limits of the run, as for `warm_runner.Job`.
    """

    place: Path
    folder: Path
    brain: Brain
    rng: np.random.Generator
    earlier_result: Path
    other_user: int | str | None = None
    options: dict[str, str] = field(default_factory=dict)
    note: str = ""
    limits: dict[str, Any] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """Where the result shall be, unless the case says otherwise."""
        return self.place / "result"

    def path(self, option: str) -> Path:
        """The file given with an option."""
        return self.place / self.options[option]

    def use(self, option: str, path: Path) -> Path:
        """Give `path` with an option."""
        self.options[option] = str(path)
        return path

    def forget_scans(self) -> None:
        """Give none of the sound scans."""
        for option in ("--dwi", "--adc"):
            del self.options[option]

    def save(self, role: str, array: Any = None, affine: Any = None, name: str = "", **how: Any) -> Path:
        """Write an image as NIfTI and give it with the option of its role; `how` as for `small_brain.nifti_bytes`."""
        array = getattr(self.brain, role) if array is None else array
        affine = self.brain.affine if affine is None else affine
        path = save_nifti(self.folder / (name or f"{role}.nii.gz"), np.asarray(array), np.asarray(affine), **how)
        return self.use("--" + role.replace("_", "-"), path)

    def write(self, role: str, content: bytes, name: str = "") -> Path:
        """Write bytes as the file of a role."""
        path = self.folder / (name or f"{role}.nii.gz")
        path.write_bytes(content)
        return self.use("--" + role, path)

    def as_other_user(self) -> None:
        """Run as a user whom permissions bind; the own one will do unless it is root."""
        self.options["--out"] = str(self.out)
        if isinstance(self.other_user, str):
            raise CaseSkippedError(self.other_user)
        if self.other_user is not None:
            self.place.chmod(0o777)
            self.limits["user"] = self.other_user


Mutation = Callable[[Trial], None]


@dataclass(frozen=True)
class Case:
    """A change and what must come of it; `group` is the subject under which it is listed."""

    name: str
    group: str
    mutate: Mutation
    expectation: Expectation


class Cases:
    """Collects the cases of one group."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.all: list[Case] = []

    def add(self, name: str, expectation: Expectation, mutate: Mutation) -> None:
        """Add a case."""
        self.all.append(Case(name, self.group, mutate, expectation))

    def case(self, name: str, expectation: Expectation) -> Callable[[Mutation], Mutation]:
        """The decorated function is the change."""

        def register(mutate: Mutation) -> Mutation:
            self.add(name, expectation, mutate)
            return mutate

        return register
