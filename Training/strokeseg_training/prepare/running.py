"""`prepare_data_set`: a folder of patients becomes a prepared set; what was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg_training.datasets import (
    Found,
    Member,
    Patient,
    Problem,
    Split,
    UnusablePatients,
    find_patients,
    split_patients,
    without,
    write_split,
)
from strokeseg_training.prepare import storage
from strokeseg_training.prepare.arrays import make_arrays
from strokeseg_training.prepare.reading import copies, read_patient, source_hashes
from strokeseg_training.prepare.recipe import DataRecipe
from strokeseg_training.prepare.statistics import Row, count, to_csv

_COMMAND = ("strokeseg-train", "prepare")


@dataclass(frozen=True)
class PreparedData:
    """What was done.

    Args:
        folder: The prepared set.
        patients: How many it has.
        written: How many of them are new.
        split: Who is on which side.
        statistics: What the set holds.
        notices: What has to be known of patients who are in it.
    """

    folder: Path
    patients: int
    written: int
    split: Split
    statistics: tuple[Row, ...]
    notices: tuple[Problem, ...]


def prepare_data_set(
    recipe: DataRecipe,
    data: str | Path,
    out: str | Path,
    *,
    leave_out: Sequence[str] = (),
    command: Sequence[str] = _COMMAND,
    pictures: bool = False,
    monitor: Monitor | None = None,
) -> PreparedData:
    """Check all patients, then prepare those that are not there yet, split them, and count.

    Args:
        recipe: Says what is prepared, and how.
        data: Folder of the data set.
        out: Folder of the prepared set: new, or one that is to be continued.
        leave_out: Ids or persons that are not wanted.
        command: What the user typed, for advice on how to go on.
        pictures: Draw every patient that is prepared before and after the alignment.
        monitor: Told about every patient; a cancellation is noticed between patients, finished ones stay.

    Raises:
        UnusablePatients: All patients that cannot be used; nothing can be trained on the set until they are left out.
        InputError: A folder cannot be used.
        Cancelled: The monitor said so.
    """
    monitor, source, place = monitor or Monitor(), Path(data).expanduser(), Path(out).expanduser()
    roles = recipe.card.inputs
    found = find_patients(
        source, recipe.datasets, [r.role for r in roles if r.required], [r.role for r in roles if not r.required]
    )
    found = without(found, leave_out)
    for note in found.notes:
        monitor.warn("files_of_nobody", note)
    try:
        storage.open_place(place, recipe.preparation_facts)
        run = _Run(recipe, source, place, found, monitor, pictures=pictures)
        run.check(command)
        written = run.prepare(command)
        return run.finish(leave_out, written)
    except OSError as error:
        raise InputError(
            "The prepared data could not be written.",
            f"The system said about '{place.name}': {error.strerror or error}.",
            "Make room or choose another folder; finished patients stay, and the same command goes on.",
        ) from error


class _Run:
    """One call: what was found, and what is known of it so far."""

    def __init__(
        self, recipe: DataRecipe, source: Path, place: Path, found: Found, monitor: Monitor, *, pictures: bool
    ) -> None:
        self._pictures = pictures
        self._recipe, self._source, self._place, self._found, self._monitor = recipe, source, place, found, monitor
        self._card = recipe.model_card
        self._entries: dict[str, dict[str, Any]] = {}
        self._sources: dict[str, dict[str, dict[str, str]]] = {}
        self._problems = list(found.problems)

    def check(self, command: Sequence[str]) -> None:
        """Read every patient that is not there yet; all problems together are the error."""
        patients = self._found.patients
        with self._monitor.stage("check", f"{len(patients)} patients"):
            for number, patient in enumerate(patients):
                self._monitor.progress(number, len(patients), patient.id)
                self._check(patient)
        role = self._recipe.card.reference_role
        self._problems += copies((p, self._sources[p.id][role]["sha256"]) for p in patients if p.id in self._sources)
        self._refuse(command)

    def _check(self, patient: Patient) -> None:
        try:
            sources = source_hashes(patient, self._source)
        except OSError as error:
            self._problems.append(Problem(patient.id, f"A file cannot be read: {error.filename}: {error.strerror}."))
            return
        self._sources[patient.id] = sources
        entry = storage.stored_entry(self._place, patient.id, sources)
        if entry is not None:
            self._entries[patient.id] = entry
            self._problems += [Problem(patient.id, text, serious=False) for text in entry["said"]]
        else:
            self._problems += read_patient(patient, self._recipe.datasets, self._recipe.card.reference_role)[1]

    def prepare(self, command: Sequence[str]) -> int:
        """Make what is missing; returns how many patients that were."""
        missing = [p for p in self._found.patients if p.id not in self._entries]
        if missing:
            # While patients change, the set is not complete.
            (self._place / storage.MANIFEST).unlink(missing_ok=True)
        with self._monitor.stage("prepare", f"{len(missing)} of {len(self._found.patients)} patients are missing"):
            for number, patient in enumerate(missing):
                self._monitor.progress(number, len(missing), patient.id)
                try:
                    self._entries[patient.id] = self._prepare(patient)
                except InputError as error:
                    self._problems.append(Problem(patient.id, f"{error.title} {error.cause}"))
        self._refuse(command)
        return len(missing)

    def _prepare(self, patient: Patient) -> dict[str, Any]:
        volumes, problems = read_patient(patient, self._recipe.datasets, self._recipe.card.reference_role)
        if volumes is None:
            raise InputError("The files changed.", " ".join(p.text for p in problems), "Start again.")
        arrays = make_arrays(volumes, self._card, self._recipe.datasets, self._monitor, picture=self._pictures)
        if arrays.picture is not None:
            storage.write_picture(self._place, patient.id, arrays.picture)
        about = {
            "id": patient.id,
            "sources": self._sources[patient.id],
            "said": [p.text for p in (*self._said_before(patient.id), *problems)],
        }
        return storage.store(self._place, patient.id, arrays, about)

    def _said_before(self, patient: str) -> list[Problem]:
        return [p for p in self._found.problems if p.patient == patient]

    def _refuse(self, command: Sequence[str]) -> None:
        serious = [p for p in self._problems if p.serious]
        if serious:
            raise UnusablePatients(serious, command)

    def finish(self, left_out: Sequence[str], written: int) -> PreparedData:
        """Split, count, and write what names everything."""
        patients, entries, data = self._found.patients, self._entries, self._recipe.datasets
        members = [Member(p.id, p.person, p.centre, _lesion_ml(entries[p.id])) for p in patients]
        split = split_patients(members, data.split)
        rows = count([(p, split.side_of(p.id), entries[p.id]) for p in patients], [c.name for c in data.classes])
        write_split(split, self._place / storage.SPLIT)
        storage.write_text(self._place / storage.STATISTICS, storage.to_json([r.as_data() for r in rows]))
        storage.write_text(self._place / storage.STATISTICS_TABLE, to_csv(rows))
        storage.write_text(
            self._place / storage.MANIFEST, json.dumps(self._manifest(split, left_out), ensure_ascii=False)
        )
        notices = tuple(dict.fromkeys(p for p in self._problems if not p.serious))
        for notice in notices:
            self._monitor.warn("patient", str(notice))
        return PreparedData(self._place, len(patients), written, split, tuple(rows), notices)

    def _manifest(self, split: Split, left_out: Sequence[str]) -> dict[str, Any]:
        recipe, data = self._recipe, self._recipe.datasets
        return {
            "format": storage.FORMAT,
            "recipe": recipe.name,
            "recipe_sha256": recipe.sha256,
            "preparation_sha256": recipe.preparation_sha256,
            "seed": recipe.seed,
            "split_sha256": split.sha256,
            "channels": list(recipe.preparation.channels),
            "spacing_mm": list(recipe.preparation.spacing_mm),
            "classes": [c.name for c in data.classes],
            "slices": None if data.slices is None else data.slices.model_dump(mode="json"),
            "left_out": sorted(left_out),
            "patients": [
                {**self._entries[p.id], "person": p.person, "centre": p.centre, "side": split.side_of(p.id)}
                for p in self._found.patients
            ],
        }


def _lesion_ml(entry: dict[str, Any]) -> float:
    return sum(float(c["ml"]) for c in entry["classes"].values())
