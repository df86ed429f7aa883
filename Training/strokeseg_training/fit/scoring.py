"""What a run is scored by on the way: quick figures at a threshold of 0.5, to choose a checkpoint and to see trouble.

What a model is worth is measured by the engine's own metrics, after the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from strokeseg_training.fit.batches import Batch

COLUMNS = ("loss", "dice", "sensitivity", "false_ml", "false_ml_without_lesion")


@dataclass(frozen=True)
class Score:
    """One patient.

    Attributes:
        loss: Weighted sum of the terms.
        dice: At 0.5; NaN without lesion.
        sensitivity: Share of the lesion's voxels that are found; NaN without lesion.
        false_ml: Found, and labelled with less than half a voxel of lesion.
        ill: Whether there is a lesion.
    """

    loss: float
    dice: float
    sensitivity: float
    false_ml: float
    ill: bool


def score(logits: torch.Tensor, batch: Batch, loss: float, voxel_ml: float) -> Score:
    """The score of a batch with one patient; `logits` (1, x, y, z)."""
    found = (logits > 0) & batch.target.inside
    label = (batch.target.lesion >= 0.5) & batch.target.inside
    shared, both = int((found & label).sum()), int(found.sum()) + int(label.sum())
    ill = bool(label.any())
    return Score(
        loss=loss,
        dice=2 * shared / both if ill else math.nan,
        sensitivity=shared / int(label.sum()) if ill else math.nan,
        false_ml=int((found & ~label).sum()) * voxel_ml,
        ill=ill,
    )


def means(scores: Sequence[Score]) -> dict[str, float]:
    """By the names of `COLUMNS`; Dice and sensitivity over the patients with a lesion, NaN where there is none."""
    ill, well = [s for s in scores if s.ill], [s for s in scores if not s.ill]
    return {
        "loss": _mean([s.loss for s in scores]),
        "dice": _mean([s.dice for s in ill]),
        "sensitivity": _mean([s.sensitivity for s in ill]),
        "false_ml": _mean([s.false_ml for s in scores]),
        "false_ml_without_lesion": _mean([s.false_ml for s in well]),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
