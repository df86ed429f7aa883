"""StrokeFormer's files: a table of scores, and one by lesion size.

Figures are those of whole volumes, with background counted as background: precision and IoU know false positives. Every
patient counts alike, and one in whom nothing was found counts with 0; distances are in mm, and a patient without any
says so in a column. Patients without lesion are a row of their own, with the volume that was drawn in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from strokeseg.metrics import CohortSummary, CohortTable, summarise_cohort
from strokeseg.metrics.strata import CASE_STRATA
from strokeseg_training.evaluate.published import Work
from strokeseg_training.evaluate.record import ANY, Record
from strokeseg_training.evaluate.tables import HASHES, to_csv
from strokeseg_training.prepare.storage import write_text

# The original's names; dice and f1 of voxels are one figure.
_SCORES = {"accuracy": "accuracy", "dice": "dice", "f1": "dice", "iou": "iou", "mcc": "mcc",
           "precision": "precision", "recall": "sensitivity", "hausdorff95_mm": "hd95_mm",
           "average_surface_distance_mm": "assd_mm", "normalised_surface_dice_2mm": "nsd_2mm"}  # fmt: skip
_COLUMNS = (*_SCORES, "patients_without_distance", "false_positive_ml")


def write(work: Work) -> list[Path]:
    """Both tables.

    Raises:
        OSError: One cannot be written.
    """
    records, card = work.results.records, work.results.card
    hashes = [work.results.hashes[h] for h in HASHES]
    scores, by_size = work.folder / "scores.csv", work.folder / "per_size_scores.csv"
    rows = [[card.name, name, *_row(table), *hashes] for name, table in _groups(records, work.results.tables[ANY])]
    head = ("model_name", "size", "patients", *_COLUMNS, *HASHES)
    write_text(by_size, to_csv(head, rows))
    whole = [row[:1] + row[2:] for row in rows[:1]]
    write_text(scores, to_csv(tuple(c for c in head if c != "size"), whole))
    return [scores, by_size]


def _groups(records: Sequence[Record], whole: CohortSummary) -> Iterator[tuple[str, CohortTable | None]]:
    """Name of a row to its table; None for a group of nobody."""
    yield "with lesion", whole.lesion_positive
    for name in CASE_STRATA:
        own = [r for r in records if r.any.reference_voxels and r.any.volume_stratum == name]
        persons = [r.person for r in own]
        yield name, summarise_cohort([r.any for r in own], patients=persons).lesion_positive if own else None
    yield "without lesion", whole.reference_empty


def _row(table: CohortTable | None) -> list[Any]:
    if table is None:
        return [0, *[""] * len(_COLUMNS)]
    found = table.statistics
    missing = found["hd95_mm"].missing if "hd95_mm" in found else ""
    means = (_mean(table, key) for key in _SCORES.values())
    return [table.patients, *means, missing, _mean(table, "false_positive_ml")]


def _mean(table: CohortTable, figure: str) -> str:
    """Empty where the table does not have the figure, or nobody a value."""
    statistic = table.statistics.get(figure)
    return "" if statistic is None or math.isnan(statistic.mean) else f"{statistic.mean:.4f}"
