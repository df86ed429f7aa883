"""Overlap of a soft prediction with a soft label: Tversky's index, of which Dice is the even-handed case."""

from __future__ import annotations

import torch
from torch import Tensor


def tversky(
    logits: Tensor, lesion: Tensor, inside: Tensor, *, false_positives: float, false_negatives: float, smooth: float
) -> Tensor:
    """1 - (shared + smooth) / (shared + false_positives * too much + false_negatives * too little + smooth).

    A voxel shares the smaller of probability and label, so that a probability equal to a fractional label costs
    nothing; for labels 0 and 1 this is the usual sum of products. With 0.5 and 0.5 it is 1 - Dice.

    Args:
        logits: (N, x, y, z).
        lesion: (N, x, y, z), fraction 0-1.
        inside: (N, x, y, z) boolean, the voxels that count.
        false_positives: What a voxel too much weighs.
        false_negatives: What a voxel too little weighs.
        smooth: Voxels; gives patients without lesion a gradient.

    Returns:
        (N,).
    """
    probability = (torch.sigmoid(logits) * inside).flatten(1)
    label = (lesion * inside).flatten(1)
    shared = torch.minimum(probability, label).sum(1)
    too_much = torch.relu(probability - label).sum(1)
    too_little = torch.relu(label - probability).sum(1)
    whole = shared + false_positives * too_much + false_negatives * too_little + smooth
    return 1.0 - (shared + smooth) / whole
