"""What decides the signals of one head: ranges of tissue and sequences, the scene, and how it is drawn.

Diffusivities are in 1e-3 mm²/s, times in ms, b in 1e3 s/mm².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokeseg_training.generator._draws import Range, Triple, chance, field_seed, low_rather, normal, uniform
from strokeseg_training.generator._spots import CORTEX, TRACTS, Spot, draw_spots
from strokeseg_training.generator._surroundings import Coil, Surroundings
from strokeseg_training.generator._t1_contrast import T1Sequence, draw_t1_sequence


@dataclass(frozen=True)
class PhysicsRanges:
    """What the physics is drawn from; (low, high) unless said otherwise."""

    # Clinical practice; half of all scans have exactly 1.
    b_value: Range = (0.8, 1.2)
    usual_b_share: float = 0.6
    te_ms: Range = (60.0, 110.0)
    tr_ms: Range = (4000.0, 12000.0)
    three_tesla_share: float = 0.5
    # Helenius 2002: cortex 0.89 ± 0.04, deep grey 0.75 ± 0.03, white 0.70 ± 0.03, rising with age; water at 37 °C.
    # The lower ends go further: whole brains of the young have 0.72 on some scanners.
    d_grey: Range = (0.60, 0.92)
    d_white: Range = (0.52, 0.80)
    d_csf: Range = (2.7, 3.4)
    deep_grey_d: Range = (0.80, 0.95)
    # QIMS 2020; iron shortens T2 in the deep grey.
    t2_grey_ms: Range = (80.0, 110.0)
    t2_white_ms: Range = (60.0, 85.0)
    t2_csf_ms: Range = (500.0, 2000.0)
    deep_grey_signal: Range = (0.80, 1.0)
    pd_grey: Range = (0.78, 0.86)
    pd_white: Range = (0.66, 0.74)
    # Estimates: log-normal texture at two scales.
    texture_fine: Range = (0.02, 0.06)
    texture_fine_mm: Range = (6.0, 16.0)
    texture_wide: Range = (0.01, 0.05)
    texture_wide_mm: Range = (20.0, 50.0)
    # Hind-brain over cerebrum on the trace image: 1.24-1.31 in two real scans, its ADC 0.90-0.95 times the cerebrum's.
    cerebellum_dwi: Range = (1.03, 1.55)
    stem_dwi: Range = (0.75, 1.4)
    stem_d: Range = (0.9, 1.06)
    hindbrain_d: Range = (0.82, 1.02)
    hindbrain_asymmetry: float = 0.04
    # Bright healthy cortex: DWI 1.4-1.7 times the brain's median at ADC 0.70-0.83.
    cortex_signal: Range = (1.0, 1.65)
    cortex_d: Range = (0.76, 1.02)
    spot_jitter_mm: float = 4.0
    spot_asymmetry: float = 0.10
    # Trace images keep 10-35 % of contrast in tracts at a normal ADC.
    tract_signal: Range = (1.05, 1.35)
    tract_d: Range = (0.92, 1.04)
    # Elsewhere in white matter; part of it is T2, the rest changes the ADC.
    white_contrast: Range = (0.0, 0.22)
    white_contrast_mm: Range = (8.0, 20.0)
    white_t2_share: Range = (0.4, 1.0)
    # One direction instead of a trace: rare; factor e^(±) on the diffusivity of white matter.
    single_direction_share: float = 0.03
    single_direction: Range = (0.25, 0.55)
    # Receive field: standard deviation 0.05-0.3 of the logarithm in all.
    coil_tilt: Range = (0.0, 0.28)
    coil_radial: Range = (-0.25, 0.35)
    coil_waves: Range = (0.01, 0.08)
    # Outside the brain.
    outside_level: Range = (0.1, 0.8)
    outside_t1_level: Range = (0.5, 1.6)
    outside_d: Range = (0.7, 1.8)
    outside_patchiness: Range = (0.2, 0.7)
    skull_mm: Range = (4.0, 9.0)
    scalp_mm: Range = (4.0, 12.0)
    eyes: Range = (0.3, 1.1)
    # T1-weighted: shares of inversion recovery, spoiled gradient echo and (the rest) spin echo.
    t1_inversion_share: float = 0.75
    t1_spoiled_share: float = 0.15
    t1_texture: Range = (0.01, 0.035)


@dataclass(frozen=True)
class Texture:
    """Log-normal variation of tissue: one scale, alike for S0 and D but independent."""

    sd_signal: float
    sd_d: float
    fwhm_mm: float
    seed: int


@dataclass(frozen=True)
class PhysicsScene:
    """The physics of one patient; triples are (grey, white, fluid), units as in the file's first lines."""

    b_value: float
    te_ms: float
    tr_ms: float
    t1_ms: Triple
    t2_ms: Triple
    proton_density: Triple
    diffusivity: Triple
    deep_grey_signal: float
    deep_grey_d: float
    fine_texture: Texture
    wide_texture: Texture
    cerebellum_dwi: float
    cerebellum_d: float
    stem_dwi: float
    stem_d: float
    hindbrain_asymmetry: float
    spots: tuple[Spot, ...]
    tracts: tuple[Spot, ...]
    white_contrast: float
    white_contrast_mm: float
    white_t2_share: float
    white_seed: int
    single_direction: float
    coil: Coil
    surroundings: Surroundings
    t1: T1Sequence


