"""Cross entropies, less the label's own entropy where it is fractional: 0 for a perfect answer, same gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORED_TISSUE = 255
"""Tissue label of voxels that do not count."""


def binary_entropy(logits: Tensor, lesion: Tensor, inside: Tensor) -> Tensor:
    """Mean over the voxels `inside`; all (N, x, y, z). Returns (N,), nats; 0 where nothing is inside."""
    total = (_divergence(logits, lesion) * inside).flatten(1).sum(1)
    return total / inside.flatten(1).sum(1).clamp_min(1)


def small_lesion_entropy(logits: Tensor, lesion: Tensor, weights: Tensor) -> Tensor:
    """Sum with the weights of `component_weights`: the mean over lesions of each lesion's mean.

    Args:
        logits: (N, x, y, z).
        lesion: (N, x, y, z), fraction 0-1.
        weights: (N, x, y, z), 0 outside of lesions.

    Returns:
        (N,), nats; 0 without lesion.
    """
    return (_divergence(logits, lesion) * weights).flatten(1).sum(1)


def tissue_entropy(logits: Tensor, tissue: Tensor) -> Tensor:
    """Mean cross entropy over the voxels that count.

    Args:
        logits: (N, K, x, y, z).
        tissue: (N, x, y, z) uint8, 0 to K - 1, or `IGNORED_TISSUE`.

    Returns:
        (N,), nats.
    """
    total = (
        functional.cross_entropy(logits, tissue.long(), ignore_index=IGNORED_TISSUE, reduction="none").flatten(1).sum(1)
    )
    return total / (tissue != IGNORED_TISSUE).flatten(1).sum(1).clamp_min(1)


def _divergence(logits: Tensor, label: Tensor) -> Tensor:
    """Kullback and Leibler's, of the predicted from the labelled fraction, in each voxel."""
    own = -(torch.xlogy(label, label) + torch.xlogy(1.0 - label, 1.0 - label))
    return functional.binary_cross_entropy_with_logits(logits, label, reduction="none") - own
