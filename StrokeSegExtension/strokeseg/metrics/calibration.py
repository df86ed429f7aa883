"""What a probability map is worth before any threshold: ranking (PR-AUC) and calibration (reliability, ECE, Brier)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from strokeseg.errors import InputError
from strokeseg.metrics.inputs import Mask, as_mask, as_probability, require_shape


@dataclass(frozen=True)
class Calibration:
    """Predicted against observed frequency of lesion among brain voxels.

    Attributes:
        bin_edges: Borders of the bins of predicted probability, one more than bins; each bin holds its lower border,
            the last one its upper border, too.
        voxels: Brain voxels per bin.
        mean_probability: Mean predicted probability per bin; NaN in an empty bin.
        lesion_fraction: Observed share of lesion per bin; NaN in an empty bin.
        ece: Expected calibration error: mean over voxels of |mean probability − lesion fraction| of their bin.
        brier: Mean squared difference between probability and reference (0 or 1).
    """

    bin_edges: tuple[float, ...]
    voxels: tuple[int, ...]
    mean_probability: tuple[float, ...]
    lesion_fraction: tuple[float, ...]
    ece: float
    brier: float

    def to_dict(self) -> dict[str, object]:
        """The curve as plain data; None for the NaN of an empty bin."""
        return {
            "bin_edges": list(self.bin_edges),
            "voxels": list(self.voxels),
            "mean_probability": [None if math.isnan(v) else v for v in self.mean_probability],
            "lesion_fraction": [None if math.isnan(v) else v for v in self.lesion_fraction],
            "ece": self.ece,
            "brier": self.brier,
        }


def calibrate(probability: ArrayLike, reference: ArrayLike, brain: ArrayLike, *, bins: int = 10) -> Calibration:
    """Reliability curve, ECE and Brier score over the brain's voxels.

    Args:
        probability: (x, y, z), 0 to 1.
        reference: Mask of the same shape.
        brain: Brain mask of the same shape; the zeros of air would make any map look calibrated.
        bins: Number of equally wide bins.

    Raises:
        InputError: Shapes differ, the map is not a probability, or the brain is empty.
    """
    g = as_mask(reference, "reference")
    inside = as_mask(brain, "brain mask")
    require_shape(inside.shape, g.shape, "brain mask")
    p = np.asarray(as_probability(probability, g.shape)[inside], dtype=np.float64)
    if not p.size:
        raise InputError(
            "Calibration cannot be measured.", "The brain mask is empty.", "Give a brain mask that covers the brain."
        )
    y = g[inside].astype(np.float64)
    edges = np.arange(bins + 1) / bins  # 3 / 10 is the 0.3 that people write, linspace is one bit above it
    # Against the same edges that are reported: p * bins would put 0.3 into another bin than its edge says.
    index = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    full = count > 0
    mean_probability, lesion_fraction = np.full(bins, np.nan), np.full(bins, np.nan)
    mean_probability[full] = np.bincount(index, weights=p, minlength=bins)[full] / count[full]
    lesion_fraction[full] = np.bincount(index, weights=y, minlength=bins)[full] / count[full]
    gap = np.abs(mean_probability - lesion_fraction)[full]
    return Calibration(
        bin_edges=tuple(float(v) for v in edges),
        voxels=tuple(int(v) for v in count),
        mean_probability=tuple(float(v) for v in mean_probability),
        lesion_fraction=tuple(float(v) for v in lesion_fraction),
        ece=float((gap * count[full]).sum() / p.size),
        brier=float(((p - y) ** 2).mean()),
    )


def pr_auc(probability: ArrayLike, reference: Mask, domain: Mask | None = None) -> float:
    """Area under the precision-recall curve as average precision: Σ (recall_n − recall_{n−1}) · precision_n.

    Equal probabilities are one step of the curve, so a constant map scores the share of lesion voxels.

    Args:
        probability: (x, y, z), 0 to 1.
        reference: Boolean array of the same shape.
        domain: Voxels that count, normally the brain; None: all.

    Returns:
        0 to 1; NaN when the domain holds no lesion voxel.
    """
    p, y = np.asarray(probability), np.asarray(reference)
    if p.dtype.kind != "f":
        p = p.astype(np.float32)  # an unsigned score has no negative to sort by
    p, y = (p.ravel(), y.ravel()) if domain is None else (p[domain], y[domain])
    lesion_voxels = int(np.count_nonzero(y))
    if not lesion_voxels:
        return float("nan")
    # Below the lowest lesion voxel recall no longer changes: most of the brain never has to be sorted.
    relevant = p >= p[y].min()
    p, y = p[relevant], y[relevant]
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    last_of_step = np.append(np.flatnonzero(np.diff(p)), p.size - 1)
    hits = np.cumsum(y)[last_of_step]
    precision = hits / (last_of_step + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / lesion_voxels)
