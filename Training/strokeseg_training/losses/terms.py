"""`LossTerms`: the terms that a recipe weighs, each by its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from strokeseg_training.losses.entropy import binary_entropy, small_lesion_entropy, tissue_entropy
from strokeseg_training.losses.overlap import tversky
from strokeseg_training.recipe_parts import Loss


class Target(NamedTuple):
    """What the network should say.

    Args:
        lesion: (N, x, y, z) float32, fraction 0-1.
        inside: (N, x, y, z) boolean, the brain: elsewhere the engine takes no lesion, whatever the network says.
        weights: (N, x, y, z) float32, of `component_weights`.
        tissue: (N, x, y, z) uint8, index of the tissue or `IGNORED_TISSUE`.
    """

    lesion: Tensor
    inside: Tensor
    weights: Tensor
    tissue: Tensor


class LossTerms:
    """Computes the terms of a loss.

    Args:
        loss: Of the recipe.
        spacing_mm: Of the voxels.
    """

    def __init__(self, loss: Loss, spacing_mm: tuple[float, float, float]) -> None:
        self.weights = loss.weights
        self._loss = loss
        self._smooth = loss.smooth_ml / (math.prod(spacing_mm) / 1000.0)

    def __call__(self, logits: Mapping[str, Tensor], target: Target) -> dict[str, Tensor]:
        """The terms, unweighted, and their weighted sum.

        Args:
            logits: Output's name to (N, K, x, y, z): ``lesion`` with K = 1, ``tissue`` where it is weighed.
            target: On the same voxels.

        Returns:
            Name to a number, the mean over the patients: no term looks at a batch as a whole, so that two batches of
            half the size give the same gradient. ``loss`` is the sum.
        """
        lesion = logits["lesion"].float().squeeze(1)
        terms: dict[str, Tensor] = {}
        for name in self.weights:
            if name == "dice":
                each = self._overlap(lesion, target, 0.5, 0.5)
            elif name == "tversky":
                term = self._loss.tversky
                each = self._overlap(lesion, target, term.false_positives, term.false_negatives)
            elif name == "bce":
                each = binary_entropy(lesion, target.lesion, target.inside)
            elif name == "small":
                each = small_lesion_entropy(lesion, target.lesion, target.weights)
            else:
                each = tissue_entropy(logits["tissue"].float(), target.tissue)
            terms[name] = each.mean()
        total = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return {"loss": total, **terms}

    def _overlap(self, logits: Tensor, target: Target, too_much: float, too_little: float) -> Tensor:
        return tversky(
            logits,
            target.lesion,
            target.inside,
            false_positives=too_much,
            false_negatives=too_little,
            smooth=self._smooth,
        )
