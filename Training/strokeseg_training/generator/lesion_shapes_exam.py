"""Shapes of the exam's infarcts, drawn in other ways: balls, walks, branches and cells, no noise fields.

A network that has only learnt how the training's noise looks scores lower here.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strokeseg_training.generator.lesion_depth import FAR_MM, depth_of_score, level_holding
from strokeseg_training.generator.lesion_head import Head
from strokeseg_training.generator.lesion_scene import LesionPart
from strokeseg_training.generator.lesion_shapes import Shape, place_of
from strokeseg_training.generator.lesion_territories import TERRITORIES, belonging

Points = NDArray[np.float64]


def exam_shape(head: Head, part: LesionPart) -> Shape | None:
    """A "metaballs", "walk", "branches" or "cells" infarct at a random place of the territory."""
    voxel = place_of(head, part)
    if voxel is None:
        return None
    rng = np.random.default_rng(part.seed)
    radius = (max(part.volume_ml, 0.01) * 1000.0 * 0.75 / math.pi) ** (1.0 / 3.0)
    box = head.box_at(voxel, 3.2 * radius + 8.0)
    head = head.cut(box)
    x, y, z = head.offsets_mm(voxel)
    place = torch.stack([x.expand(head.shape), y.expand(head.shape), z.expand(head.shape)])
    within = belonging(head, TERRITORIES[part.territory].within, 0)
    if part.kind == "metaballs":
        score = _metaballs(place, rng, radius)
    elif part.kind == "cells":
        return box, _cells(head, part, place, rng, radius, within)
    else:
        points = _walk(rng, radius) if part.kind == "walk" else _branches(rng, radius)
        score = _tubes(place, points)
    # Fluid is never dead; keeping to grey matter is a plain offset in mm here.
    return box, depth_of_score(score + 2.0 * part.grey_pull * head.grey, head, part.volume_ml, (within > 0.5).float())


def _metaballs(place: Tensor, rng: np.random.Generator, radius: float) -> Tensor:
    """Logarithm of a sum of Gaussians: balls that flow together where they come close."""
    total = torch.zeros(place.shape[1:], dtype=place.dtype, device=place.device)
    for _ in range(int(rng.integers(3, 13))):
        middle = rng.normal(0.0, 0.75 * radius, 3)
        size = radius * float(rng.uniform(0.25, 0.7))
        square = sum((place[axis] - float(middle[axis])) ** 2 for axis in range(3)) / size**2
        total = total + float(rng.uniform(0.4, 1.2)) * torch.exp(-0.5 * torch.as_tensor(square))
    return torch.log(total + 1e-4) * radius


def _walk(rng: np.random.Generator, radius: float) -> Points:
    """(n, 4): places in mm and half widths along a random walk with some memory of its direction."""
    steps = int(rng.integers(12, 40))
    place, heading = rng.normal(0.0, 0.3 * radius, 3), rng.normal(0.0, 1.0, 3)
    rows = []
    for _ in range(steps):
        rows.append((*place, radius * rng.uniform(0.15, 0.45)))
        heading = 0.6 * heading + rng.normal(0.0, 1.0, 3)
        place = place + heading / np.linalg.norm(heading) * 0.28 * radius
        place = place * 0.97  # the walk comes back to its beginning
    return np.array(rows)


def _branches(rng: np.random.Generator, radius: float) -> Points:
    """(n, 4): places and half widths along a tree of straight twigs."""
    rows = []
    ends = [(np.zeros(3), rng.normal(0.0, 1.0, 3), 0.42 * radius)]
    for _ in range(int(rng.integers(5, 10))):
        start, heading, width = ends.pop(0)
        for _ in range(2):
            way = heading / np.linalg.norm(heading) + rng.normal(0.0, 0.6, 3)
            way = way / np.linalg.norm(way)
            length = radius * rng.uniform(0.4, 0.9)
            rows += [(*(start + way * length * t), width * (1 - 0.3 * t)) for t in np.linspace(0.0, 1.0, 5)]
            ends.append((start + way * length, way, width * 0.75))
    return np.array(rows)


def _tubes(place: Tensor, points: Points) -> Tensor:
    """Depth in mm inside balls along a line: half width minus distance, the largest over all points."""
    best = torch.full(place.shape[1:], -FAR_MM, dtype=place.dtype, device=place.device)
    for x, y, z, width in points.tolist():
        away = ((place[0] - x) ** 2 + (place[1] - y) ** 2 + (place[2] - z) ** 2).sqrt()
        best = torch.maximum(best, width - away)
    return best


def _cells(
    head: Head, part: LesionPart, place: Tensor, rng: np.random.Generator, radius: float, within: Tensor
) -> Tensor:
    """Whole cells of a random partition are dead, the nearest ones first: flat faces, sharp corners, gaps."""
    seeds = rng.uniform(-1.8 * radius, 1.8 * radius, (26, 3))
    order = np.linalg.norm(seeds, axis=1) + rng.exponential(0.5 * radius, len(seeds))
    nearest = torch.full(place.shape[1:], math.inf, dtype=place.dtype, device=place.device)
    second, rank = nearest.clone(), torch.zeros_like(nearest)
    for seed, late in zip(seeds.tolist(), order.tolist(), strict=True):
        away = ((place[0] - seed[0]) ** 2 + (place[1] - seed[1]) ** 2 + (place[2] - seed[2]) ** 2).sqrt()
        closer = away < nearest
        second = torch.where(closer, nearest, torch.minimum(second, away))
        rank = torch.where(closer, away.new_tensor(late), rank)
        nearest = torch.minimum(nearest, away)
    tissue = head.tissue * (within > 0.5)
    score = -rank - 0.35 * place.square().sum(0).sqrt()
    border = level_holding(score, tissue, part.volume_ml / head.voxel_ml)
    # Inside a cell the nearest face is half the difference to the second seed away.
    face = 0.5 * (second - nearest)
    depth = torch.where(score > border, torch.minimum(face + 0.5, score - border), -torch.maximum(face, border - score))
    return torch.where(within > 0.5, depth, depth.new_tensor(-FAR_MM)).clamp(-FAR_MM, FAR_MM)
