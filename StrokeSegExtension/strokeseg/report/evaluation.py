"""The evaluation against a reference as rows of a table: what a figure is called, what it means, why one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strokeseg.report.figures import millilitres, number


@dataclass(frozen=True)
class MetricRow:
    """One figure: its name, its printed value and what it says or, where it is not defined, why."""

    name: str
    value: str
    meaning: str


# Key in the metrics, name, unit ("" for a ratio, "n" for a count, "ml", "±ml", "mm"), meaning.
_GROUPS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "Overlap": (
        ("dice", "Dice", "", "agreement of the two masks; 1 is perfect"),
        ("iou", "IoU", "", "intersection over union"),
        ("sensitivity", "Sensitivity", "", "share of the reference that was found"),
        ("precision", "Precision", "", "share of the prediction that is right"),
        ("specificity", "Specificity", "", "share of healthy voxels left alone"),
        ("accuracy", "Accuracy", "", "share of all voxels that are right"),
        ("mcc", "MCC", "", "Matthews correlation; 0 is chance"),
        ("pr_auc", "PR-AUC", "", "average precision of the probability map"),
    ),
    "Volume": (
        ("reference_ml", "Reference volume", "ml", ""),
        ("prediction_ml", "Predicted volume", "ml", ""),
        ("volume_difference_ml", "Difference", "±ml", "prediction minus reference"),
        ("avd_ml", "Absolute difference", "ml", "AVD"),
        ("false_positive_ml", "False-positive volume", "ml", "predicted outside the reference"),
    ),
    "Lesions": (
        ("reference_lesions", "Lesions in the reference", "n", ""),
        ("prediction_lesions", "Lesions predicted", "n", ""),
        ("ald", "Difference in number", "n", "ALD, absolute"),
        ("lesion_true_positives", "Reference lesions found", "n", "touched by at least one predicted voxel"),
        ("lesion_false_negatives", "Reference lesions missed", "n", ""),
        ("lesion_false_positives", "False lesions", "n", "predicted ones that touch no reference voxel"),
        ("lesion_f1", "Lesion F1", "", "read it next to precision and false-positive volume"),
        ("lesion_precision", "Lesion precision", "", "share of predicted lesions that are right"),
        ("lesion_recall", "Lesion recall", "", "share of reference lesions found"),
        ("rq", "Recognition quality", "", "one-to-one pairs with IoU ≥ 0.25"),
    ),
    "Surface": (
        ("hd95_mm", "HD95", "mm", "95th percentile of the surface distance"),
        ("assd_mm", "ASSD", "mm", "mean distance over both surfaces"),
        ("ahd_mm", "AHD", "mm", "mean of the two directed distances"),
        ("nsd_2mm", "NSD", "", "share of the surfaces within 2 mm"),
    ),
}

_REASONS = {
    "reference empty": "the reference has no lesion",
    "prediction empty": "nothing was predicted",
    "both empty": "neither the reference nor the prediction has a lesion",
}


def metric_rows(metrics: Mapping[str, Any]) -> dict[str, list[MetricRow]]:
    """Group to rows, for the figures that `metrics` holds; None is a figure without value and gets its reason."""
    groups = {group: [_row(metrics, *line) for line in lines if line[0] in metrics] for group, lines in _GROUPS.items()}
    return {group: rows for group, rows in groups.items() if rows}


def _row(metrics: Mapping[str, Any], key: str, name: str, unit: str, meaning: str) -> MetricRow:
    value = metrics[key]
    if value is None:
        return MetricRow(name, "not defined", _reason(metrics, key))
    if unit == "n":
        return MetricRow(name, f"{value}", meaning)
    if unit == "ml":
        return MetricRow(name, f"{millilitres(value)} ml", meaning)
    if unit == "±ml":
        return MetricRow(name, f"{number(value, 2, signed=True)} ml", meaning)
    if unit == "mm":
        return MetricRow(name, f"{number(value, 1)} mm", meaning)
    # Healthy voxels are so many that three digits would print 1.000 for nearly every scan.
    return MetricRow(name, number(value, 5 if key in {"specificity", "accuracy"} else 3), meaning)


def _reason(metrics: Mapping[str, Any], key: str) -> str:
    outcome = str(metrics.get("outcome", ""))
    if key == "pr_auc" and outcome in {"both present", "prediction empty"}:
        return "no probability map was given"
    return _REASONS.get(outcome, "it divides by zero here")
