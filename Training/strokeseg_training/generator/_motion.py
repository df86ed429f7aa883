"""Rigid motion of a head between two images: three shears, each moving whole lines along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._draws import Range, Triple, normal, uniform


@dataclass(frozen=True)
class Motion:
    """How the head lies in the second image: shift in mm and small rotations in degrees, about (right, front, top)."""

    shift_mm: Triple
    rotation_degrees: Triple


def draw_motion(rng: np.random.Generator, shift_mm: Range, degrees: float) -> Motion:
    """A motion whose length lies between two bounds, in any direction."""
    direction = rng.normal(size=3)
    x, y, z = (float(v) for v in direction / np.linalg.norm(direction) * uniform(rng, shift_mm))
    a, b, c = (normal(rng, degrees) for _ in range(3))
    return Motion((x, y, z), (a, b, c))


def moved(volume: Tensor, motion: Motion, spacing_mm: Sequence[float]) -> Tensor:
    """An image (x, y, z) of the head after the motion; rotations about the middle of the grid, to first order.

    Args:
        volume: Image before the motion.
        motion: The motion.
        spacing_mm: Of the image.
    """
    a, b, c = (float(np.deg2rad(v)) for v in motion.rotation_degrees)
    # Where tissue comes from: minus the displacement, shift + rotation x place.
    turn = np.array([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]])
    for axis in range(3):
        offset = torch.full([1, 1, 1], -motion.shift_mm[axis], device=volume.device)
        for other in (k for k in range(3) if k != axis):
            place = (torch.arange(volume.shape[other], device=volume.device) - (volume.shape[other] - 1) / 2.0).float()
            view = [1, 1, 1]
            view[other] = -1
            offset = offset - (place * (float(turn[axis, other]) * spacing_mm[other])).view(view)
        volume = _slid(volume, offset / spacing_mm[axis], axis)
    return volume


def _slid(volume: Tensor, offset: Tensor, axis: int) -> Tensor:
    """Lines along `axis` read at `offset` voxels (1 along the axis) further on, linearly; borders continued."""
    count = volume.shape[axis]
    whole = offset.floor()
    view = [1, 1, 1]
    view[axis] = -1
    index = torch.arange(count, device=volume.device).view(view) + whole.long()
    index = index.expand_as(volume)
    low = volume.gather(axis, index.clamp(0, count - 1))
    return torch.lerp(low, volume.gather(axis, (index + 1).clamp(0, count - 1)), (offset - whole).expand_as(volume))
