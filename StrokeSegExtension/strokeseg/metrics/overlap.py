"""Voxel by voxel: counts of agreement and the ratios made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from strokeseg.metrics.inputs import Mask, ratio


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of a prediction against a reference.

    `true_positives`, `false_positives` and `false_negatives` count the whole grid. The `domain_*` counts are those
    inside the domain over which "no lesion" is counted: the brain mask where there is one, else the whole grid.
    Specificity, accuracy and MCC use these, because air around the head would push them all to 1. The ratios are NaN
    where they divide 0 by 0.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    domain_true_positives: int
    domain_false_positives: int
    domain_false_negatives: int
    domain_true_negatives: int

    @property
    def dice(self) -> float:
        """2|G∩P| / (|G| + |P|), the voxel F1."""
        return ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    @property
    def iou(self) -> float:
        """|G∩P| / |G∪P|."""
        return ratio(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)

    @property
    def sensitivity(self) -> float:
        """Share of the reference that was found."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """Share of the prediction that is right."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def specificity(self) -> float:
        """Share of the domain without lesion that was left empty."""
        return ratio(self.domain_true_negatives, self.domain_true_negatives + self.domain_false_positives)

    @property
    def accuracy(self) -> float:
        """Share of the domain's voxels that is right."""
        return ratio(self.domain_true_positives + self.domain_true_negatives, self.domain_voxels)

    @property
    def mcc(self) -> float:
        """Matthews correlation; 0, no better than chance, when a row or column of the table is empty."""
        tp, fp = self.domain_true_positives, self.domain_false_positives
        fn, tn = self.domain_false_negatives, self.domain_true_negatives
        # Python's whole numbers do not overflow; the product of four counts of a large volume would in 64 bits.
        spread = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return (tp * tn - fp * fn) / spread if spread else 0.0

    @property
    def domain_voxels(self) -> int:
        """Number of voxels of the domain."""
        inside = self.domain_true_positives + self.domain_false_positives
        return inside + self.domain_false_negatives + self.domain_true_negatives


def compare_voxels(prediction: Mask, reference: Mask, brain: Mask | None = None) -> Overlap:
    """Count agreement of two boolean arrays of one shape; `brain` is the domain of the true negatives."""

    def counts(p: Mask, g: Mask) -> tuple[int, int, int]:
        both, p_voxels, g_voxels = (int(np.count_nonzero(m)) for m in (p & g, p, g))
        return both, p_voxels - both, g_voxels - both

    whole = counts(prediction, reference)
    inside = whole if brain is None else counts(prediction & brain, reference & brain)
    domain_voxels = prediction.size if brain is None else int(np.count_nonzero(brain))
    return Overlap(*whole, *inside, domain_true_negatives=domain_voxels - sum(inside))
