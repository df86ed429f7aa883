"""Where voxels go: flips, rotation, scale and a smooth field, drawn as numbers and applied as one transform."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from strokeseg.errors import InputError
from strokeseg_training.augment.computed import MASKS
from strokeseg_training.augment.example import Example
from strokeseg_training.generator.fields import FWHM_TO_SIGMA, centred_mm, smooth_field
from strokeseg_training.recipe_augment import Augmentation

_AXES = "xyz"
# Evenly drawn numbers from -1 to 1 have the standard deviation 1 / sqrt(3); a Gaussian blur in the plane divides it by
# 2 sqrt(pi) sigma.
_BLURRED = 1.0 / (math.sqrt(3.0) * 2.0 * math.sqrt(math.pi))


@dataclass(frozen=True)
class Bend:
    """A smooth field: its random numbers' seed, width and typical displacement in pixels."""

    seed: int
    sigma: float
    displacement: float


@dataclass(frozen=True)
class Move:
    """What was drawn.

    Args:
        flipped: Axes 0, 1, 2 that are turned around.
        turns: Axis and degrees, in order.
        factor: Above 1: larger.
        bend: None: none.
    """

    flipped: tuple[int, ...] = ()
    turns: tuple[tuple[int, float], ...] = ()
    factor: float = 1.0
    bend: Bend | None = None

    @property
    def on_the_grid(self) -> bool:
        """Voxels fall onto voxels."""
        return not self.turns and self.factor == 1.0 and self.bend is None

    @property
    def matrix(self) -> NDArray[np.float64]:
        """3x3, in mm about the grid's middle: flips, then turns, then scale."""
        matrix = np.diag([-1.0 if axis in self.flipped else 1.0 for axis in range(3)])
        for axis, degrees in self.turns:
            matrix = _turn(axis, degrees) @ matrix
        return self.factor * matrix


def draw_move(settings: Augmentation, streams: Mapping[str, np.random.Generator]) -> Move:
    """Draw a transform; what comes out as no change is none.

    Args:
        settings: Of the recipe.
        streams: Random numbers of ``flips``, ``rotation``, ``scale`` and ``elastic``.
    """
    flips = settings.flips
    tosses = streams["flips"].random(3)
    flipped = tuple(axis for axis, p in enumerate((flips.x, flips.y, flips.z)) if tosses[axis] < p)
    turns: tuple[tuple[int, float], ...] = ()
    if (rotation := settings.rotation) and streams["rotation"].random() < rotation.p:
        drawn = [(_AXES.index(a), float(streams["rotation"].uniform(*rotation.degrees))) for a in rotation.about]
        turns = tuple((axis, degrees) for axis, degrees in drawn if degrees)
    factor = 1.0
    if (scale := settings.scale) and streams["scale"].random() < scale.p:
        factor = float(streams["scale"].uniform(*scale.factor))
    bend = None
    if (elastic := settings.elastic) and streams["elastic"].random() < elastic.p:
        rng = streams["elastic"]
        sigma, alpha, seed = float(rng.uniform(*elastic.sigma)), float(rng.uniform(*elastic.alpha)), rng.integers(2**62)
        bend = Bend(int(seed), sigma, alpha * _BLURRED / sigma) if alpha else None
    return Move(flipped, turns, factor, bend)


def apply_move(
    example: Example, move: Move, *, labels: Literal["linear", "nearest"], outside: Literal["zero", "edge"]
) -> Example:
    """The example after the transform.

    Args:
        example: Not damaged.
        move: Drawn for it.
        labels: How classes are interpolated.
        outside: What images are beyond their grid.

    Raises:
        InputError: A slice would be turned out of its plane.
    """
    _refuse_leaving_the_plane(example, move)
    plane = _moved_plane(example.midplane, move)
    if move.on_the_grid:
        if not move.flipped:
            return example
        along = [axis - 3 for axis in move.flipped]
        maps = {name: values.flip(along) for name, values in example.maps.items()}
        return replace(example, images=example.images.flip(along), maps=maps, midplane=plane)
    grid = _looked_at(example, move)
    images = _sampled(example.images, grid, "border" if outside == "edge" else "zeros")
    for k, name in enumerate(example.channels):
        if name in MASKS:
            images[k] = (images[k] >= 0.5).to(images.dtype)
    maps = {name: _moved_map(values, grid, labels) for name, values in example.maps.items()}
    return replace(example, images=images, maps=maps, midplane=plane)


