"""Shapes of the training's infarcts: library masks, and noise along vessels, in cortex and in deep tissue.

Each is drawn in its own box as a score; the highest part of it that holds the wanted volume is the infarct. Noise makes
borders ragged and tears the lesion into pieces, fluid and white matter push it into the cortical ribbon.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strokeseg_training.generator.fields import blur, sample_at
from strokeseg_training.generator.lesion_depth import depth_of_score
from strokeseg_training.generator.lesion_head import Box, Head, Lattice
from strokeseg_training.generator.lesion_library import LibraryMask
from strokeseg_training.generator.lesion_scene import LesionPart
from strokeseg_training.generator.lesion_territories import (
    TERRITORIES,
    belonging,
    belonging_coarse,
    line_distance,
    territory_line,
)

Shape = tuple[Box, Tensor]
"""A box of the whole grid and the depth in it."""


def rotation(turn_deg: tuple[float, float, float]) -> NDArray[np.float64]:
    """3x3: turns about x, then y, then z."""
    matrix = np.eye(3)
    for axis, degrees in enumerate(turn_deg):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cos, -sin, sin, cos
        matrix = turn @ matrix
    return matrix


def ragged(head: Head, part: LesionPart) -> Tensor:
    """Noise of three sizes, variance about 1."""
    coarse = head.field(part.seed, 2.2 * part.ragged_mm)
    middle = head.field(part.seed + 1, part.ragged_mm)
    fine = head.field(part.seed + 2, max(4.5, 0.5 * part.ragged_mm))
    return 0.68 * coarse + 0.66 * middle + 0.32 * fine


def ribbon(head: Head, part: LesionPart, fluid: float) -> Tensor:
    """How grey matter draws the lesion and fluid repels it; blurred, so that it is no dust of single voxels."""
    maps = torch.stack([head.grey, head.csf])[:, None]
    grey, csf = blur(maps, 0.75 * max(head.spacing_mm), head.spacing_mm)[:, 0]
    return part.grey_pull * grey - fluid * csf


def library_shape(head: Head, part: LesionPart, mask: LibraryMask) -> Shape | None:
    """A real mask, moved, turned, stretched and warped against the anatomy, then torn by noise.

    The mask's own volume on the grid, times `keep`, stays: a border that wanders does not swell the lesion.
    """
    centre = np.array(mask.centre_mm)
    size = np.array(mask.voxels.shape) * np.abs(np.diag(mask.affine[:3, :3]))
    flip = np.array([-1.0 if part.mirror else 1.0, 1.0, 1.0])
    middle = centre * flip + part.shift_mm
    box = head.box_near([middle - 0.5 * size, middle + 0.5 * size], 8.0 + part.warp_mm)
    if box is None:
        return None
    head = head.cut(box)
    back = np.diag(np.exp(-np.array(part.stretch))) @ rotation(part.turn_deg)
    # Template mm of the patient to template mm of the mask: x -> flip (back (x - middle)) + centre.
    matrix = torch.from_numpy(np.diag(flip) @ back).to(head.mni_mm)
    offset = torch.from_numpy(centre - np.diag(flip) @ back @ middle).to(head.mni_mm)
    points = (matrix @ head.mni_mm.reshape(3, -1) + offset[:, None]).reshape(head.mni_mm.shape)
    if part.warp_mm > 0:
        points = points + part.warp_mm * head.field(part.seed + 3, 22.0, 3)
    voxels = torch.from_numpy(mask.voxels).to(head.mni_mm)
    inside = sample_at(voxels[None], points[None], mask.affine)
    volume = part.volume_ml or part.keep * float((inside[0, 0] * head.tissue).sum()) * head.voxel_ml
    near = blur(inside, 1.6, head.spacing_mm)[0, 0]
    score = torch.log(near + 1e-3) + part.ragged * ragged(head, part) + ribbon(head, part, 1.0)
    return box, depth_of_score(score, head, volume, (near > 0.02).float())


def territory_shape(head: Head, part: LesionPart) -> Shape | None:
    """Tissue along a vessel's bed; with much noise a chain or a scatter of patches."""
    territory = TERRITORIES[part.territory]
    line = territory_line(part.territory, part.side, part.span)
    reach = territory.radius_mm * (1.8 if part.kind == "scatter" else 2.4) + 4.0
    box = head.box_near(line.tolist(), reach)
    if box is None:
        return None
    head = head.cut(box)
    # Stretching the radius keeps one bed from always being the same tube.
    radius = territory.radius_mm * math.exp(part.stretch[0])
    distance = line_distance(head.mni_mm, line) / radius
    if part.kind == "scatter":  # anywhere in the bed, thin towards its rim
        distance = 0.5 * distance**2
    score = part.ragged * ragged(head, part) - distance + ribbon(head, part, 0.8)
    score = score + 2.0 * belonging(head, territory.within, part.side)
    return box, depth_of_score(score, head, part.volume_ml, (belonging(head, territory.within, 0) > 0.5).float())