def draw_physics(rng: np.random.Generator, ranges: PhysicsRanges) -> PhysicsScene:
    """Decides the physics of one patient."""
    r = ranges
    three_tesla = chance(rng, r.three_tesla_share)
    hind_d = uniform(rng, r.hindbrain_d)
    hind_dwi = rng.uniform()
    return PhysicsScene(
        b_value=1.0 if chance(rng, r.usual_b_share) else uniform(rng, r.b_value),
        te_ms=uniform(rng, r.te_ms),
        tr_ms=uniform(rng, r.tr_ms),
        t1_ms=(1820.0, 1080.0, 4000.0) if three_tesla else (1120.0, 880.0, 4000.0),
        t2_ms=(uniform(rng, r.t2_grey_ms), uniform(rng, r.t2_white_ms), uniform(rng, r.t2_csf_ms)),
        proton_density=(uniform(rng, r.pd_grey), uniform(rng, r.pd_white), 1.0),
        diffusivity=(uniform(rng, r.d_grey), uniform(rng, r.d_white), uniform(rng, r.d_csf)),
        deep_grey_signal=uniform(rng, r.deep_grey_signal),
        deep_grey_d=uniform(rng, r.deep_grey_d),
        fine_texture=_draw_texture(rng, r.texture_fine, r.texture_fine_mm),
        wide_texture=_draw_texture(rng, r.texture_wide, r.texture_wide_mm),
        cerebellum_dwi=_share_of(r.cerebellum_dwi, 0.75 * hind_dwi + 0.25 * rng.uniform()),
        cerebellum_d=float(np.clip(hind_d + normal(rng, 0.02), *r.hindbrain_d)),
        stem_dwi=_share_of(r.stem_dwi, 0.75 * hind_dwi + 0.25 * rng.uniform()),
        stem_d=uniform(rng, r.stem_d),
        hindbrain_asymmetry=normal(rng, r.hindbrain_asymmetry),
        spots=draw_spots(rng, CORTEX, r.cortex_signal, r.cortex_d, r.spot_jitter_mm, r.spot_asymmetry),
        tracts=draw_spots(rng, TRACTS, r.tract_signal, r.tract_d, 0.5 * r.spot_jitter_mm, 0.5 * r.spot_asymmetry),
        white_contrast=uniform(rng, r.white_contrast),
        white_contrast_mm=uniform(rng, r.white_contrast_mm),
        white_t2_share=uniform(rng, r.white_t2_share),
        white_seed=field_seed(rng),
        single_direction=uniform(rng, r.single_direction) if chance(rng, r.single_direction_share) else 0.0,
        coil=_draw_coil(rng, r),
        surroundings=_draw_surroundings(rng, r),
        t1=draw_t1_sequence(rng, r.t1_inversion_share, r.t1_spoiled_share, uniform(rng, r.t1_texture)),
    )


def _draw_texture(rng: np.random.Generator, sd: Range, fwhm_mm: Range) -> Texture:
    return Texture(uniform(rng, sd), uniform(rng, sd), uniform(rng, fwhm_mm), field_seed(rng))


def _draw_coil(rng: np.random.Generator, r: PhysicsRanges) -> Coil:
    towards = rng.normal(size=3) * (0.4, 1.0, 1.0)
    x, y, z = (float(v) for v in towards / max(float(np.linalg.norm(towards)), 1e-6))
    return Coil(
        (x, y, z),
        uniform(rng, r.coil_tilt),
        uniform(rng, r.coil_radial),
        uniform(rng, r.coil_waves),
        field_seed(rng),
    )


def _draw_surroundings(rng: np.random.Generator, r: PhysicsRanges) -> Surroundings:
    return Surroundings(
        level=low_rather(rng, r.outside_level),
        skull_mm=uniform(rng, r.skull_mm),
        scalp_mm=uniform(rng, r.scalp_mm),
        diffusivity=uniform(rng, r.outside_d),
        patchiness=uniform(rng, r.outside_patchiness),
        t1_level=uniform(rng, r.outside_t1_level),
        eyes=uniform(rng, r.eyes),
        seed=field_seed(rng),
    )


def _share_of(low_high: Range, share: float) -> float:
    return low_high[0] + (low_high[1] - low_high[0]) * float(share)
