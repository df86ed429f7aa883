"""How disease of two kinds, lesions and what only looks like them, acts on one head together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from strokeseg_training.generator.lesions import Lesions


def both(factor: Tensor, other: Tensor) -> Tensor:
    """Where both change a voxel, the stronger change stands: an infarct in old white-matter disease is an infarct."""
    return torch.where((factor - 1.0).abs() >= (other - 1.0).abs(), factor, other)


def altered_fractions(fractions: Tensor, lesions: Lesions, distractors: Lesions) -> Tensor:
    """Fractions (N, 3, x, y, z) of grey, white and fluid after cavities have turned tissue to fluid."""
    kept = (1.0 - lesions.cavity) * (1.0 - distractors.cavity)
    tissue = fractions[:, :2] * kept[:, None]
    fluid = fractions.sum(1) - tissue.sum(1)
    return torch.cat([tissue, fluid[:, None]], 1)
