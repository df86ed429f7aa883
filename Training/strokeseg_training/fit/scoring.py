"""What a run is scored by on the way: quick figures at a threshold of 0.5, to choose a checkpoint and to see trouble.

What a model is worth is measured by the engine's own metrics, after the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from strokeseg_training.fit.batches import Labels
from strokeseg_training.losses import Target

_COLUMNS = ("loss", "dice", "sensitivity", "false_ml", "false_ml_without_lesion")


def columns(classes: int) -> tuple[str, ...]:
    """Names of what `means` gives; where there are several classes, the Dice of each, too."""
    return _COLUMNS + tuple(f"dice_{n}" for n in range(1, classes + 1) if classes > 1)


@dataclass(frozen=True)
class Score:
    """One patient.

    Attributes:
        loss: Weighted sum of the terms.
        dices: Of each class, at 0.5; NaN where the patient does not have it.
        sensitivity: Share of the lesion's voxels that are found; NaN without lesion.
        false_ml: Found, and labelled with less than half a voxel of lesion.
        ill: Whether there is a lesion.
    """

    loss: float
    dices: tuple[float, ...]
    sensitivity: float
    false_ml: float
    ill: bool


def score(logits: torch.Tensor, target: Target | Labels, loss: float, voxel_ml: float) -> Score:
    """The score of a batch with one synthetic patient.

    Args:
        logits: (1, x, y, z), of the lesion.
        target: On the same voxels, with shares of lesion.
        loss: Of the patient.
        voxel_ml: Volume of a voxel.
    """
    assert isinstance(target, Target)
    label = (target.lesion >= 0.5) & target.inside
    return _scored((logits > 0) & target.inside, label, [(logits > 0) & target.inside], [label], loss, voxel_ml)


def score_classes(
    logits: torch.Tensor, labels: torch.Tensor, brain: torch.Tensor, loss: float, voxel_ml: float
) -> Score:
    """The score of a prepared patient; lesion outside the brain, where the engine finds none, is missed.

    Args:
        logits: (1, K, x, y, z), one for the lesion or one a class with the background first.
        labels: (x, y, z), the class, 0 for background.
        brain: (x, y, z) boolean.
        loss: Of the patient.
        voxel_ml: Volume of a voxel.
    """
    found = (logits[0, 0] > 0).long() if logits.shape[1] == 1 else logits[0].argmax(0)
    found = found * brain
    values = range(1, max(int(logits.shape[1]), 2))
    each = [found == v for v in values], [labels == v for v in values]
    return _scored(found > 0, labels > 0, *each, loss, voxel_ml)


def _scored(
    found: torch.Tensor,
    label: torch.Tensor,
    found_classes: Sequence[torch.Tensor],
    label_classes: Sequence[torch.Tensor],
    loss: float,
    voxel_ml: float,
) -> Score:
    ill = bool(label.any())
    return Score(
        loss=loss,
        dices=tuple(_dice(f, own) for f, own in zip(found_classes, label_classes, strict=True)),
        sensitivity=int((found & label).sum()) / int(label.sum()) if ill else math.nan,
        false_ml=int((found & ~label).sum()) * voxel_ml,
        ill=ill,
    )


def _dice(found: torch.Tensor, label: torch.Tensor) -> float:
    own = int(label.sum())
    return 2 * int((found & label).sum()) / (int(found.sum()) + own) if own else math.nan


def means(scores: Sequence[Score]) -> dict[str, float]:
    """By the names of `columns`; NaN where there is nobody to take the mean of.

    Dice is the mean over the patients who have the class, and then over the classes; sensitivity that over the patients
    with any lesion.
    """
    ill, well = [s for s in scores if s.ill], [s for s in scores if not s.ill]
    classes = [_mean([d for d in kind if not math.isnan(d)]) for kind in zip(*(s.dices for s in scores), strict=True)]
    return {
        "loss": _mean([s.loss for s in scores]),
        "dice": _mean([d for d in classes if not math.isnan(d)]),
        "sensitivity": _mean([s.sensitivity for s in ill]),
        "false_ml": _mean([s.false_ml for s in scores]),
        "false_ml_without_lesion": _mean([s.false_ml for s in well]),
        **{f"dice_{n}": dice for n, dice in enumerate(classes, start=1) if len(classes) > 1},
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
