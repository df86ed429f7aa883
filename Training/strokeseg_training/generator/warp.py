"""Smooth fields on lattices of fixed size, and deformations without folds.

A lattice's nodes lie `step` mm apart around the middle of the grid. Its values do not depend on the grid that reads it,
so one scene gives the same head at every spacing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from strokeseg_training.generator.fields import along, white_noise

HALF_EXTENT_MM = (104.0, 124.0, 104.0)
"""What lattices reach from the middle of the grid; their border values go on beyond."""

SQUARINGS = 5


def axes_mm(shape: Sequence[int], spacing_mm: Sequence[float], device: torch.device) -> list[Tensor]:
    """The voxels' places along each axis in mm from the middle of the grid."""
    return [
        (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) * s
        for n, s in zip(shape, spacing_mm, strict=True)
    ]


def lattice_nodes(step_mm: float) -> tuple[int, int, int]:
    """Nodes along each axis of a lattice over `HALF_EXTENT_MM`; an odd number, one in the middle."""
    x, y, z = (2 * math.ceil(h / step_mm) + 1 for h in HALF_EXTENT_MM)
    return x, y, z


def spline(lattice: Tensor, step_mm: float, places_mm: Sequence[Tensor]) -> Tensor:
    """Cubic B-splines over a lattice, read on a grid.

    Smooth in first and second derivative; linear functions of place come out unchanged away from the lattice's border.

    Args:
        lattice: (N, C, nodes...).
        step_mm: Distance of nodes.
        places_mm: Three vectors, the grid's places along the axes in mm from the middle.

    Returns:
        (N, C, x, y, z).
    """
    for axis, places in enumerate(places_mm):
        lattice = along(lattice, _spline_rows(places, step_mm, lattice.shape[2 + axis]), axis)
    return lattice


def noise(seed: int, wave_mm: float, places_mm: Sequence[Tensor], channels: int = 1) -> Tensor:
    """A random field (channels, x, y, z) of mean about 0 and variance about 1 that changes over `wave_mm`."""
    step = max(wave_mm / 2.0, 2.0)
    device = places_mm[0].device
    lattice = white_noise([seed], (channels, *lattice_nodes(step)), device)
    # A cubic B-spline's squared weights sum to 0.479 on average over places, once an axis.
    return spline(lattice, step, places_mm)[0] / 0.479**1.5


def flow(velocity: Tensor, step_mm: float) -> Tensor:
    """The displacement (3, nodes) in mm that a steady velocity (3, nodes) in mm leads to: smooth and without folds.

    Scaling and squaring (Arsigny 2006): a small step is free of folds, and so are steps done one after the other.
    """
    shape = velocity.shape[1:]
    device = velocity.device
    rest = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, n, device=device) for n in shape), indexing="ij"))
    # mm to the -1..1 of grid_sample; its last axis is ordered (z, y, x).
    unit = torch.tensor([2.0 / (step_mm * (n - 1)) for n in shape], device=device).view(3, 1, 1, 1)
    moved = velocity * unit / 2**SQUARINGS
    for _ in range(SQUARINGS):
        place = (rest + moved).flip(0).permute(1, 2, 3, 0)[None]
        moved = moved + functional.grid_sample(moved[None], place, padding_mode="border", align_corners=True)[0]
    return moved / unit


def _spline_rows(places: Tensor, step_mm: float, nodes: int) -> Tensor:
    """(places, nodes) weights of cubic B-splines; what falls beyond the lattice goes to its end nodes."""
    position = (places / step_mm + (nodes - 1) / 2).clamp(0, nodes - 1)
    wide = torch.arange(-1, nodes + 1, device=places.device, dtype=torch.float32)
    distance = (position[:, None] - wide).abs()
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = (2 - distance).clamp_min(0) ** 3 / 6
    weights = torch.where(distance < 1, inner, outer)
    rows = weights[:, 1:-1].clone()
    rows[:, 0] += weights[:, 0]
    rows[:, -1] += weights[:, -1]
    return rows
