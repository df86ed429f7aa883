"""`evaluate_model`: every patient of a side through the engine, then the tables; what was interrupted goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import strokeseg
from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.volume import write_nifti
from strokeseg_training.datasets import Patient, Problem, UnusablePatients
from strokeseg_training.evaluate.engine import Model, open_model
from strokeseg_training.evaluate.logs import read_run
from strokeseg_training.evaluate.panels import cuts_of, draw_panel
from strokeseg_training.evaluate.place import Place
from strokeseg_training.evaluate.record import Record, compare, compare_slices, judged_classes, labels_on
from strokeseg_training.evaluate.results import Results, write_results
from strokeseg_training.evaluate.seen import look_for_seen, refuse_seen
from strokeseg_training.evaluate.subjects import Subjects, Where, find_subjects
from strokeseg_training.prepare import DataRecipe
from strokeseg_training.prepare.reading import read_patient
from strokeseg_training.prepare.storage import file_sha256


@dataclass(frozen=True)
class Evaluated:
    """What was done.

    Attributes:
        folder: The results.
        results: All of them.
        judged: How many patients are new.
        files: All result files.
    """

    folder: Path
    results: Results
    judged: int
    files: tuple[Path, ...]


def evaluate_model(
    recipe: DataRecipe,
    model: str,
    where: Where,
    out: str | Path,
    *,
    device: str = "auto",
    run: str | Path | None = None,
    systems: Sequence[str] = (),
    beside: Sequence[str | Path] = (),
    even_if_seen: bool = False,
    monitor: Monitor | None = None,
) -> Evaluated:
    """Judge a model by the patients of one side of a split.

    The engine reads each patient's own files and answers on their grid; references are opened for the comparison
    alone. Threshold and smallest lesion are the card's: nothing is chosen here.

    Args:
        recipe: How the data set is read and split.
        model: Name of a model, or a model folder.
        where: Folders and side.
        out: Folder for the results: new, or of the same evaluation, which goes on.
        device: ``auto``, ``cpu``, ``cuda:N`` or ``mps``.
        run: Folder of the training run, for its curves; None: without.
        systems: Names of published systems whose own result files are written, too; empty: that of the network.
        beside: Folders of other evaluations by the same patients, for a table of all.
        even_if_seen: Judge although the model was, or may have been, trained on these patients.
        monitor: Told about every patient; a cancellation is noticed within a patient, finished ones stay.

    Raises:
        UnusablePatients: Patients of the side who cannot be used; or, after all others were judged, whom the engine
            refused.
        InputError: A folder, the split or the classes cannot be used, or the model has seen the patients.
        ModelError: There is no such model.
        Cancelled: The monitor said so.
    """
    monitor, place = monitor or Monitor(), Path(out).expanduser()
    training = None if run is None else read_run(Path(run).expanduser())
    try:
        with open_model(model, device) as opened:
            classes = judged_classes(opened.card, [c.name for c in recipe.datasets.classes])
            subjects = find_subjects(recipe, opened.card, where, monitor)
            side = [p.id for p in subjects.patients]
            seen = look_for_seen(opened.card.origin, subjects.split, side, lambda: subjects.marks)
            refuse_seen(seen, allowed=even_if_seen)
            if seen.verdict != "not seen":
                monitor.warn("seen", seen.sentence)
            facts = _facts(recipe, opened, subjects, where, classes)
            work = _Work(recipe, opened, subjects, classes, Place(place, facts), where.command, monitor)
            failed = work.judge()
        results = Results(facts, seen, opened.card, tuple(work.records), tuple(failed), classes)
        with monitor.stage("results", "writing tables and figures"):
            files = write_results(results, work.place, training, systems, [Path(b) for b in beside])
    except OSError as error:
        raise InputError(
            "The results could not be written.",
            f"The system said about '{place.name}': {error.strerror or error}.",
            "Make room or choose another folder; finished patients stay, and the same command goes on.",
        ) from error
    return Evaluated(place, results, work.judged, tuple(files))


class _Work:
    """One call: patient after patient."""

    def __init__(
        self,
        recipe: DataRecipe,
        model: Model,
        subjects: Subjects,
        classes: tuple[str, ...],
        place: Place,
        command: Sequence[str],
        monitor: Monitor,
    ) -> None:
        self._recipe, self._model, self._subjects, self._classes = recipe, model, subjects, classes
        self.place, self._command, self._monitor = place, command, monitor
        self.records: list[Record] = []
        self.judged = 0

    def judge(self) -> list[Problem]:
        """Everybody; who was refused by the engine is told, and is tried again the next time."""
        failed: list[Problem] = []
        patients, start = self._subjects.patients, time.perf_counter()
        with self._monitor.stage("evaluate", f"{len(patients)} patients"):
            for number, patient in enumerate(patients):
                left = (time.perf_counter() - start) / max(self.judged, 1) * (len(patients) - number)
                self._monitor.progress(
                    number, len(patients), patient.id + (f", {left:.0f} s left" if self.judged else "")
                )
                try:
                    self.records.append(self._judge(patient))
                except InputError as error:
                    failed.append(Problem(patient.id, f"{error.title} {error.cause}"))
        if not self.records:
            raise UnusablePatients(failed, self._command)
        return failed

    def _judge(self, patient: Patient) -> Record:
        sources = _hashes(patient)
        kept = self.place.finished(patient.id, sources)
        if kept is not None:
            return kept
        read, problems = read_patient(patient, self._recipe.datasets, self._subjects.role)
        if read is None:
            raise InputError("The patient cannot be read.", " ".join(p.text for p in problems), "Correct the files.")
        inner = Monitor(cancelled=self._cancelled)
        result = self._model.segment(read.case, inner)
        labels = labels_on(read.labels, read.grid, result.grid)
        record = Record(
            patient.id,
            patient.person,
            patient.centre,
            compare(result, labels, self._classes),
            compare_slices(result, labels),
            result.grid.spacing_mm,
            tuple(result.warnings),
            {k: result.run[k] for k in ("runtime", "device", "precision", "strategy")},
        )
        title = f"{patient.id}, {self._model.card.name} {self._model.card.version}"

        def files(prediction: Path, panel: Path) -> None:
            write_nifti(prediction, result.mask, result.affine, dtype=np.uint8)
            panel.write_bytes(draw_panel(cuts_of(result, labels), record, self._classes, title))

        self.place.keep(record, sources, files)
        self.judged += 1
        return record

    def _cancelled(self) -> bool:
        self._monitor.check()
        return False


def _hashes(patient: Patient) -> dict[str, str]:
    """Role or mask to the SHA-256 of its file.

    Raises:
        InputError: A file cannot be read.
    """
    files = {**patient.images, **{f"mask:{c}:{n}": p for c, own in patient.masks.items() for n, p in enumerate(own)}}
    try:
        return {name: file_sha256(path) for name, path in sorted(files.items())}
    except OSError as error:
        raise InputError("A file cannot be read.", f"{error.filename}: {error.strerror}.", "Correct it.") from error


def _facts(
    recipe: DataRecipe, model: Model, subjects: Subjects, where: Where, classes: Sequence[str]
) -> dict[str, Any]:
    """What is judged by what: the same facts give the same figures. No paths, no times."""
    card = model.card
    prepared: Mapping[str, Any] = subjects.prepared
    return {
        "format": 1,
        "strokeseg": strokeseg.__version__,
        "model": card.name,
        "model_version": card.version,
        "model_sha256": model.sha256,
        "network": card.network,
        # Said only where there is one: evaluations of other models stay the ones that they were.
        "decision": {
            "rule": card.decision.rule,
            "threshold": card.decision.threshold,
            **({"peak": card.decision.peak} if card.decision.peak else {}),
        },
        "minimum_lesion_ml": card.minimum_lesion_ml,
        "recipe": recipe.name,
        "recipe_sha256": recipe.sha256,
        "recipe_of_the_model": card.origin.get("recipe_sha256"),
        "split_sha256": subjects.split.sha256,
        "split_rule": dict(subjects.split.rule),
        "side": where.side,
        "left_out": list(subjects.left_out),
        "classes": list(classes),
        "prepared": {k: prepared[k] for k in ("recipe_sha256", "preparation_sha256") if k in prepared},
    }
