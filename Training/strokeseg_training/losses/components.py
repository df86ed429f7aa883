"""Weights that let a lesion of 0.05 ml count as much as one of 100 ml. Computed once, when a sample is loaded."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

# Voxels with less lesion than this neither make nor join lesions.
_LEAST_FRACTION = 0.1
_ALL_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def component_weights(lesion: Tensor, voxel_ml: float, smallest_ml: float) -> Tensor:
    """Weight of each voxel: 1 / (its lesion's volume in voxels * number of lesions), 0 outside of lesions.

    A lesion is a 26-connected group of voxels with a tenth of lesion or more. Its volume is the sum of fractions, taken
    as `smallest_ml` where it is smaller: a speck counts in proportion to its volume.

    Args:
        lesion: (N, x, y, z), fraction 0-1.
        voxel_ml: Volume of a voxel.
        smallest_ml: Volume from which lesions count alike.

    Returns:
        (N, x, y, z) float32 on the device of `lesion`.
    """
    least = smallest_ml / voxel_ml
    rows = [torch.from_numpy(_of_one(row.cpu().numpy(), least)) for row in lesion]
    return torch.stack(rows).to(lesion.device)


def _of_one(lesion: np.ndarray, least_voxels: float) -> np.ndarray:
    weights = np.zeros(lesion.shape, dtype=np.float32)
    found = lesion >= _LEAST_FRACTION
    if not found.any():
        return weights
    # Labelling takes time by the voxel: only the box around all lesions is looked at.
    extent = (np.flatnonzero(found.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    box = tuple(slice(int(e[0]), int(e[-1]) + 1) for e in extent)
    labels, number = ndimage.label(found[box], structure=_ALL_NEIGHBOURS)
    voxels = np.bincount(labels.ravel(), weights=lesion[box].ravel().astype(np.float64), minlength=number + 1)
    by_label = 1.0 / (np.maximum(voxels, least_voxels) * number)
    by_label[0] = 0.0
    weights[box] = by_label[labels]
    return weights
