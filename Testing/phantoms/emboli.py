"""SIMULATED shower of small emboli on thick slices, and what the model grid and the way back leave of it.

Nothing here is a scan. The 31 infarcts of 0.02 to 0.3 ml stand for the many-component cases of ISLES'22; their places,
sizes and shapes come from a seed. What is measured depends on geometry alone, on no model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.predict.native import LARGEST_LOGIT
from strokeseg.prepare.grid import ModelGrid
from strokeseg.volume import Grid

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

COUNT = 31
SMALLEST_ML, LARGEST_ML = 0.02, 0.3
IN_PLANE_MM = 1.2
MODEL_MM = 2.0
SLICES_MM = (5.0, 6.5)
SEEDS = (0, 1, 2)
WAYS = ("mask", "share of voxel", "logits")
"""What goes through the grid: a binary mask, as labels do; the share of each voxel that is infarct, as a sharp image
would show it; the logits that a perfect model would give on the model grid, cut where `predict` cuts them."""

_REGION_MM = 58.0
_APART_MM = 14.0
_TURN_DEGREES = 8.0
_NEIGHBOURS = np.ones((3, 3, 3), dtype=int)


@dataclass(frozen=True)
class Shower:
    """The emboli: centres (n, 3) in RAS mm and half axes (n, 3) in mm."""

    centres_mm: Float
    radii_mm: Float

    @property
    def volume_ml(self) -> float:
        """Volume of all ellipsoids together."""
        return float((4 / 3 * np.pi * self.radii_mm.prod(axis=1)).sum() / 1000)


@dataclass(frozen=True)
class Loss:
    """What one shower lost on one grid.

    Attributes:
        slice_mm: Distance of the slices.
        way: One of `WAYS`.
        true_ml: Volume of the ellipsoids.
        before_ml: Volume of the mask on the thick slices: voxels that are at least half infarct.
        after_ml: The same after the model grid and the way back.
        before: Components of the mask on the thick slices, 26 neighbours.
        kept: How many of them still hold a voxel.
    """

    slice_mm: float
    way: str
    true_ml: float
    before_ml: float
    after_ml: float
    before: int
    kept: int

    @property
    def volume_kept(self) -> float:
        """Volume after over volume before."""
        return self.after_ml / self.before_ml


def shower(seed: int) -> Shower:
    """31 ellipsoids in a ball, none closer to another than 14 mm, volumes uniform on a logarithmic scale."""
    rng = np.random.default_rng(seed)
    centres: list[Float] = []
    while len(centres) < COUNT:
        candidate = rng.uniform(-_REGION_MM, _REGION_MM, 3)
        apart = all(float(np.linalg.norm(candidate - c)) > _APART_MM for c in centres)
        if apart and float(np.linalg.norm(candidate)) < _REGION_MM:
            centres.append(candidate)
    volumes_ml = np.exp(rng.uniform(np.log(SMALLEST_ML), np.log(LARGEST_ML), COUNT))
    shapes = np.exp(rng.uniform(-0.25, 0.25, (COUNT, 3)))
    shapes /= np.cbrt(shapes.prod(axis=1, keepdims=True))
    return Shower(np.array(centres), shapes * np.cbrt(volumes_ml * 1000 * 3 / (4 * np.pi))[:, None])


def thick_grid(slice_mm: float) -> Grid:
    """An oblique grid around the world's origin that holds the region of the shower with a margin."""
    c, s = np.cos(np.deg2rad(_TURN_DEGREES)), np.sin(np.deg2rad(_TURN_DEGREES))
    directions = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    spacing = np.array([IN_PLANE_MM, IN_PLANE_MM, slice_mm])
    shape = np.ceil(2 * (_REGION_MM + 16) / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def share_of_voxels(emboli: Shower, grid: Grid, points: tuple[int, int, int] = (4, 4, 12)) -> Float:
    """Share of each voxel (x, y, z) that lies in an embolus, counted at `points` positions along each axis."""
    share = np.zeros(grid.shape)
    within = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in points), indexing="ij"), -1).reshape(-1, 3)
    for centre, radii in zip(emboli.centres_mm, emboli.radii_mm, strict=True):
        reach = radii.max() / np.asarray(grid.spacing_mm) + 1
        middle = grid.to_voxel(centre)
        first, last = np.floor(middle - reach).astype(int), np.ceil(middle + reach).astype(int)
        box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
        index = np.moveaxis(np.mgrid[box], 0, -1)[..., None, :] + within
        inside = (((grid.to_world(index) - centre) / radii) ** 2).sum(axis=-1) <= 1
        share[box] += inside.mean(axis=-1)
    return share


def measure(seed: int, slice_mm: float) -> list[Loss]:
    """Send a shower on thick slices through the model grid and back, once in each of `WAYS`."""
    emboli, native = shower(seed), thick_grid(slice_mm)
    share = share_of_voxels(emboli, native)
    before = share >= 0.5
    around = np.ones(native.shape, dtype=bool)
    model = ModelGrid.around(around, native, spacing_mm=(MODEL_MM,) * 3)
    labels, count = ndimage.label(before, _NEIGHBOURS)
    losses = []
    for way in WAYS:
        after = _through(model, share, before, way)
        kept = np.unique(labels[after & before]).size
        before_ml, after_ml = float(before.sum()) * native.voxel_ml, float(after.sum()) * native.voxel_ml
        losses.append(Loss(slice_mm, way, emboli.volume_ml, before_ml, after_ml, int(count), int(kept)))
    return losses


def table(losses: Iterable[Loss]) -> str:
    """The figures as text, one line each, headed."""
    head = "slice mm | what is sent    | true ml | on slices ml | after ml | volume kept | components on slices | kept"
    lines = [
        f"{x.slice_mm:8.1f} | {x.way:<15} | {x.true_ml:7.2f} | {x.before_ml:12.2f} | {x.after_ml:8.2f} | "
        f"{x.volume_kept:11.1%} | {x.before:11d} of {COUNT:<2d}     | {x.kept:4d}"
        for x in losses
    ]
    return "\n".join([head, "-" * len(head), *lines])


def _through(model: ModelGrid, share: Float, mask: Mask, way: str) -> Mask:
    if way == "mask":
        return np.asarray(model.back(model.forward(mask), outside=0.0) >= 0.5)
    if way == "share of voxel":
        return np.asarray(model.back(model.forward(share), outside=0.0) >= 0.5)
    lowest = 1 / (1 + np.exp(LARGEST_LOGIT))
    probability = np.clip(model.forward(share).astype(np.float64), lowest, 1 - lowest)
    logits = np.log(probability / (1 - probability))
    return np.asarray(model.back(logits, outside=-LARGEST_LOGIT) >= 0.0)
