"""Fluid spaces that the average of 152 brains does not show: the ventricles' horns, and arachnoid cysts.

The average holds their place, but blurs a slit of 2 mm away. So they are drawn by place: horns as tubes of the width
that this patient has, cysts as balls at the brain's surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

Range = tuple[float, float]
Triple = tuple[float, float, float]
Four = tuple[float, float, float, float]

# Template mm of the right side, from the atrium to the tip, read off the template's fluid and T1.
TEMPORAL: tuple[Triple, ...] = ((29, -42, 3), (33, -36, -6), (36, -27, -12), (34, -17, -17), (31, -10, -20))
OCCIPITAL: tuple[Triple, ...] = ((29, -48, 7), (29, -58, 5), (27, -68, 6), (24, -79, 7))
# Width at the tip against that at the atrium.
_TIP = 0.6
_REACH_MM = 12.0
# Where cysts lie: middle fossa, behind the cerebellum, Sylvian fissure, convexity; shares after Al-Holou 2013.
_CYST_PLACES: tuple[tuple[Triple, float], ...] = (
    ((44.0, 14.0, -34.0), 0.36),
    ((6.0, -92.0, -44.0), 0.38),
    ((54.0, 4.0, 0.0), 0.10),
    ((40.0, 30.0, 52.0), 0.16),
)


@dataclass(frozen=True)
class Cyst:
    """A cyst of the arachnoid: a ball of fluid at the brain's surface that has pushed the brain away.

    Args:
        centre_mm: Template mm.
        radii_mm: Half axes in template mm.
    """

    centre_mm: Triple
    radii_mm: Triple


def draw_cysts(rng: np.random.Generator, share: float, radius_mm: Range) -> tuple[Cyst, ...]:
    """One cyst in `share` of all brains; rng is asked the same number of times in each."""
    happens = bool(rng.random() < share)
    chances = np.array([p for _, p in _CYST_PLACES])
    (x, y, z), _ = _CYST_PLACES[int(rng.choice(len(chances), p=chances / chances.sum()))]
    side = 1.0 if rng.random() < 0.5 else -1.0
    dx, dy, dz = rng.normal(0.0, 4.0, 3).tolist()
    radius = float(rng.uniform(*radius_mm))
    a, b, c = (radius * np.exp(rng.normal(0.0, 0.2, 3))).tolist()
    return (Cyst((side * x + dx, y + dy, z + dz), (a, b, c)),) if happens else ()


def horn_distance(places_mm: Tensor, widths_mm: Four, size: float) -> Tensor:
    """Signed mm of the patient to the walls of the horns, negative inside; at most 12 mm.

    Args:
        places_mm: Template places (3, P).
        widths_mm: Half width of the temporal horns (right, left) and of the occipital ones (right, left); 0: none.
        size: Millimetres of the patient for one of the template.
    """
    found = places_mm.new_full(places_mm.shape[1:], _REACH_MM)
    x, y, z = places_mm
    near = torch.nonzero((x.abs() > 10) & (x.abs() < 52) & (y > -96) & (y < 6) & (z > -34) & (z < 22))[:, 0]
    place = torch.stack([x[near].abs(), y[near], z[near]])
    right = x[near] > 0
    closest = found[near]
    for course, (on_right, on_left) in ((TEMPORAL, widths_mm[:2]), (OCCIPITAL, widths_mm[2:])):
        if max(on_right, on_left) <= 0:
            continue
        width = torch.where(right, place.new_tensor(on_right), place.new_tensor(on_left))
        pieces = len(course) - 1
        for k, (start, end) in enumerate(pairwise(course)):
            a, along = place.new_tensor(start), place.new_tensor(end) - place.new_tensor(start)
            offset = place - a[:, None]
            t = ((along[:, None] * offset).sum(0) / along.square().sum()).clamp(0.0, 1.0)
            away = (offset - t * along[:, None]).square().sum(0).sqrt() * size
            tapered = width * (1.0 + (_TIP - 1.0) * (k + t) / pieces)
            closest = torch.where(width > 0, torch.minimum(closest, away - tapered), closest)
    found[near] = closest
    return found


def cyst_distance(places_mm: Tensor, cysts: tuple[Cyst, ...]) -> Tensor:
    """About the signed mm to the nearest cyst's wall, negative inside.

    Args:
        places_mm: Template places (3, P).
        cysts: At least one.
    """
    nearest: Tensor | None = None
    for cyst in cysts:
        parts = zip(places_mm, cyst.centre_mm, cyst.radii_mm, strict=True)
        distance = (torch.stack([((p - c) / r) ** 2 for p, c, r in parts]).sum(0).sqrt() - 1.0) * min(cyst.radii_mm)
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
    assert nearest is not None
    return nearest
