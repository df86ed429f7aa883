"""`read_patient`: a patient's images as the engine reads them, and one map of labels; everything wrong is said."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strokeseg.case import ROLE_TITLES, Case
from strokeseg.checks import check_reference_mask
from strokeseg.errors import InputError
from strokeseg.volume import Grid, Volume, read_volume
from strokeseg_training.datasets.patients import Patient, Problem
from strokeseg_training.recipe_data import DataClass, Datasets

# Headers hold affines in single precision; what differs by more was not drawn on this image.
_SAME_PLACE_MM = 0.1
_NOT_NUMBERS = re.compile(r"([\d,]+) voxels that were not numbers")


class _Report(Protocol):
    """How a problem is told."""

    def __call__(self, text: str, *, serious: bool = True) -> None: ...


@dataclass(frozen=True, eq=False)
class PatientVolumes:
    """A patient, read.

    Args:
        case: The images.
        labels: uint8 (x, y, z) on `grid`: the value of a class, 0 for background.
        grid: Of the reference image.
        notes: What was decided or repaired, in sentences.
    """

    case: Case
    labels: NDArray[np.uint8]
    grid: Grid
    notes: tuple[str, ...]


def read_patient(
    patient: Patient, data: Datasets, reference_role: str
) -> tuple[PatientVolumes | None, tuple[Problem, ...]]:
    """Read a patient's files.

    Args:
        patient: Whose files are all there.
        data: What masks mean, and what is done with voxels that are no numbers.
        reference_role: The image on which the masks were drawn.

    Returns:
        None where a problem is serious; and the problems, also those that are only said.
    """
    problems: list[Problem] = []

    def report(text: str, *, serious: bool = True) -> None:
        problems.append(Problem(patient.id, text, serious))

    case = None
    try:
        sources: dict[str, Any] = dict(patient.images)
        case = Case.from_files(**sources, name=patient.id)
    except InputError as error:
        report(f"{error.title} {error.cause}")
    masks: dict[str, list[tuple[str, Volume]]] = {name: [] for name in patient.masks}
    for name, path in _mask_files(patient):
        try:
            masks[name].append((path.name, read_volume(path, role="reference")))
        except InputError as error:
            report(f"{error.title} {error.cause}")
    notes = [] if case is None else _image_notes(case, data, report)
    reference = None if case is None else case.volumes[reference_role]
    for name, volume in (entry for entries in masks.values() for entry in entries):
        _check_mask(name, volume, reference, reference_role, report)
    if case is None or reference is None or any(p.serious for p in problems):
        return None, tuple(problems)
    labels = _labels(masks, data.classes, reference.array.shape)
    if not labels.any():
        said = "Its mask is empty" if sum(map(len, masks.values())) == 1 else "All masks are empty"
        report(f"{said}: counted as a patient without lesion.", serious=False)
    return PatientVolumes(case, labels, reference.grid, tuple(notes)), tuple(problems)


def source_hashes(patient: Patient, folder: Path) -> dict[str, dict[str, str]]:
    """Each file's path below the data set's folder and the SHA-256 of its bytes, by role or ``mask:CLASS:NUMBER``.

    Raises:
        OSError: A file cannot be read.
    """
    files = dict(patient.images)
    files |= {f"mask:{c}:{n}": p for c, paths in patient.masks.items() for n, p in enumerate(paths)}
    found = {}
    for name, path in sorted(files.items()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[name] = {"file": path.relative_to(folder).as_posix(), "sha256": digest}
    return found


def copies(images: Iterable[tuple[Patient, str]]) -> list[Problem]:
    """The same image under two persons' names: on two sides of a split, it would be a leak.

    Args:
        images: Patients, each with the SHA-256 of the image that stands for them.
    """
    first: dict[str, Patient] = {}
    problems = []
    for patient, sha256 in images:
        same = first.setdefault(sha256, patient)
        if same.person != patient.person:
            problems.append(Problem(patient.id, f"His image is the same file as that of '{same.id}'."))
    return problems


def _mask_files(patient: Patient) -> Iterator[tuple[str, Path]]:
    for name, paths in patient.masks.items():
        for path in paths:
            yield name, path


def _image_notes(case: Case, data: Datasets, report: _Report) -> list[str]:
    """What the reading said about the images; voxels that are no numbers may be a problem."""
    notes = []
    given = dict(case.volumes) | ({} if case.brain_mask is None else {"brain_mask": case.brain_mask})
    for role, volume in given.items():
        for note in volume.notes:
            number = _NOT_NUMBERS.match(note)
            if number and data.not_numbers == "refuse":
                report(
                    f"{number[1]} voxels of the {ROLE_TITLES[role]} are no numbers "
                    "(datasets.not_numbers=zero takes them for 0, as the engine does)."
                )
            else:
                notes.append(f"{ROLE_TITLES[role]}: {note}")
    return notes


def _check_mask(name: str, volume: Volume, reference: Volume | None, role: str, report: _Report) -> None:
    for note in volume.notes:
        if _NOT_NUMBERS.match(note):
            report(f"The mask '{name}' cannot be trusted: {note}")
    for finding in check_reference_mask(volume.array):
        if finding.severity == "error":
            report(f"'{name}': {finding.message}")
    if reference is None:
        return
    title, grid, own = ROLE_TITLES[role], reference.grid, volume.grid
    if own.shape != grid.shape:
        report(f"The mask '{name}' has {_size(own)} voxels, the {title} {_size(grid)}.")
    elif not own.matches(grid, tolerance_mm=_SAME_PLACE_MM):
        away = float(np.abs(own.corners_mm() - grid.corners_mm()).max())
        report(f"The mask '{name}' does not lie on the {title}: their corners are up to {away:.1f} mm apart.")


def _labels(
    masks: Mapping[str, list[tuple[str, Volume]]], classes: tuple[DataClass, ...], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """One label a voxel; where classes overlap, the later one wins."""
    labels = np.zeros(shape, dtype=np.uint8)
    for value, kind in enumerate(classes, start=1):
        for _, volume in masks[kind.name]:
            whole = np.rint(volume.array)
            labels[np.isin(whole, kind.values) if kind.values else whole > 0] = value
    return labels


def _size(grid: Grid) -> str:
    return "x".join(map(str, grid.shape))
