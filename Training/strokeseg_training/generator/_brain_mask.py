"""The brain mask as a program finds it: too wide, too tight, bitten, or with tissue of the skull's base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._coarse import coarse, fine
from strokeseg_training.generator._depth import signed_depth_mm
from strokeseg_training.generator._draws import Range, Triple, field_seed, normal, uniform
from strokeseg_training.generator._spots import bumps
from strokeseg_training.generator.fields import per_patient, smooth_field

if TYPE_CHECKING:
    from strokeseg_training.generator.anatomy import Anatomy

# The template's brain is about this ellipsoid: middle and half axes, mm.
_MIDDLE_MM: Triple = (0.0, -18.0, 6.0)
_HALF_AXES_MM: Triple = (68.0, 86.0, 70.0)
# Deeper than this, no program loses brain; further out, none takes air for it.
_DEEPEST_LOSS_MM = 14.0
_FURTHEST_MM = 8.0
PIECES = 4


@dataclass(frozen=True)
class Piece:
    """A place (template mm) where the mask's surface lies `depth_mm` deeper (negative: further out)."""

    centre_mm: Triple
    radius_mm: float
    depth_mm: float


@dataclass(frozen=True)
class MaskErrors:
    """How a brain mask is wrong.

    Args:
        bias_mm: How much too tight it is everywhere (negative: too wide).
        waves_mm: Standard deviation of its smooth errors.
        waves_fwhm_mm: Their width.
        pieces: Lost and added pieces; always `PIECES`, those of depth 0 do nothing.
        seed: Of the waves.
    """

    bias_mm: float
    waves_mm: float
    waves_fwhm_mm: float
    pieces: tuple[Piece, ...]
    seed: int


def draw_mask_errors(
    rng: np.random.Generator, bias_mm: Range, waves_mm: Range, lost_share: float, added_share: float
) -> MaskErrors:
    """Decides the errors of one mask; `lost_share` and `added_share` are the chances of each single piece."""
    pieces = []
    for k in range(PIECES):
        lost = k < PIECES // 2
        happens = rng.uniform() < (lost_share if lost else added_share)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        # Orbits, sinuses, ear and dura at the base are what is added by mistake; pieces get lost anywhere.
        if not lost:
            direction[2] = -abs(direction[2])
        x, y, z = (float(m + a * d) for m, a, d in zip(_MIDDLE_MM, _HALF_AXES_MM, direction, strict=True))
        depth = uniform(rng, (4.0, 13.0) if lost else (-9.0, -3.0))
        pieces.append(Piece((x, y, z), uniform(rng, (7.0, 20.0)), depth if happens else 0.0))
    return MaskErrors(
        bias_mm=float(np.clip(normal(rng, 0.5 * (bias_mm[1] - bias_mm[0]) / 1.5, sum(bias_mm) / 2), *bias_mm)),
        waves_mm=uniform(rng, waves_mm),
        waves_fwhm_mm=uniform(rng, (14.0, 50.0)),
        pieces=tuple(pieces),
        seed=field_seed(rng),
    )


def found_brain(errors: Sequence[MaskErrors], brain: Tensor, anatomy: Anatomy) -> Tensor:
    """The mask (N, x, y, z), bool, that a program finds for the soft brain `brain` (N, x, y, z).

    Args:
        errors: One a patient.
        brain: 0-1, as the scan shows it.
        anatomy: For the template coordinates of the pieces.
    """
    device, spacing = brain.device, anatomy.spacing_mm
    shape = anatomy.shape
    depth = signed_depth_mm(brain, spacing)
    waves = smooth_field([e.seed for e in errors], [e.waves_fwhm_mm for e in errors], shape, spacing, device)[:, 0]
    mni = coarse(anatomy.mni_mm)
    deeper = bumps(
        mni,
        [[p.centre_mm for p in e.pieces] for e in errors],
        [[(p.radius_mm,) * 3 for p in e.pieces] for e in errors],
        [[[p.depth_mm] for p in e.pieces] for e in errors],
    )
    surface = fine(deeper, shape)[:, 0] + per_patient([e.bias_mm for e in errors], device)
    surface = torch.addcmul(surface, waves.clamp(-2.5, 2.5), per_patient([e.waves_mm for e in errors], device))
    return depth > surface.clamp(-_FURTHEST_MM, _DEEPEST_LOSS_MM)
