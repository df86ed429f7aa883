"""The folder of an evaluation: what is judged by what, finished patients, and results, each whole or not at all.

OUT/evaluation.json                        what is judged, by which hashes; another evaluation needs another folder
OUT/patients/ID/patient.json               figures of a patient
OUT/patients/ID/prediction_ID.nii.gz       what the model drew, on the scan's own grid
OUT/patients/ID/panel.png                  image, reference, prediction, and what differs
OUT/results.json, patients.csv, tables.csv, report.html, figures/, and a folder of a system's own files
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError
from strokeseg_training.evaluate.record import Record
from strokeseg_training.prepare.storage import PARTIAL, PATIENTS, claim, read_json, to_json, write_text

FACTS = "evaluation.json"
RESULTS = "results.json"
_RECORD = "patient.json"
_PANEL = "panel.png"


class Place:
    """The folder.

    Args:
        out: New, empty, or of the same evaluation, which goes on.
        facts: What is judged by what: JSON data.

    Raises:
        InputError: It holds something else, or another evaluation.
    """

    def __init__(self, out: Path, facts: Mapping[str, Any]) -> None:
        self.folder = out
        if out.exists() and not out.is_dir():
            raise _refused(out, "It is a file.")
        if not (out / FACTS).is_file() and out.is_dir() and any(not p.name.startswith(PARTIAL) for p in out.iterdir()):
            raise _refused(out, "It is not empty.")
        title = f"The folder '{out.name}' holds another evaluation."
        claim(out, FACTS, facts, title, "Give another folder to --out.")

    def finished(self, patient: str, sources: Mapping[str, str]) -> Record | None:
        """The record of a patient; None where he is not there, or was judged from other files."""
        path = self.folder / PATIENTS / patient / _RECORD
        if not path.is_file() or not self.prediction(patient).is_file():
            return None
        data = read_json(path)
        return Record.of(data["record"]) if data["sources"] == dict(sources) else None

    def keep(self, record: Record, sources: Mapping[str, str], files: Callable[[Path, Path], None]) -> None:
        """Store a patient.

        Args:
            record: His figures.
            sources: Role or mask to the hash of its file.
            files: Writes the prediction and the panel to the paths that it is given.
        """
        place = self.folder / PATIENTS / record.patient
        partial = place.with_name(f"{PARTIAL}{record.patient}")
        partial.mkdir(parents=True)
        files(partial / self.prediction(record.patient).name, partial / _PANEL)
        write_text(partial / _RECORD, to_json({"sources": dict(sources), "record": record.to_dict()}))
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)

    def prediction(self, patient: str) -> Path:
        """The file of a finished patient's mask; its values are those of classes."""
        return self.folder / PATIENTS / patient / f"prediction_{patient}.nii.gz"

    def panel(self, patient: str) -> Path:
        """The picture of a finished patient."""
        return self.folder / PATIENTS / patient / _PANEL


def _refused(out: Path, why: str) -> InputError:
    return InputError(
        "The evaluation cannot be written there.",
        f"'{out.name}' is neither a new folder nor one of an earlier evaluation. {why}",
        "Give a new folder to --out.",
    )
