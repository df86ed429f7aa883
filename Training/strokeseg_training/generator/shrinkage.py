"""What old infarcts do to the brain round them: ventricles and sulci are drawn near, and grow into the space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from strokeseg_training.generator.lesion_scene import Pull

# How far beyond the pull's own radius fluid still widens, and over how many mm it ends at the midline.
_WIDER = 1.3
_MIDLINE_MM = 5.0
# From here on a scar belongs to one side.
_ONE_SIDED_MM = 8.0


@dataclass(frozen=True)
class Shrinkage:
    """The shrinkage of one brain.

    Args:
        pulls: One for each scar that draws on its surroundings.
    """

    pulls: tuple[Pull, ...]

    def __call__(self, places_mm: Tensor) -> Tensor:
        """By how much fluid spaces are read further away from the scars.

        Added to the template coordinates before the tissue maps are read there (not the brain's outline: the skull
        stays), it makes every voxel near a scar show what lies a little further from it.

        Args:
            places_mm: Template places (3, ...).

        Returns:
            Displacement there in template mm, same shape.
        """
        moved = torch.zeros_like(places_mm)
        for pull in self.pulls:
            away = _away(places_mm, pull)
            square = away.square().sum(0) / pull.radius_mm**2
            # r exp((1 - r²) / 2) is 1 at its highest, r = 1; its slope stays above -0.74, so that nothing folds over.
            moved += away * (torch.exp(0.5 - 0.5 * square) * (pull.amount_mm / pull.radius_mm))
        return moved

    def opening(self, places_mm: Tensor) -> Tensor:
        """By how much the ventricles' walls have receded, on the scar's side.

        Args:
            places_mm: Template places (3, ...).

        Returns:
            mm of the patient, (...).
        """
        total = torch.zeros_like(places_mm[0])
        for pull in self.pulls:
            square = _away(places_mm, pull).square().sum(0) / (_WIDER * pull.radius_mm) ** 2
            wide = pull.open_mm * torch.exp(-0.5 * square)
            if abs(pull.centre_mm[0]) > _ONE_SIDED_MM:
                side = 1.0 if pull.centre_mm[0] > 0 else -1.0
                wide = wide * torch.sigmoid(places_mm[0] * (side * 4.0 / _MIDLINE_MM))
            total = torch.maximum(total, wide)
        return total


def _away(places_mm: Tensor, pull: Pull) -> Tensor:
    return places_mm - places_mm.new_tensor(pull.centre_mm).view(3, *[1] * (places_mm.dim() - 1))
