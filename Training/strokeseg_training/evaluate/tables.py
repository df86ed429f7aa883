"""The tables of an evaluation: patients with and without lesion, by volume, by class, with intervals; CSV and JSON.

Every mean is one over persons. A person's figure is that of the whole volume, never a mean over slices; a figure that
has no value is counted as missing and is no part of a mean; background is no class.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from strokeseg.metrics import CohortSummary, Statistic, summarise_cohort
from strokeseg.metrics.slices import SLICE_STRATA
from strokeseg_training.evaluate.record import Record

FIGURES = (
    "dice", "iou", "sensitivity", "specificity", "precision", "accuracy", "mcc", "pr_auc", "reference_ml",
    "prediction_ml", "avd_ml", "volume_difference_ml", "false_positive_ml", "reference_lesions", "prediction_lesions",
    "ald", "lesion_true_positives", "lesion_false_negatives", "lesion_false_positives", "lesion_f1",
    "lesion_precision", "lesion_recall", "rq", "hd95_mm", "assd_mm", "ahd_mm", "nsd_2mm",
)  # fmt: skip
HASHES = ("split_sha256", "recipe_sha256", "model_sha256")
_MODEL_COLUMNS = (
    "model", "loss", "class", "patients_with_class", "dice", "dice_low", "dice_high", "dice_median", "lesion_f1",
    "patients_without_class", "false_positive_ml_without_class", *HASHES,
)  # fmt: skip


def summaries(records: Sequence[Record]) -> dict[str, CohortSummary]:
    """Class (`record.ANY` first) to its tables over all patients.

    Args:
        records: At least one.
    """
    persons = [r.person for r in records]
    return {name: summarise_cohort([r.metrics[name] for r in records], patients=persons) for name in records[0].metrics}


def slice_groups(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Axial slices of all patients by their share of lesion: beside the volumes' figures, never instead of them."""
    rows = []
    for number, name in enumerate(SLICE_STRATA):
        own = [r.slices[number] for r in records]
        counted = [(s.slices, s.mean_dice) for s in own if not math.isnan(s.mean_dice)]
        slices = sum(n for n, _ in counted)
        rows.append(
            {
                "stratum": name,
                "slices": sum(s.slices for s in own),
                "mean_slice_dice": math.fsum(n * dice for n, dice in counted) / slices if slices else None,
                "slices_with_false_positives": sum(s.slices_with_false_positives for s in own),
            }
        )
    return rows


def statistics(summary: CohortSummary) -> Iterator[tuple[str, str, Statistic]]:
    """Group, figure and its statistic, of every table in order."""
    groups = {"all": summary.all_cases, "lesion": summary.lesion_positive, "no lesion": summary.reference_empty}
    groups |= {f"lesion {name}": table for name, table in summary.by_volume.items()}
    for group, table in groups.items():
        for figure, statistic in table.statistics.items():
            yield group, figure, statistic


def tables_csv(found: Mapping[str, CohortSummary], hashes: Mapping[str, str]) -> str:
    """A row a class, group and figure."""
    columns = ("class", "group", "figure", "patients", "missing", "mean", "mean_low", "mean_high", "median",
               "median_low", "median_high", *HASHES)  # fmt: skip
    rows = []
    for name, summary in found.items():
        for group, figure, s in statistics(summary):
            mean, median = s.mean_interval or (math.nan, math.nan), s.median_interval or (math.nan, math.nan)
            numbers = [_cell(v) for v in (s.mean, *mean, s.median, *median)]
            rows.append([name, group, figure, s.patients, s.missing, *numbers, *(hashes[h] for h in HASHES)])
    return to_csv(columns, rows)


def patients_csv(records: Sequence[Record], hashes: Mapping[str, str]) -> str:
    """A row a patient and class."""
    columns = ("patient", "person", "centre", "class", "outcome", *FIGURES, *HASHES)
    rows = [
        [r.patient, r.person, r.centre, name, m.outcome, *(_cell(getattr(m, f)) for f in FIGURES),
         *(hashes[h] for h in HASHES)]
        for r in records
        for name, m in r.metrics.items()
    ]  # fmt: skip
    return to_csv(columns, rows)


def models_csv(evaluations: Iterable[Mapping[str, Any]]) -> str:
    """A row a model and class, of `evaluate.results.Results.to_dict` of each."""
    rows = [row for evaluation in evaluations for row in model_rows(evaluation)]
    return to_csv(_MODEL_COLUMNS, [["" if r[c] is None else r[c] for c in _MODEL_COLUMNS] for r in rows])


def model_rows(evaluation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The figures by which models are compared, class by class."""
    about = evaluation["about"]
    for name, table in evaluation["tables"].items():
        ill, well = table["lesion_positive"], table["reference_empty"]
        dice = ill["statistics"]["dice"]
        low, high = dice["mean_interval"] or (None, None)
        yield {
            "model": about["model"],
            "loss": evaluation["loss"],
            "class": name,
            "patients_with_class": ill["patients"],
            "dice": dice["mean"],
            "dice_low": low,
            "dice_high": high,
            "dice_median": dice["median"],
            "lesion_f1": ill["statistics"]["lesion_f1"]["mean"],
            "patients_without_class": well["patients"],
            "false_positive_ml_without_class": well["statistics"]["false_positive_ml"]["mean"],
            **{h: about[h] for h in HASHES},
        }


def to_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Comma-separated text with a head."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _cell(value: float) -> str:
    """A number with the digits that matter; empty where there is no value."""
    return "" if math.isnan(value) else f"{value:.6g}"
