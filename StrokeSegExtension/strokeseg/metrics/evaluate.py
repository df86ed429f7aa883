"""One case: every metric of a prediction against a reference in one frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from strokeseg.metrics.calibration import pr_auc
from strokeseg.metrics.distances import surface_distances
from strokeseg.metrics.empty import EmptyMode, Outcome, declared_values, outcome_of
from strokeseg.metrics.inputs import Mask, as_affine, as_mask, as_probability, require_shape, voxel_volume_ml
from strokeseg.metrics.lesionwise import SizeRecall, compare_lesions
from strokeseg.metrics.overlap import compare_voxels
from strokeseg.metrics.strata import performance_tier, volume_stratum


@dataclass(frozen=True)
class Metrics:
    """Agreement of a prediction with a reference; NaN where a figure has no value (see `empty`).

    Attributes:
        outcome: Which of the two masks holds anything.
        domain: Over which voxels specificity, accuracy, MCC and PR-AUC are counted: "brain" or "whole grid".
        connectivity: Neighbours that join voxels into one lesion.
        voxel_ml: Volume of a voxel.
        domain_voxels: Size of the domain.
        avd_ml: Absolute volume difference.
        volume_difference_ml: Prediction minus reference.
        false_positive_ml: Volume of predicted voxels outside the reference.
        ald: Absolute difference of lesion counts.
        lesion_true_positives: Reference lesions touched by the prediction; false negatives are the others.
        lesion_false_positives: Predicted lesions that touch no reference voxel.
        rq: Recognition quality, one-to-one at IoU >= 0.25.
        pr_auc: Average precision of the probability map; NaN without one or without lesion.
        hd95_mm: And the other distances: see `distances`.
        recall_by_size: Reference lesions found, by size group.
    """

    outcome: Outcome
    domain: str
    connectivity: int
    voxel_ml: float
    domain_voxels: int
    reference_voxels: int
    prediction_voxels: int
    true_positive_voxels: int
    false_positive_voxels: int
    false_negative_voxels: int
    dice: float
    iou: float
    sensitivity: float
    specificity: float
    precision: float
    accuracy: float
    mcc: float
    pr_auc: float
    reference_ml: float
    prediction_ml: float
    avd_ml: float
    volume_difference_ml: float
    false_positive_ml: float
    reference_lesions: int
    prediction_lesions: int
    ald: int
    lesion_true_positives: int
    lesion_false_negatives: int
    lesion_false_positives: int
    lesion_f1: float
    lesion_precision: float
    lesion_recall: float
    rq: float
    hd95_mm: float
    assd_mm: float
    ahd_mm: float
    nsd_2mm: float
    recall_by_size: tuple[SizeRecall, ...]

    @property
    def voxel_f1(self) -> float:
        """The F1 of voxels, which is Dice."""
        return self.dice

    @property
    def volume_stratum(self) -> str | None:
        """Group of the case by lesion volume of the reference; None without lesion."""
        return volume_stratum(self.reference_ml) if self.reference_voxels else None

    @property
    def tier(self) -> str | None:
        """Performance tier by Dice; None where Dice is NaN."""
        return performance_tier(self.dice)

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data for JSON: None for NaN."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recall_by_size"}
        values |= {"voxel_f1": self.voxel_f1, "volume_stratum": self.volume_stratum, "tier": self.tier}
        plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
        plain["recall_by_size"] = [
            {"stratum": s.stratum, "lesions": s.lesions, "found": s.found, "recall": s.recall if s.lesions else None}
            for s in self.recall_by_size
        ]
        return plain


def evaluate_masks(
    prediction: ArrayLike,
    reference: ArrayLike,
    affine: ArrayLike,
    *,
    probability: ArrayLike | None = None,
    brain: ArrayLike | None = None,
    connectivity: int = 26,
    empty: EmptyMode = "nan",
) -> Metrics:
    """Every metric of one case.

    Args:
        prediction: Mask or label map (x, y, z); above 0 is lesion.
        reference: Mask or label map of the same shape.
        affine: 4x4, voxel index to RAS mm.
        probability: Probability map of the same shape for PR-AUC, 0 to 1.
        brain: Brain mask of the same shape. Specificity, accuracy, MCC and PR-AUC are counted over it, over the whole
            grid without it; everything else is counted over the whole grid.
        connectivity: 26, 18 or 6 neighbours join voxels into one lesion.
        empty: What overlap is worth when both masks are empty: "nan" (no value) or "isles" (1.0).

    Raises:
        InputError: Shapes differ, an input is not what it should be, or the connectivity is not known.
    """
    p, g, matrix = as_mask(prediction, "prediction"), as_mask(reference, "reference"), as_affine(affine)
    require_shape(p.shape, g.shape, "prediction")
    domain = None if brain is None else as_mask(brain, "brain mask")
    if domain is not None:
        require_shape(domain.shape, g.shape, "brain mask")
    scores = None if probability is None else as_probability(probability, g.shape)
    voxel_ml = voxel_volume_ml(matrix)

    voxels = compare_voxels(p, g, domain)
    p_box, g_box = _crop(p, g)
    lesions = compare_lesions(p_box, g_box, voxel_ml=voxel_ml, connectivity=connectivity)
    surfaces = surface_distances(p_box, g_box, matrix)
    p_voxels, g_voxels = (voxels.true_positives + n for n in (voxels.false_positives, voxels.false_negatives))
    outcome = outcome_of(p_voxels, g_voxels)
    ratios = {
        "dice": voxels.dice,
        "iou": voxels.iou,
        "sensitivity": voxels.sensitivity,
        "precision": voxels.precision,
        "mcc": voxels.mcc,
        "lesion_f1": lesions.f1,
        "lesion_precision": lesions.precision,
        "lesion_recall": lesions.recall,
        "rq": lesions.rq,
        "hd95_mm": surfaces.hd95_mm,
        "assd_mm": surfaces.assd_mm,
        "ahd_mm": surfaces.ahd_mm,
        "nsd_2mm": surfaces.nsd_2mm,
    } | declared_values(outcome, empty)
    return Metrics(
        outcome=outcome,
        domain="whole grid" if domain is None else "brain",
        connectivity=connectivity,
        voxel_ml=voxel_ml,
        domain_voxels=voxels.domain_voxels,
        reference_voxels=g_voxels,
        prediction_voxels=p_voxels,
        true_positive_voxels=voxels.true_positives,
        false_positive_voxels=voxels.false_positives,
        false_negative_voxels=voxels.false_negatives,
        specificity=voxels.specificity,
        accuracy=voxels.accuracy,
        pr_auc=float("nan") if scores is None else pr_auc(scores, g, domain),
        reference_ml=g_voxels * voxel_ml,
        prediction_ml=p_voxels * voxel_ml,
        avd_ml=abs(p_voxels - g_voxels) * voxel_ml,
        volume_difference_ml=(p_voxels - g_voxels) * voxel_ml,
        false_positive_ml=voxels.false_positives * voxel_ml,
        reference_lesions=lesions.reference_lesions,
        prediction_lesions=lesions.prediction_lesions,
        ald=abs(lesions.reference_lesions - lesions.prediction_lesions),
        lesion_true_positives=lesions.true_positives,
        lesion_false_negatives=lesions.false_negatives,
        lesion_false_positives=lesions.false_positives,
        recall_by_size=lesions.recall_by_size,
        **ratios,
    )


def _crop(p: Mask, g: Mask) -> tuple[Mask, Mask]:
    """Both arrays cut to the box around everything in either: components and surfaces cost only what they are."""
    box = ndimage.find_objects((p | g).view(np.uint8))
    where = box[0] if box else (slice(0, 0),) * 3
    return p[where], g[where]
