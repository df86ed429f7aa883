"""`Results`: everything that came out; and the files that hold it, each with the hashes of split, recipe and model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError
from strokeseg.metrics import CohortSummary
from strokeseg.models import ModelCard
from strokeseg_training.datasets import Problem
from strokeseg_training.evaluate import charts
from strokeseg_training.evaluate.logs import TrainingRun
from strokeseg_training.evaluate.page import render
from strokeseg_training.evaluate.place import RESULTS, Place
from strokeseg_training.evaluate.record import Record
from strokeseg_training.evaluate.seen import Seen
from strokeseg_training.evaluate.tables import HASHES, models_csv, patients_csv, slice_groups, summaries, tables_csv
from strokeseg_training.prepare.storage import read_json, to_json, write_text


@dataclass(frozen=True)
class Results:
    """What came out of an evaluation.

    Attributes:
        facts: What was judged by what; hashes among them.
        seen: Whether the model knew the patients.
        card: Of the model.
        records: A patient each, sorted by id.
        failed: Patients whom the engine refused; they are in no table, and every result says so.
        classes: Names, where several are told apart.
    """

    facts: Mapping[str, Any]
    seen: Seen
    card: ModelCard
    records: tuple[Record, ...]
    failed: tuple[Problem, ...]
    classes: tuple[str, ...]

    @cached_property
    def tables(self) -> dict[str, CohortSummary]:
        """Class, `record.ANY` first, to its tables."""
        return summaries(self.records)

    @property
    def hashes(self) -> dict[str, str]:
        """Of split, recipe and model."""
        return {name: str(self.facts[name]) for name in HASHES}

    @property
    def about(self) -> dict[str, Any]:
        """What every JSON file of results begins with."""
        return {
            **self.facts,
            "seen": asdict(self.seen),
            "patients": len(self.records),
            "failed": [asdict(f) for f in self.failed],
        }

    @property
    def note(self) -> str:
        """For the foot of a figure."""
        short = ", ".join(f"{name.removesuffix('_sha256')} {value[:12]}" for name, value in self.hashes.items())
        missing = f"; {len(self.failed)} patients failed" if self.failed else ""
        known = "" if self.seen.verdict in ("not seen", "no real patients named") else f"; {self.seen.verdict}"
        who = f"{self.card.name} {self.card.version}, side '{self.facts['side']}', n = {len(self.records)}"
        return f"{who}; {short}{missing}{known}"

    def to_dict(self, loss: str) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "about": self.about,
            "loss": loss,
            "tables": {name: summary.to_dict() for name, summary in self.tables.items()},
            "slices": slice_groups(self.records),
            "patients": [r.to_dict() for r in self.records],
        }


def write_results(
    results: Results, place: Place, run: TrainingRun | None, systems: Sequence[str], beside: Sequence[Path]
) -> list[Path]:
    """Write tables, figures, the page, and the files of published systems.

    Args:
        results: Of the evaluation.
        place: Its folder.
        run: The model's training, for curves.
        systems: Names; empty: that of the model's network.
        beside: Folders of other evaluations.

    Raises:
        InputError: There is no such system, or another evaluation judged other patients.
        OSError: A file cannot be written.
    """
    # The writers know this file's `Results`.
    from strokeseg_training.evaluate.published import Work, writers_of  # noqa: PLC0415

    out = place.folder
    loss = _loss(run)
    writers = writers_of(systems, results.card.network)
    others = [_other(folder, results) for folder in beside]
    whole = results.to_dict(loss)
    texts = {
        "tables.csv": tables_csv(results.tables, results.hashes),
        "patients.csv": patients_csv(results.records, results.hashes),
        RESULTS: to_json(whole),
    }
    evaluations = (json.loads(texts[RESULTS]), *others)
    if others:
        texts["models.csv"] = models_csv(evaluations)
    figures = {
        "performance.png": charts.performance(results.records),
        "without-lesion.png": charts.distributions(results.records),
    }
    if run is not None:
        figures["training-loss.png"] = charts.curves(run.curves("loss"), "loss", title="Loss")
        if dice := run.curves("dice"):
            figures["validation-dice.png"] = charts.curves(dice, "Dice", title="Dice")
    for name, text in texts.items():
        write_text(out / name, text)
    written = [out / name for name in texts]
    written += [charts.save(figure, out / "figures" / name, results.note) for name, figure in figures.items()]
    for name, write in writers.items():
        (out / name).mkdir(exist_ok=True)
        written += write(Work(results, place, run, loss, evaluations, out / name))
    pictures = {r.patient: place.panel(r.patient).relative_to(out).as_posix() for r in results.records}
    shown = [p.relative_to(out).as_posix() for p in written if p.parent == out / "figures"]
    write_text(out / "report.html", render(results, pictures, shown, [p.relative_to(out).as_posix() for p in written]))
    return [*written, out / "report.html"]


def _loss(run: TrainingRun | None) -> str:
    """Name of the loss that the model was trained with, where the run tells."""
    objective = None if run is None else getattr(run.recipe, "objective", None)
    return str(objective.name) if objective is not None else "not said"


def _other(folder: Path, results: Results) -> dict[str, Any]:
    """The results of another evaluation by the same patients.

    Raises:
        InputError: There are none, or they are of others.
    """
    path = folder.expanduser() / RESULTS
    if not path.is_file():
        raise InputError(
            f"There is no evaluation in '{folder.name}'.", f"It has no {RESULTS}.", "Give --beside a finished one."
        )
    data = read_json(path)
    keys = ("split_sha256", "side", "left_out", "failed")
    mine = json.loads(to_json(results.about))
    differs = [k for k in keys if data["about"].get(k) != mine[k]]
    if differs:
        raise InputError(
            f"The evaluation in '{folder.name}' cannot stand in one table with this one.",
            f"It judged other patients: '{differs[0]}' differs.",
            "Evaluate both models by the same side of the same split.",
        )
    return data
