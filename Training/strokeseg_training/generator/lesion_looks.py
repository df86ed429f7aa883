"""What an infarct does to tissue, painted over the patient's maps in the box of its shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from strokeseg_training.generator.lesion_depth import LEAST_TISSUE, extent, millimetres, smoothstep
from strokeseg_training.generator.lesion_head import Box, Head, Place
from strokeseg_training.generator.lesion_scene import AcuteLook, Embolus
from strokeseg_training.generator.lesion_shapes import rotation

# Several infarcts and old damage may lie over one another; tissue does not leave these bounds.
D_BOUNDS = (0.30, 2.5)
T2_BOUNDS = (0.25, 2.5)
_LEAST_BORDER_MM = 0.3


@dataclass(frozen=True, eq=False)
class Canvas:
    """One patient's maps (x, y, z), changed in place.

    Args:
        infarct: Share of tissue that is infarct.
        d_factor: Factor of D.
        t2_factor: Factor of T2.
        t1_factor: Factor of the T1-weighted signal.
        cavity: Share of tissue that has turned to fluid.
    """

    infarct: Tensor
    d_factor: Tensor
    t2_factor: Tensor
    t1_factor: Tensor
    cavity: Tensor

    def add(self, box: Box, share: Tensor) -> None:
        """The infarct's share, where it is more than what was there."""
        self.infarct[box] = torch.maximum(self.infarct[box], share)

    def change(self, box: Box, d_change: Tensor, t2_change: Tensor) -> None:
        """Factors 1 + change of D and T2."""
        self.d_factor[box] = (self.d_factor[box] * (1.0 + d_change)).clamp(*D_BOUNDS)
        self.t2_factor[box] = (self.t2_factor[box] * (1.0 + t2_change)).clamp(*T2_BOUNDS)


def paint_acute(canvas: Canvas, head: Head, box: Box, depth: Tensor, look: AcuteLook) -> None:
    """An acute infarct: strong in its depth, weak at the border and in patches, all of it infarct.

    Args:
        canvas: The patient's maps, whole grid.
        head: The patient, cut to `box`.
        box: Where `depth` lies.
        depth: (x, y, z) mm from the border, positive inside.
        look: Its age and texture.
    """
    depth = millimetres(depth, head)
    share = extent(depth, look.edge_mm, head)
    border = _border(depth, head, look.border_mm)
    inner = smoothstep((depth + 0.5 * look.edge_mm) / (border + 0.5 * look.edge_mm))
    strength = look.border_strength + (1.0 - look.border_strength) * inner
    if look.patch_share > 0.01:
        weak = _cell_patches(head, look) if look.cells else _cloud_patches(head, look)
        strength = strength * (1.0 - weak * (1.0 - look.patch_strength))
    core = look.d_ratio * torch.exp(look.texture_sd * head.field(look.seed + 1, 7.0))
    even = smoothstep((depth + 0.5 * look.edge_mm) / look.edge_mm)
    t2_strength = strength + look.mismatch * (0.75 * even - strength)
    canvas.add(box, share)
    canvas.change(box, share * strength * (core - 1.0), share * t2_strength * (look.t2_ratio - 1.0))


def paint_embolus(canvas: Canvas, head: Head, voxel: Place, embolus: Embolus) -> None:
    """A small infarct at a voxel of the whole grid.

    Args:
        canvas: The patient's maps, whole grid.
        head: The whole head.
        voxel: Its middle, (x, y, z) in voxels of the whole grid.
        embolus: Size, form and strength.
    """
    radius = (embolus.volume_ml * 1000.0 * 0.75 / math.pi) ** (1.0 / 3.0)
    box = head.box_at(voxel, radius * math.exp(max(embolus.stretch)) + 1.5 * max(head.spacing_mm) + embolus.edge_mm)
    cut = head.cut(box)
    offsets = cut.offsets_mm(voxel)
    turn = rotation(embolus.turn_deg)
    total = torch.zeros((), device=head.device)
    for axis in range(3):
        own = sum(float(turn[axis, k]) * offsets[k] for k in range(3)) * (math.exp(-embolus.stretch[axis]) / radius)
        total = total + torch.as_tensor(own).abs() ** embolus.boxy
    depth = radius * (1.0 - total ** (1.0 / embolus.boxy)) - embolus.grey_pull * (1.0 - cut.grey)
    share = extent(depth, embolus.edge_mm, cut)
    canvas.add(box, share)
    canvas.change(box, share * (embolus.d_ratio - 1.0), share * (embolus.t2_ratio - 1.0))


def _border(depth: Tensor, head: Head, border_mm: float) -> Tensor:
    """Depth at which the change is complete: no deeper than the lesion is there.

    Small parts are not weaker in themselves: what an expert draws can be seen, and a fragment that never reached its
    border's depth would be labelled and invisible.
    """
    reach = [math.ceil(border_mm / spacing) for spacing in head.spacing_mm]
    deepest = functional.max_pool3d(depth[None, None], [2 * r + 1 for r in reach], stride=1, padding=reach)[0, 0]
    return deepest.clamp(_LEAST_BORDER_MM, max(border_mm, _LEAST_BORDER_MM))


def _cloud_patches(head: Head, look: AcuteLook) -> Tensor:
    level = NormalDist().inv_cdf(min(look.patch_share, 0.99))
    return torch.sigmoid((level - head.field(look.seed, look.patch_mm)) * 5.0)


def _cell_patches(head: Head, look: AcuteLook) -> Tensor:
    """Polygons of one strength each: nearest of random points, of which a share is weak."""
    rng = np.random.default_rng(look.seed)
    size = np.array(head.shape) * np.array(head.spacing_mm)
    count = int(np.clip(np.prod(size) / look.patch_mm**3, 4, 40))
    weak = torch.zeros(head.shape, device=head.device)
    nearest = torch.full(head.shape, math.inf, device=head.device)
    for point in rng.uniform(0.0, 1.0, (count, 3)) * np.array(head.shape):
        x, y, z = head.offsets_mm([c + p for c, p in zip(head.corner, point, strict=True)])
        away = x**2 + y**2 + z**2
        weak = torch.where(away < nearest, float(rng.random() < look.patch_share), weak)
        nearest = torch.minimum(nearest, away)
    return weak * (head.tissue > LEAST_TISSUE)
