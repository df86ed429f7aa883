"""Lesion by lesion: connected components of the reference and the prediction compared as objects.

Two ways of counting. The ISLES'22 way: a reference component is found when any voxel of it is predicted, a predicted
component is false when it touches no reference voxel. One blob over the whole brain scores 1 that way, so its F1 is
only worth something next to precision and false-positive volume. Recognition quality (RQ, as in panoptica and
ISLES'26) asks for one-to-one pairs with an intersection over union of at least 0.25.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg.metrics.inputs import Mask, ratio
from strokeseg.metrics.strata import COMPONENT_STRATA, component_stratum

RQ_IOU = 0.25
_NEIGHBOURS = {6: 1, 18: 2, 26: 3}


@dataclass(frozen=True)
class SizeRecall:
    """Reference components of one size group: how many there are, and how many a predicted voxel touches."""

    stratum: str
    lesions: int
    found: int

    @property
    def recall(self) -> float:
        """Share found; NaN where there is none."""
        return ratio(self.found, self.lesions)


@dataclass(frozen=True)
class LesionAgreement:
    """Counts of components; ratios are NaN where they divide 0 by 0.

    Attributes:
        reference_lesions: Components of the reference.
        prediction_lesions: Components of the prediction.
        true_positives: Reference components with at least one predicted voxel.
        false_positives: Predicted components without a reference voxel.
        matched: One-to-one pairs with IoU >= 0.25, taken greedily from the best pair downwards.
        recall_by_size: One entry a size group, smallest first.
    """

    reference_lesions: int
    prediction_lesions: int
    true_positives: int
    false_positives: int
    matched: int
    recall_by_size: tuple[SizeRecall, ...]

    @property
    def false_negatives(self) -> int:
        """Reference components that no predicted voxel touches."""
        return self.reference_lesions - self.true_positives

    @property
    def f1(self) -> float:
        """TP / (TP + (FP + FN) / 2), the harmonic mean of `precision` and `recall`."""
        return ratio(self.true_positives, self.true_positives + (self.false_positives + self.false_negatives) / 2)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return ratio(self.true_positives, self.reference_lesions)

    @property
    def rq(self) -> float:
        """Matched / (matched + unmatched predictions / 2 + unmatched references / 2)."""
        return ratio(self.matched, (self.reference_lesions + self.prediction_lesions) / 2)


def components(mask: Mask, connectivity: int) -> tuple[NDArray[np.int32], int]:
    """Label the components of a boolean (x, y, z) array by 6 (faces), 18 (edges) or 26 (corners) neighbours.

    Raises:
        InputError: Another connectivity.
    """
    if connectivity not in _NEIGHBOURS:
        raise InputError(
            "The connectivity of lesion components is not known.",
            f"{connectivity} neighbours were asked for.",
            "Choose 6 (faces), 18 (faces and edges) or 26 (faces, edges and corners).",
        )
    structure = ndimage.generate_binary_structure(3, _NEIGHBOURS[connectivity])
    labels, count = ndimage.label(mask, structure, output=np.int32)
    return labels, int(count)


def compare_lesions(prediction: Mask, reference: Mask, *, voxel_ml: float, connectivity: int = 26) -> LesionAgreement:
    """Compare the components of two boolean (x, y, z) arrays of one shape.

    Args:
        prediction: Boolean array.
        reference: Boolean array of the same shape.
        voxel_ml: Volume of a voxel in ml, for the size groups.
        connectivity: 26, 18 or 6 neighbours.

    Raises:
        InputError: Another connectivity.
    """
    p_labels, p_count = components(prediction, connectivity)
    g_labels, g_count = components(reference, connectivity)
    p_size, g_size = (np.bincount(x.ravel(), minlength=n + 1) for x, n in ((p_labels, p_count), (g_labels, g_count)))
    both = prediction & reference
    joint = g_labels[both].astype(np.int64) * (p_count + 1) + p_labels[both]
    pairs, shared = np.unique(joint, return_counts=True)
    g_of, p_of = pairs // (p_count + 1), pairs % (p_count + 1)
    found = np.unique(g_of)
    return LesionAgreement(
        reference_lesions=g_count,
        prediction_lesions=p_count,
        true_positives=len(found),
        false_positives=p_count - len(np.unique(p_of)),
        matched=_one_to_one(g_of, p_of, shared, g_size[g_of] + p_size[p_of] - shared),
        recall_by_size=_recall_by_size(g_size[1:] * voxel_ml, np.isin(np.arange(1, g_count + 1), found)),
    )


def _one_to_one(
    g_of: NDArray[np.int64], p_of: NDArray[np.int64], shared: NDArray[np.int64], union: NDArray[np.int64]
) -> int:
    """Number of pairs when each component may be used once: best IoU first, in a tie the larger overlap."""
    iou = shared / union
    free_g, free_p = set(g_of.tolist()), set(p_of.tolist())
    matched = 0
    for k in np.lexsort((-shared, -iou)):
        g, p = int(g_of[k]), int(p_of[k])
        if iou[k] >= RQ_IOU and g in free_g and p in free_p:
            free_g.remove(g)
            free_p.remove(p)
            matched += 1
    return matched


def _recall_by_size(volumes_ml: NDArray[np.floating[Any]], found: NDArray[np.bool_]) -> tuple[SizeRecall, ...]:
    names = [component_stratum(float(v)) for v in volumes_ml]
    return tuple(
        SizeRecall(
            stratum,
            lesions=names.count(stratum),
            found=sum(bool(f) for n, f in zip(names, found, strict=True) if n == stratum),
        )
        for stratum in COMPONENT_STRATA
    )
