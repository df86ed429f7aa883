"""A SIMULATED stripped brain given by formula, to be sampled on any grid and after any movement of the head.

Nothing here is a scan. Tissue fractions are smooth functions of the world position and the same on both sides; DWI and
ADC obey Sb = S0 exp(-b D) in every voxel, so that without noise every number is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from strokeseg.case import Case
from strokeseg.volume import Grid, Volume

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]
Point = tuple[float, float, float]

B_VALUE = 1000.0
RADII_MM = (66.0, 82.0, 58.0)
# White, grey, fluid: ADC in 1e-3 mm²/s (Helenius 2002, free water), b = 0 signal relative to white matter.
_ADC = (0.72, 0.86, 2.9)
_B0 = (1.0, 1.25, 2.6)


@dataclass(frozen=True)
class Infarct:
    """A ball of tissue with `adc` times the diffusivity and `b0` times the b = 0 signal, with an edge of about 2 mm."""

    centre_mm: Point
    radius_mm: float
    adc: float = 0.5
    b0: float = 1.2


@dataclass(frozen=True, eq=False)
class Patient:
    """Images (x, y, z) of one sampling of the brain; ADC in 1e-3 mm²/s, 0 outside the brain."""

    grid: Grid
    dwi: Array
    b0: Array
    adc: Array
    brain: NDArray[np.bool_]

    def volume(self, role: str, **more: object) -> Volume:
        """One image as a volume."""
        return Volume(getattr(self, role), self.grid.affine, **more)  # type: ignore[arg-type]  # tests hand in any field

    def case(self, *roles: str) -> Case:
        """The named images as a case, DWI and ADC when none is named."""
        return Case({r: self.volume(r) for r in roles or ("dwi", "adc")})


def centred(shape: tuple[int, int, int], spacing_mm: Point, directions: Matrix | None = None) -> Grid:
    """A grid around the world's origin; `directions`: 3x3, its columns the axes."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if directions is None else directions) * np.asarray(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape, affine)


def rigid(degrees: Point = (0.0, 0.0, 0.0), shift_mm: Point = (0.0, 0.0, 0.0)) -> Matrix:
    """4x4 in RAS: turns about R, A and S, then a shift."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(4)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    matrix[:3, 3] = shift_mm
    return matrix


COARSE = centred((40, 48, 36), (4.0, 4.0, 4.0))


def patient(
    grid: Grid = COARSE,
    infarcts: Sequence[Infarct] = (),
    *,
    noise: float = 0.0,
    seed: int = 0,
    moved_by: Matrix | None = None,
) -> Patient:
    """The brain on a grid.

    Args:
        grid: Where the voxels lie.
        infarcts: What is wrong with the brain.
        noise: Standard deviation of the Rician noise in b = 0 image and DWI, relative to white matter's b = 0 signal.
        seed: Of the noise.
        moved_by: 4x4 in RAS, a movement of the head before this scan.
    """
    world = grid.to_world(np.stack(np.meshgrid(*(np.arange(s) for s in grid.shape), indexing="ij"), axis=-1))
    if moved_by is not None:
        back = np.linalg.inv(moved_by)
        world = world @ back[:3, :3].T + back[:3, 3]
    x, y, z = np.moveaxis(world, -1, 0)
    x_side = np.abs(x)
    radius = np.sqrt(sum((v / r) ** 2 for v, r in zip((x, y, z), RADII_MM, strict=True)))
    brain = radius < 1
    horns = np.sqrt(((x_side - 12) / 9) ** 2 + (y / 34) ** 2 + ((z - 8) / 13) ** 2)
    folds = np.sin(x_side / 6 + np.sin(y / 9)) * np.sin(y / 6 + np.sin(z / 8)) * np.sin(z / 6 + 1)
    fluid = np.maximum(_step((1 - horns) * 4), _step((folds - 0.4) * 6) * _step((radius - 0.8) * 25))
    grey = _step((radius - 0.84) * 25) * (1 - fluid)
    white = 1 - grey - fluid
    texture = 0.04 * np.sin(x_side / 9 + 1) * np.sin(y / 11 + 2) * np.sin(z / 8)
    adc = (_ADC[0] * white + _ADC[1] * grey + _ADC[2] * fluid) * (1 + texture)
    b0 = (_B0[0] * white + _B0[1] * grey + _B0[2] * fluid) * (1 - texture)
    for infarct in infarcts:
        share = _step(infarct.radius_mm - np.linalg.norm(world - infarct.centre_mm, axis=-1)) * (1 - fluid)
        adc *= 1 + (infarct.adc - 1) * share
        b0 *= 1 + (infarct.b0 - 1) * share
    dwi = b0 * np.exp(-B_VALUE / 1000 * adc)
    if noise > 0:
        rng = np.random.default_rng(seed)
        b0, dwi = (
            np.hypot(v + noise * rng.standard_normal(v.shape), noise * rng.standard_normal(v.shape)) for v in (b0, dwi)
        )
        adc = np.clip(np.log(b0 / dwi) * 1000 / B_VALUE, 0, 4)
    b0, dwi, adc = (np.where(brain, v, 0).astype(np.float32) for v in (800 * b0, 800 * dwi, adc))
    return Patient(grid, dwi, b0, adc, brain)


def orientations() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The 48 ways to store a volume: order and signs of its axes."""
    return [(o, s) for o in permutations(range(3)) for s in product((1, -1), repeat=3)]


def stored(volume: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same volume with its axes in another order and direction; no voxel moves in the world."""
    array = volume.array.transpose(order)[tuple(slice(None, None, s) for s in signs)]
    affine = np.eye(4)
    affine[:3, :3] = volume.affine[:3, order] * signs
    first = np.zeros(3)
    for new, old in enumerate(order):
        first[old] = 0 if signs[new] > 0 else volume.array.shape[old] - 1
    affine[:3, 3] = volume.grid.to_world(first)
    return Volume(np.ascontiguousarray(array), affine)


def _step(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth step from 0 to 1 around 0."""
    return 1 / (1 + np.exp(-2 * np.clip(t, -30, 30)))
