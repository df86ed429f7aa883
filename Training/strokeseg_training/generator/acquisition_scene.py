"""What decides a scan: ranges of scanners and sequences, the scene of one scan, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from strokeseg_training.generator._draws import Range, chance, field_seed, low_rather, normal, uniform
from strokeseg_training.generator._motion import Motion, draw_motion
from strokeseg_training.generator._noise import Noise
from strokeseg_training.generator._slicing import SlicingScene
from strokeseg_training.generator.susceptibility import (
    SusceptibilityRanges,
    SusceptibilityScene,
    draw_susceptibility,
)


@dataclass(frozen=True)
class AcquisitionRanges(SusceptibilityRanges):
    """What scanners are drawn from; (low, high) unless said otherwise."""

    # Public clinical data: 2 mm in 45 %, 4.8-5 mm in 30 % of the scans; the rest 3, 4 and 6-6.5 mm.
    thickness_mm: tuple[Range, ...] = ((2.0, 2.0), (3.0, 3.0), (4.0, 4.0), (4.8, 5.0), (6.0, 6.5))
    thickness_share: tuple[float, ...] = (0.45, 0.09, 0.08, 0.30, 0.08)
    gap: Range = (0.0, 0.25)
    gap_share: float = 0.65
    stored_mm: Range = (0.9, 2.2)
    interpolated: Range = (1.1, 2.0)
    interpolated_share: float = 0.4
    acquired_mm: Range = (1.2, 2.4)
    # Stored on the working grid itself: the commonest grid of public data.
    working_grid_mm: float = 2.0
    working_grid_share: float = 0.35
    coronal_share: float = 0.02
    hamming: Range = (0.54, 1.0)
    readout_blur_mm: Range = (0.0, 0.8)
    # Of parenchyma at b = 1000, on the scanner's grid.
    snr: Range = (12.0, 80.0)
    b0_noise: Range = (0.7, 1.6)
    coils: Range = (1.0, 3.0)
    coils_share: float = 0.5
    g_factor: Range = (0.0, 0.8)
    noise_correlation: Range = (0.0, 0.5)
    ghost_share: float = 0.15
    ghost: Range = (0.01, 0.07)
    motion_share: float = 0.35
    motion_mm: Range = (0.1, 3.0)
    motion_degrees: float = 0.7
    eddy_scale: float = 0.004
    eddy_shift_mm: float = 0.25
    slice_drop_share: float = 0.06
    interleave: Range = (0.0, 0.03)
    # T1-weighted: volumes of 1-1.5 mm, sometimes thick slices in any plane.
    t1_voxel_mm: Range = (1.0, 1.5)
    t1_slices_share: float = 0.12
    t1_snr: Range = (12.0, 60.0)


@dataclass(frozen=True)
class AcquisitionScene:
    """One scan.

    Args:
        slicing: Its grid.
        noise: Its noise.
        b0_noise: Noise of the b = 0 image relative to the DWI's.
        susceptibility: None for T1-weighted images, which are not echo-planar.
        motion: Between the DWI and the b = 0 image; None: the head lay still.
        ghost: Share of the signal that appears half a field of view away, in b = 0 and DWI.
        field_of_view_mm: Along the phase axis.
        eddy_scale: Stretch of the DWI along the phase axis against the b = 0 image.
        eddy_shift_mm: Its shift.
        slice_drops: Slices of the DWI that lost signal: place in the stack 0-1, what is left.
        interleave: Relative brightness of odd against even slices.
    """

    slicing: SlicingScene
    noise: Noise
    b0_noise: float
    susceptibility: SusceptibilityScene | None
    motion: Motion | None
    ghost: tuple[float, float]
    field_of_view_mm: float
    eddy_scale: float
    eddy_shift_mm: float
    slice_drops: tuple[tuple[float, float], ...]
    interleave: float


def draw_acquisition(
    rng: np.random.Generator, ranges: AcquisitionRanges, task: Literal["dwi-adc", "t1"]
) -> AcquisitionScene:
    """Decides one scan."""
    r, diffusion = ranges, task == "dwi-adc"
    slicing = _draw_slices(rng, r) if diffusion else _draw_t1_grid(rng, r)
    drops = []
    if diffusion and chance(rng, r.slice_drop_share):
        drops = [(uniform(rng, (0.05, 0.95)), uniform(rng, (0.2, 0.85))) for _ in range(int(rng.integers(1, 4)))]
    ghosts = diffusion and chance(rng, r.ghost_share)
    ghost = uniform(rng, r.ghost) if ghosts else 0.0
    return AcquisitionScene(
        slicing=slicing,
        noise=Noise(
            snr=_geometric(rng, r.snr if diffusion else r.t1_snr),
            coils=uniform(rng, r.coils) if chance(rng, r.coils_share) else 1.0,
            g_factor=low_rather(rng, r.g_factor),
            correlation=uniform(rng, r.noise_correlation) if chance(rng, 0.5) else 0.0,
            seed=field_seed(rng),
        ),
        b0_noise=uniform(rng, r.b0_noise),
        susceptibility=draw_susceptibility(rng, r, slicing.slice_axis) if diffusion else None,
        motion=draw_motion(rng, r.motion_mm, r.motion_degrees) if diffusion and chance(rng, r.motion_share) else None,
        ghost=(ghost, ghost * uniform(rng, (0.3, 1.5))),
        field_of_view_mm=uniform(rng, (200.0, 250.0)),
        eddy_scale=normal(rng, r.eddy_scale, 1.0) if diffusion else 1.0,
        eddy_shift_mm=normal(rng, r.eddy_shift_mm) if diffusion else 0.0,
        slice_drops=tuple(drops),
        interleave=low_rather(rng, r.interleave) if diffusion else 0.0,
    )


def _draw_slices(rng: np.random.Generator, r: AcquisitionRanges) -> SlicingScene:
    shares = np.array(r.thickness_share)
    thickness = uniform(rng, r.thickness_mm[int(rng.choice(len(shares), p=shares / shares.sum()))])
    thin = thickness < 2.5
    gap = uniform(rng, r.gap) if chance(rng, r.gap_share) and not thin else 0.0
    on_grid = thin and chance(rng, r.working_grid_share / r.thickness_share[0])
    stored = r.working_grid_mm if on_grid else uniform(rng, r.stored_mm)
    acquired = stored * (uniform(rng, r.interpolated) if chance(rng, r.interpolated_share) else 1.0)
    acquired = stored if on_grid else float(np.clip(acquired, *r.acquired_mm))
    offsets = (0.0, 0.0, 0.0) if on_grid else tuple(uniform(rng, (-1.0, 1.0)) for _ in range(3))
    axis = 1 if chance(rng, r.coronal_share) else 2
    return SlicingScene(
        slice_axis=axis,
        thickness_mm=r.working_grid_mm if on_grid else thickness,
        gap=gap,
        acquired_mm=acquired,
        stored_mm=min(stored, acquired),
        offsets_mm=(offsets[0], offsets[1], offsets[2]),
        hamming=uniform(rng, r.hamming),
        blur_mm=uniform(rng, r.readout_blur_mm),
        volume=False,
    )


def _draw_t1_grid(rng: np.random.Generator, r: AcquisitionRanges) -> SlicingScene:
    volume = not chance(rng, r.t1_slices_share)
    voxel = uniform(rng, r.t1_voxel_mm)
    thickness = uniform(rng, r.t1_voxel_mm) if volume else uniform(rng, (3.0, 6.0))
    a, b, c = (uniform(rng, (-0.7, 0.7)) for _ in range(3))
    return SlicingScene(
        slice_axis=int(rng.choice(3, p=(0.3, 0.1, 0.6))),
        thickness_mm=thickness,
        gap=0.0 if volume else uniform(rng, r.gap),
        acquired_mm=voxel,
        stored_mm=voxel,
        offsets_mm=(a, b, c),
        hamming=uniform(rng, r.hamming),
        blur_mm=uniform(rng, (0.0, 0.6)),
        volume=volume,
    )


def _geometric(rng: np.random.Generator, low_high: Range) -> float:
    """Equally likely in its logarithm."""
    return float(np.exp(uniform(rng, (float(np.log(low_high[0])), float(np.log(low_high[1]))))))
