"""From a voxel of the patient to its place in the template: pose, size, deformation, growing ventricles."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator.anatomy_scene import AnatomyScene
from strokeseg_training.generator.template import Maps, Template
from strokeseg_training.generator.warp import HALF_EXTENT_MM, axes_mm, flow, lattice_nodes, noise, spline

BEND_STEP_MM = 8.0
PLACE_STEP_MM = 4.0
PUSH_STEPS = 4
# Beyond this the push has faded to a hundredth.
PUSH_RADII_MM = (66.0, 82.0, 60.0)
# The middle of the template's brain, about which it is turned and scaled.
TEMPLATE_MIDDLE_MM = (0.0, -17.0, 5.0)


def template_places(
    scene: AnatomyScene, template: Template, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Template mm of every voxel.

    Returns:
        (3, x, y, z) for the grid; (3, nodes) for a lattice of `PLACE_STEP_MM` that covers it; and the grid's three axes
        in the lattice's mm.
    """
    device = template.surfaces.values.device
    bend = flow(_velocity(scene, device), BEND_STEP_MM)
    matrix = _matrix(scene, device)
    middle = _middle(bend, matrix, template)
    shift = torch.tensor(scene.shift_mm, device=device)
    grid = axes_mm(shape, spacing_mm, device)
    reach = [math.ceil((float(a[-1]) + 1e-3) / PLACE_STEP_MM) + 2 for a in grid]
    nodes = axes_mm([2 * r + 1 for r in reach], [PLACE_STEP_MM] * 3, device)
    around = [n + m for n, m in zip(nodes, (middle - shift).tolist(), strict=True)]
    place = _affine(matrix, _stand(around) + spline(bend[None], BEND_STEP_MM, around)[0])
    place = _make_room(scene, place, template.push)
    return spline(place[None], PLACE_STEP_MM, grid)[0], place, grid


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """3x3 rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float64)


def _matrix(scene: AnatomyScene, device: torch.device) -> Tensor:
    """3x3 from the patient's mm to the template's."""
    scale = np.diag(1.0 / (scene.size * np.asarray(scene.axes)))
    return torch.from_numpy(scale @ rotation(scene.rotation_deg).T).float().to(device)


def _affine(matrix: Tensor, place: Tensor) -> Tensor:
    middle = torch.tensor(TEMPLATE_MIDDLE_MM, device=place.device).view(3, 1, 1, 1)
    return torch.einsum("ij,jxyz->ixyz", matrix, place) + middle


def _stand(axes: list[Tensor]) -> Tensor:
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _velocity(scene: AnatomyScene, device: torch.device) -> Tensor:
    """(3, nodes): the three deformations and the torque of the hemispheres together."""
    axes = axes_mm(lattice_nodes(BEND_STEP_MM), [BEND_STEP_MM] * 3, device)
    total = torch.zeros(3, *(len(a) for a in axes), device=device)
    x, y, z = axes[0].view(-1, 1, 1), axes[1].view(1, -1, 1), axes[2].view(1, 1, -1)
    # Single gyri differ, the deep nuclei and the stem hardly do; the falx is stretched tight.
    depth = (x / 50) ** 2 + (y / 65) ** 2 + (z / 50) ** 2
    outer = depth / (0.25 + depth)
    for part, (size, wave, seed) in enumerate(zip(scene.bend_mm, scene.bend_wave_mm, scene.seeds[:3], strict=True)):
        field = noise(seed, wave, axes, 3)
        if part > 0:
            field = field * outer
            field[0] *= 1 - torch.exp(-((x / 12) ** 2)) * 0.8
        # Most of a field reaches half of its largest displacement nowhere: the largest is what a reader understands.
        total += field * (size / field.norm(dim=0).max())
    # Torque: the right hemisphere lies farther in front than the left, and the fissure between them is bent along.
    total[1] -= 0.5 * scene.petalia_mm * torch.tanh(x / 20)
    total[0] += 0.3 * scene.petalia_mm * torch.tanh(y / 40) * torch.exp(-((x / 35) ** 2))
    return total


def _middle(bend: Tensor, matrix: Tensor, template: Template) -> Tensor:
    """The middle of the brain's box in the lattice's mm, to a fraction of a lattice step."""
    axes = axes_mm(bend.shape[1:], [BEND_STEP_MM] * 3, bend.device)
    place = _affine(matrix, _stand(axes) + bend)
    depth = template.surfaces.at(place.flatten(1))[:, 0].view(place.shape[1:])
    middle = []
    for axis, nodes in enumerate(axes):
        profile = depth.amax([a for a in range(3) if a != axis])
        middle.append(0.5 * (_crossing(profile, nodes) + _crossing(profile.flip(0), nodes.flip(0))))
    limits = torch.tensor(HALF_EXTENT_MM, device=bend.device) / 2
    return torch.stack(middle).clamp(-limits, limits)


def _crossing(profile: Tensor, places: Tensor) -> Tensor:
    """Where a profile first rises above 0."""
    first = int((profile > 0).float().argmax())
    before = max(first - 1, 0)
    low, high = profile[before], profile[first]
    return places[before] + (places[first] - places[before]) * (-low / (high - low).clamp_min(1e-3)).clamp(0, 1)


def _make_room(scene: AnatomyScene, place: Tensor, push: Maps) -> Tensor:
    """Growing ventricles push the tissue away: points beside them are fetched from nearer to their walls.

    Done in steps, each too small to fold the tissue.
    """
    if scene.ventricle_push_mm <= 0:
        return place
    points = place.flatten(1).clone()
    near = torch.nonzero(around_brain(points, PUSH_RADII_MM))[:, 0]
    moved = points[:, near]
    for _ in range(PUSH_STEPS):
        side = 1 + scene.lopsided * torch.tanh(moved[:1] / 12)
        moved = moved - push.at(moved).T * (scene.ventricle_push_mm / scene.size / PUSH_STEPS) * side
    points[:, near] = moved
    return points.view_as(place)


def around_brain(points: Tensor, radii_mm: tuple[float, float, float]) -> Tensor:
    """Which of (3, P) template places lie in an ellipsoid around the brain's middle."""
    parts = zip(points, TEMPLATE_MIDDLE_MM, radii_mm, strict=True)
    return torch.stack([((p - m) / r) ** 2 for p, m, r in parts]).sum(0) < 1