def _looked_at(example: Example, move: Move) -> Tensor:
    """(1, x, y, z, 3): for each voxel of the result, where `grid_sample` looks in the example."""
    shape, spacing, device = example.shape, example.spacing_mm, example.images.device
    place = centred_mm(shape, spacing, device)
    if move.bend is not None:
        pixel = min(s for s, n in zip(spacing, shape, strict=True) if n > 1)
        width = move.bend.sigma * pixel / FWHM_TO_SIGMA
        field = smooth_field([move.bend.seed], [width], shape, spacing, torch.device("cpu"), channels=3)[0]
        place = place + field.to(device) * (move.bend.displacement * pixel)
    back = torch.from_numpy(np.linalg.inv(move.matrix)).to(place)
    place = torch.einsum("ij,jxyz->ixyz", back, place)
    half = torch.tensor([(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)], device=device)
    # Across a slice there is nowhere else to look.
    place = place / half.clamp_min(1e-6).view(3, 1, 1, 1) * (half > 0).view(3, 1, 1, 1)
    return place.flip(0).movedim(0, -1)[None]


def _moved_map(values: Tensor, grid: Tensor, labels: Literal["linear", "nearest"]) -> Tensor:
    if values.is_floating_point():
        # Interpolation rounds: a fraction must not come out above 1, where entropies have no value.
        low, high = torch.aminmax(values)
        return _sampled(values[None], grid, "zeros")[0].clamp(low.clamp_max(0.0), high.clamp_min(0.0))
    if labels == "nearest":
        return _sampled(values[None].double(), grid.double(), "zeros", "nearest")[0].to(values.dtype)
    # One class after the other: of many, all shares at once would not fit into memory.
    classes = [int(v) for v in torch.unique(values) if v]
    result = torch.zeros_like(values)
    rest = torch.ones(values.shape, device=values.device)
    best = torch.zeros(values.shape, device=values.device)
    for value in classes:
        share = _sampled((values == value).float()[None], grid, "zeros")[0]
        rest -= share
        larger = share >= best
        result = torch.where(larger & (share > 0), torch.full_like(values, value), result)
        best = torch.maximum(best, share)
    return torch.where(best >= rest, result, torch.zeros_like(values))


def _sampled(volume: Tensor, grid: Tensor, padding: str, mode: str = "bilinear") -> Tensor:
    """(C, x, y, z) at the places of the grid."""
    return functional.grid_sample(volume[None], grid, mode=mode, padding_mode=padding, align_corners=True)[0]


def _moved_plane(plane: Tensor | None, move: Move) -> Tensor | None:
    """The midplane after flips, turns and scale; its normal still points to the right."""
    if plane is None:
        return None
    rigid = torch.from_numpy(move.matrix / move.factor).to(plane)
    normal, offset = rigid @ plane[:3], plane[3] * move.factor
    sign = torch.where(normal[0] < 0, -1.0, 1.0).to(plane)
    return torch.cat([sign * normal, (sign * offset)[None]])


def _turn(axis: int, degrees: float) -> NDArray[np.float64]:
    """Rotation about an axis; from the first of the other two axes towards the second."""
    first, second = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    # By degrees: a quarter turn shall be one to the last digit.
    c, s = _cos(degrees), _cos(degrees - 90.0)
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def _cos(degrees: float) -> float:
    return {0.0: 1.0, 90.0: 0.0, 180.0: -1.0, 270.0: 0.0}.get(degrees % 360.0, math.cos(math.radians(degrees)))


def _refuse_leaving_the_plane(example: Example, move: Move) -> None:
    thin = [axis for axis, n in enumerate(example.shape) if n == 1]
    for axis, _ in move.turns:
        if thin and axis not in thin:
            raise InputError(
                f"The slice '{example.name}' cannot be turned about the axis '{_AXES[axis]}'.",
                f"It has the shape {example.shape}: turned so, it would leave its plane.",
                "Set 'rotation.about' to " + ", ".join(f"'{_AXES[a]}'" for a in thin) + ".",
            )
