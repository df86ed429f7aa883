"""Mirrored passes: the same case with left and right exchanged, and the mean of what the model says about both.

All channels are flipped along the first axis of the model grid, which runs closest to the patient's right. That is the
very input that the mirrored patient would have: a channel that compares a voxel with its other side is computed by
the brain's own mid-sagittal plane, which is mirrored with the head, so it takes the value of its mirrored voxel with
its sign. The plane need not lie in the middle of the grid, nor along its axes; nothing is interpolated.

The mean is that of probabilities, which is what "two observers" means, and whose entropy tells where they are unsure
or disagree; a mean of logits would let the surer one win. It is given as logits, which then take the one way back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax, logsumexp

Array = NDArray[np.float32]


def flipped(array: Array) -> Array:
    """An array (..., x, y, z) with its x axis reversed, in memory order."""
    return np.ascontiguousarray(array[..., ::-1, :, :])


def mean_logits(passes: list[Array]) -> Array:
    """Logits of the mean probability.

    Args:
        passes: Each (K, x, y, z); K = 1: a logit, else one logit a class.
    """
    if len(passes) == 1:
        return passes[0]
    stacked = np.stack(passes)
    if stacked.shape[1] == 1:
        mean = logsumexp(log_expit(stacked), axis=0) - logsumexp(log_expit(-stacked), axis=0)
    else:
        mean = logsumexp(log_softmax(stacked, axis=1), axis=0) - np.log(len(passes))
    return np.asarray(mean, dtype=np.float32)


def entropy(classes: Array) -> Array:
    """Entropy of class probabilities (K, x, y, z) as a share of the largest possible: 0 sure, 1 all equal."""
    terms = np.zeros(classes.shape[1:], dtype=np.float32)
    for probability in classes:
        np.subtract(terms, probability * np.log(np.maximum(probability, np.float32(1e-12))), out=terms)
    return np.clip(terms / np.float32(np.log(len(classes))), 0.0, 1.0)