def placed_shape(head: Head, part: LesionPart) -> Shape | None:
    """A wedge, a piece of cortical ribbon or a lacune at a random place of the territory."""
    voxel = place_of(head, part)
    if voxel is None:
        return None
    radius = (max(part.volume_ml, 0.01) * 1000.0 * 0.75 / math.pi) ** (1.0 / 3.0)
    widest = math.exp(max(part.stretch))
    box = head.box_at(voxel, (2.6 if part.kind == "lacune" else 3.2) * radius * widest + 6.0)
    head = head.cut(box)
    offsets = head.offsets_mm(voxel)
    if part.kind == "wedge":
        score = _wedge(head, part, offsets, radius)
    else:
        distance = _ellipsoid(part, offsets) / radius
        score = part.ragged * ragged(head, part) - distance + ribbon(head, part, 0.8)
    within = TERRITORIES[part.territory].within
    return box, depth_of_score(score, head, part.volume_ml, (belonging(head, within, 0) > 0.5).float())


def place_of(head: Head, part: LesionPart) -> tuple[float, float, float] | None:
    """The voxel of the whole grid that the part's quantiles name; None where its territory holds no tissue."""
    return head.voxel_at(_likely(head, part), part.place)


def _likely(head: Head, part: LesionPart) -> Lattice:
    """Where a placed shape may lie: (a, b, c) on the coarse lattice."""
    coarse = head.coarse
    territory = TERRITORIES[part.territory]
    line = territory_line(part.territory, part.side)
    distance = line_distance(torch.from_numpy(coarse.mni_mm), line).numpy() / territory.radius_mm
    likely = belonging_coarse(coarse, territory.within, part.side) * np.exp(-0.5 * distance**2)
    likely = likely * np.clip(coarse.tissue - 0.3, 0.0, None)
    if part.kind in {"cortex", "wedge"}:
        return np.asarray(likely * coarse.grey**2 * (1.0 - coarse.regions["deep_grey"]), dtype=np.float32)
    if part.kind == "lacune" and territory.within == "cerebrum":
        deep = np.maximum(coarse.regions["deep_grey"], np.clip(coarse.tissue - coarse.grey - 0.5, 0.0, 1.0))
        likely = likely * deep
    return np.asarray(likely, dtype=np.float32)


def _ellipsoid(part: LesionPart, offsets: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Distance in mm, measured in the part's own stretched and turned axes."""
    turn = rotation(part.turn_deg)
    total: Tensor | None = None
    for axis in range(3):
        own = sum(float(turn[axis, k]) * offsets[k] for k in range(3)) * math.exp(-part.stretch[axis])
        assert isinstance(own, Tensor)
        total = own**2 if total is None else total + own**2
    assert total is not None
    return total.sqrt()


def _wedge(head: Head, part: LesionPart, offsets: tuple[Tensor, Tensor, Tensor], radius: float) -> Tensor:
    """A cone that opens from a deep point towards the cortex at the placed voxel."""
    at = tuple(
        min(s - 1, max(0, round(float(-o.flatten()[0] / sp))))
        for o, s, sp in zip(offsets, head.shape, head.spacing_mm, strict=True)
    )
    outwards = head.mni_mm[:, at[0], at[1], at[2]] - head.mni_mm.new_tensor((0.0, -18.0, 12.0))
    axis = (outwards / outwards.norm().clamp_min(1.0)).tolist()
    length = 2.2 * radius * math.exp(part.stretch[1])
    along = sum(a * o for a, o in zip(axis, offsets, strict=True)) / length + 1.0  # 0 at the tip, 1 at the cortex
    assert isinstance(along, Tensor)
    square = offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2
    across = (square - ((along - 1.0) * length) ** 2).clamp_min(0.0).sqrt()
    width = radius * (0.25 + 0.9 * along.clamp(0.0, 1.2))
    distance = across / width + (-along).clamp_min(0.0) * 4.0 + (along - 1.3).clamp_min(0.0) * 4.0
    return part.ragged * ragged(head, part) - distance + ribbon(head, part, 0.8)
