"""What a metric is worth when the reference, the prediction or both are empty: one table, nothing decided elsewhere.

Two rules stand behind it. With both masks empty a ratio of overlap has no value (NaN), or 1 in the manner of the
ISLES'22 evaluation. With one of them empty overlap is 0, also where the formula divides 0 by 0: a precision that is
NaN for an empty prediction would drop complete misses from the mean. What asks for the share of reference lesions
found has no value without a reference. Distances are never replaced by a number; they stay NaN and are counted.
"""

from __future__ import annotations

import math
from typing import Literal

Outcome = Literal["both present", "reference empty", "prediction empty", "both empty"]
EmptyMode = Literal["nan", "isles"]

DISTANCES = ("hd95_mm", "assd_mm", "ahd_mm", "nsd_2mm")

_NAN = math.nan

# Columns: reference empty, prediction empty, both empty in mode "nan", both empty in mode "isles".
_TABLE: dict[str, tuple[float, float, float, float]] = {
    "dice": (0.0, 0.0, _NAN, 1.0),
    "iou": (0.0, 0.0, _NAN, 1.0),
    "precision": (0.0, 0.0, _NAN, 1.0),
    "sensitivity": (_NAN, 0.0, _NAN, 1.0),
    "mcc": (0.0, 0.0, _NAN, 1.0),
    "lesion_f1": (0.0, 0.0, _NAN, 1.0),
    "lesion_precision": (0.0, 0.0, _NAN, 1.0),
    "lesion_recall": (_NAN, 0.0, _NAN, 1.0),
    "rq": (0.0, 0.0, _NAN, 1.0),
    **dict.fromkeys(DISTANCES, (_NAN, _NAN, _NAN, _NAN)),
}


def outcome_of(prediction_voxels: int, reference_voxels: int) -> Outcome:
    """Which of the two masks holds anything."""
    if reference_voxels:
        return "both present" if prediction_voxels else "prediction empty"
    return "reference empty" if prediction_voxels else "both empty"


def declared_values(outcome: Outcome, mode: EmptyMode) -> dict[str, float]:
    """Metric name to the value that replaces the formula's; nothing when both masks hold voxels."""
    if outcome == "both present":
        return {}
    column = {"reference empty": 0, "prediction empty": 1, "both empty": 2 if mode == "nan" else 3}[outcome]
    return {name: values[column] for name, values in _TABLE.items()}
