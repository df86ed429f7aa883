"""From a score to a shape: `depth`, the signed distance in mm from a lesion's border, positive inside.

Every shape ends as a depth, so that borders, weak rims and cavities mean the same for all of them.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from strokeseg_training.generator.lesion_head import Head

FAR_MM = 30.0
# Width over which a logistic goes from a tenth to nine tenths, in units of its scale.
LOGISTIC_WIDTH = 4.394
# Below this share of grey and white matter a voxel holds no infarct: there is nothing to draw.
LEAST_TISSUE = 0.05


def extent(depth: Tensor, edge_mm: float, head: Head) -> Tensor:
    """0-1: share of a voxel's tissue inside the border; the voxel itself blurs the sharpest border."""
    width = max(edge_mm, 0.8 * max(head.spacing_mm))
    return torch.sigmoid(depth * (LOGISTIC_WIDTH / width)) * (head.tissue > LEAST_TISSUE)


def depth_of_score(score: Tensor, head: Head, volume_ml: float, allowed: Tensor | None = None) -> Tensor:
    """Depth of the region of highest score that holds `volume_ml` of tissue.

    Args:
        score: (x, y, z), high inside.
        head: The box.
        volume_ml: Tissue to cover.
        allowed: 0-1; where it is below one half no tissue is counted and none is hit.

    Returns:
        (x, y, z) in mm: score above the border over its own gradient.
    """
    tissue = head.tissue * (head.tissue > LEAST_TISSUE)
    if allowed is not None:
        tissue = tissue * (allowed > 0.5)
        score = torch.where(allowed > 0.5, score, score.min() - 1.0)
    border = level_holding(score, tissue, volume_ml / head.voxel_ml)
    above = score - border
    depth = (above / steepness(score, head)).clamp(-FAR_MM, FAR_MM)
    return depth if allowed is None else torch.where(allowed > 0.5, depth, depth.new_tensor(-FAR_MM))


def millimetres(depth: Tensor, head: Head) -> Tensor:
    """The signed distance in mm to where `depth` changes its sign.

    A score over its gradient is a distance near a steep border only; where the score is flat, half an infarct would
    spread over centimetres.
    """
    inside = (depth > 0).cpu().numpy()
    if not inside.any() or inside.all():
        return depth
    spacing = head.spacing_mm
    half = 0.5 * min(spacing)
    within = ndimage.distance_transform_edt(inside, sampling=spacing)
    beyond = ndimage.distance_transform_edt(~inside, sampling=spacing)
    far = torch.from_numpy(np.where(inside, within - half, half - beyond)).to(depth)
    # Close to the border the score knows where between two voxels it lies.
    return torch.where(far.abs() < 1.5 * max(spacing), far + depth.clamp(-half, half) - half * depth.sign(), far)


def level_holding(score: Tensor, weight: Tensor, amount: float) -> Tensor:
    """The level above which `score` holds `amount` of `weight`; its lowest value where there is less."""
    low, high = score.amin(), score.amax()
    for _ in range(14):
        middle = 0.5 * (low + high)
        too_much = (weight * (score > middle)).sum() > amount
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    return 0.5 * (low + high)


def steepness(score: Tensor, head: Head) -> Tensor:
    """Length of the gradient per mm, with a floor that keeps plateaus finite."""
    total = torch.zeros_like(score)
    for axis, spacing in enumerate(head.spacing_mm):
        size = score.shape[axis]
        if size > 2:
            slope = (score.narrow(axis, 2, size - 2) - score.narrow(axis, 0, size - 2)) / (2.0 * spacing)
            total.narrow(axis, 1, size - 2).add_(slope**2)
    return total.sqrt_().clamp_min_(0.02)


def smoothstep(value: Tensor) -> Tensor:
    """0 below 0, 1 above 1, with level ends."""
    t = value.clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
