"""Focal Tversky and boundary terms of the 3D attention U-Net."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from strokeseg_training.losses.labelled import Labelled
from strokeseg_training.recipe_losses import FocalTverskyBoundary

# Below it a power less than 1 has no usable slope; single precision does not reach closer to a perfect index.
_LEAST = 1e-6


def focal_tversky_boundary(given: Labelled, arguments: FocalTverskyBoundary) -> dict[str, Tensor]:
    """The terms ``focal_tversky`` and ``boundary`` that have a weight."""
    a, terms = arguments, {}
    if a.focal_tversky:
        terms["focal_tversky"] = focal_tversky(
            given,
            false_positives=a.false_positives,
            false_negatives=a.false_negatives,
            power=a.gamma if a.exponent == "gamma" else 1.0 / a.gamma,
            smooth=a.smooth,
        )
    if a.boundary:
        terms["boundary"] = boundary(given)
    return terms


def focal_tversky(
    given: Labelled, *, false_positives: float, false_negatives: float, power: float, smooth: float
) -> Tensor:
    """Mean over patients and classes, without the background, of (1 - Tversky's index) to a power."""
    from monai.losses.tversky import TverskyLoss  # noqa: PLC0415  takes seconds to load

    loss = TverskyLoss(
        alpha=false_positives, beta=false_negatives, smooth_nr=smooth, smooth_dr=smooth, reduction="none"
    )
    each: Tensor = loss(*given.counting(background=False))
    if power < 1.0:
        each = each.clamp_min(_LEAST)
    return each.pow(power).mean()


def boundary(given: Labelled) -> Tensor:
    """How much the steps between neighbours differ from the labels'.

    Mean over the axes, patients and classes without the background, of the smooth absolute difference (beta 1) between
    |forward difference| of probability and of label. A pair counts where both of its voxels do; an axis of one voxel
    has none.
    """
    probability, label = given.counting(background=False)
    terms = []
    for axis in range(2, probability.dim()):
        if probability.shape[axis] < 2:
            continue
        steps, wanted = (v.diff(dim=axis).abs() for v in (probability, label))
        length = given.counted.shape[axis - 1] - 1
        both = given.counted.narrow(axis - 1, 0, length) & given.counted.narrow(axis - 1, 1, length)
        each = functional.smooth_l1_loss(steps, wanted, reduction="none").mean(1) * both
        terms.append((each.flatten(1).sum(1) / both.flatten(1).sum(1).clamp_min(1)).mean())
    return torch.stack(terms).mean() if terms else probability.sum() * 0.0
