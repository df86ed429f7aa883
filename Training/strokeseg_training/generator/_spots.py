"""Places of the healthy brain that look different from the rest of their tissue: bright cortex and fibre tracts.

Every patient has the same places, moved a little and differently strong; both sides of the head alike.
Coordinates are those of the template, mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._draws import Range, Triple, around, low_rather, normal, uniform


@dataclass(frozen=True)
class Spot:
    """A soft ellipsoid and what it does to the signal of tissue.

    Args:
        centre_mm: Middle.
        radius_mm: Standard deviations of the Gaussian along (x, y, z).
        log_signal: Logarithm of the factor on the signal, with and without diffusion weighting alike.
        log_d: Logarithm of the factor on the diffusivity.
    """

    centre_mm: Triple
    radius_mm: Triple
    log_signal: float
    log_d: float


@dataclass(frozen=True)
class Place:
    """Where a spot usually lies (`side`: its x is repeated on the other side) and how strong it may be, 0-1."""

    centre_mm: Triple
    radius_mm: Triple
    strength: float = 1.0
    side: bool = True


# Cortex that is bright in every healthy brain: medial frontal, occipital pole, calcarine, cingulate, insular, medial
# temporal. Seen as symmetric false alarms of networks that did not know it.
CORTEX = (
    Place((7, 52, 2), (9, 12, 13)),
    Place((14, -90, 2), (12, 9, 12)),
    Place((8, -74, 8), (7, 12, 9), 0.8),
    Place((6, 14, 34), (7, 16, 9)),
    Place((6, -40, 34), (7, 12, 9), 0.6),
    Place((38, 6, 0), (6, 14, 12)),
    Place((26, -12, -20), (8, 12, 7), 0.6),
    Place((30, 34, -14), (12, 12, 6), 0.6),
)
# Tracts whose fibres leave the directions of the gradients unequal, or whose T2 is long: corticospinal from the centrum
# semiovale to the pons, splenium, genu, brachium pontis, upper cerebellar peduncle.
TRACTS = (
    Place((26, -24, 36), (6, 7, 10), 0.7),
    Place((25, -20, 20), (4, 5, 8)),
    Place((20, -16, 4), (4, 4, 8)),
    Place((14, -18, -12), (5, 4, 6), 0.8),
    Place((6, -24, -30), (4, 6, 9), 0.7),
    Place((12, -40, 12), (9, 5, 6)),
    Place((0, -38, 14), (8, 5, 6), 0.8, side=False),
    Place((10, 28, 8), (8, 5, 6), 0.4),
    Place((18, -44, -32), (6, 8, 7)),
    Place((6, -46, -24), (3, 5, 5), 0.6),
    Place((0, -26, -32), (10, 7, 8), 0.6, side=False),
)


def draw_spots(
    rng: np.random.Generator,
    places: Sequence[Place],
    signal: Range,
    d_factor: Range,
    jitter_mm: float,
    asymmetry: float,
) -> tuple[Spot, ...]:
    """Spots of one patient.

    Args:
        rng: Source.
        places: Where they may lie.
        signal: Factor on the signal at strength 1; the patient has one level, each place a share of it.
        d_factor: Factor on the diffusivity.
        jitter_mm: Standard deviation of their place, alike on both sides.
        asymmetry: Standard deviation of the logarithm by which the sides differ.
    """
    level = uniform(rng, (float(np.log(signal[0])), float(np.log(signal[1]))))
    d_level = float(np.log(uniform(rng, d_factor)))
    spots = []
    for place in places:
        share = place.strength * uniform(rng, (0.3, 1.0))
        centre = around(rng, place.centre_mm, jitter_mm)
        stretch = float(np.exp(normal(rng, 0.25)))
        radius = (place.radius_mm[0] * stretch, place.radius_mm[1] * stretch, place.radius_mm[2] * stretch)
        d_share = 1.0 - low_rather(rng, (0.0, 1.0))
        for sign in (1.0, -1.0) if place.side else (1.0,):
            own = normal(rng, asymmetry) if place.side else 0.0
            x = centre[0] * sign
            spots.append(
                Spot((x, centre[1], centre[2]), radius, max(0.0, level * share + own * share), d_level * d_share)
            )
    return tuple(spots)


def spot_maps(mni_mm: Tensor, patients: Sequence[Sequence[Spot]]) -> Tensor:
    """Sums (N, 2, x, y, z) of all spots: logarithms of the factors on signal and on diffusivity.

    Args:
        mni_mm: (N, 3, x, y, z), template coordinates.
        patients: The spots of each, the same number for all.
    """
    height = [[(s.log_signal, s.log_d) for s in spots] for spots in patients]
    return bumps(
        mni_mm, [[s.centre_mm for s in p] for p in patients], [[s.radius_mm for s in p] for p in patients], height
    )


def bumps(
    mni_mm: Tensor,
    centres_mm: Sequence[Sequence[Triple]],
    radii_mm: Sequence[Sequence[Triple]],
    heights: Sequence[Sequence[Sequence[float]]],
) -> Tensor:
    """Sums of Gaussians (N, C, x, y, z).

    Args:
        mni_mm: (N, 3, x, y, z), template coordinates.
        centres_mm: K middles of each patient.
        radii_mm: K standard deviations along the template's axes.
        heights: K heights in each of C channels.
    """
    device = mni_mm.device
    centre, width, height = (
        torch.tensor(v, dtype=torch.float32, device=device) for v in (centres_mm, radii_mm, heights)
    )
    weight = -0.5 / width.square()
    # The exponent is linear in the squares, the coordinates and 1: one product for all places.
    terms = torch.cat([weight, -2.0 * weight * centre, (weight * centre.square()).sum(2, keepdim=True)], 2)
    flat = mni_mm.flatten(2)
    exponent = terms[..., :6] @ torch.cat([flat.square(), flat], 1) + terms[..., 6:]
    return (height.transpose(1, 2) @ exponent.clamp_min_(-40.0).exp_()).view(
        *height.shape[:1], height.shape[2], *mni_mm.shape[2:]
    )
