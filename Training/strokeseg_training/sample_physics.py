"""What a 3 T scanner makes of the synthetic patient: signal of each tissue, artefacts, slices and noise.

Diffusivities are in 1e-3 mm²/s, times in ms, b in 1e3 s/mm². Sources: diffusivities Helenius 2002 (AJNR 23:194), fluid
as free water at 37 °C; relaxation times and proton densities: usual values at 3 T.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.volume.grid import Grid
from strokeseg_training.sample_anatomy import Anatomy, Field, logistic, smooth_field

B_VALUE = 1.0
TE_MS = 82.0
TR_MS = 6200.0
# Grey matter, white matter, fluid.
T1_MS = (1820.0, 1080.0, 4000.0)
T2_MS = (96.0, 74.0, 1500.0)
PROTON_DENSITY = (0.82, 0.71, 1.0)
DIFFUSIVITY = (0.86, 0.71, 3.05)
# Contrast of an MPRAGE, relative to white matter.
T1_CONTRAST = (0.70, 1.0, 0.22)


@dataclass(frozen=True, eq=False)
class TissueChange:
    """How disease alters grey and white matter, (x, y, z) factors that are 1 in health.

    Args:
        diffusivity: Factor of D.
        t2: Factor of T2.
        t1_signal: Factor of the signal of a T1-weighted image.
    """

    diffusivity: Field
    t2: Field
    t1_signal: Field


def diffusion_signals(anatomy: Anatomy, change: TissueChange, rng: np.random.Generator) -> tuple[Field, Field]:
    """Noise-free S0 and Sb (x, y, z) on the lattice of the anatomy.

    Args:
        anatomy: Tissue fractions.
        change: Disease.
        rng: Source of texture, bias and artefacts.

    Returns:
        The signal without and with diffusion weighting, in units of the fully relaxed signal of water.
    """
    shape = anatomy.shape
    texture = np.exp(0.035 * smooth_field(rng, shape, 9.0) + 0.03 * smooth_field(rng, shape, 32.0))
    diffusivity = (
        np.exp(0.035 * smooth_field(rng, shape, 9.0) + 0.02 * smooth_field(rng, shape, 32.0)) * change.diffusivity
    )
    t2_change = change.t2 * _regional_t2(anatomy)
    hindbrain = hindbrain_weight(anatomy)
    texture *= 1.0 + 0.16 * hindbrain
    diffusivity *= 1.0 - 0.09 * hindbrain
    deep_grey = anatomy.spot((24, 0, 0), (15, 26, 16), 0.15) + anatomy.spot((-24, 0, 0), (15, 26, 16), 0.15)
    diffusivity *= 1.0 - 0.10 * deep_grey * anatomy.grey
    s0, sb = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for tissue, fraction in enumerate((anatomy.grey, anatomy.white, anatomy.csf)):
        relaxed = PROTON_DENSITY[tissue] * (1 - np.exp(-TR_MS / T1_MS[tissue]))
        if tissue == 2:
            signal = fraction * np.float32(relaxed * np.exp(-TE_MS / T2_MS[tissue]))
            weighting: Field | np.float32 = np.float32(np.exp(-B_VALUE * DIFFUSIVITY[tissue]))
        else:
            signal = fraction * texture * relaxed * np.exp(-TE_MS / (T2_MS[tissue] * t2_change))
            weighting = np.exp(-B_VALUE * DIFFUSIVITY[tissue] * diffusivity)
        s0 += signal
        sb += signal * weighting
    sb *= 1.0 + _tracts(anatomy) * anatomy.white
    gain, b0_share = _pile_up(anatomy, rng), 0.6
    bias = coil_bias(anatomy, rng)
    return s0 * (1 + b0_share * gain) * bias, sb * (1 + gain) * bias


def t1_signal(anatomy: Anatomy, change: TissueChange, rng: np.random.Generator) -> Field:
    """Noise-free T1-weighted signal (x, y, z), white matter about 1."""
    shape = anatomy.shape
    texture = np.exp(0.02 * smooth_field(rng, shape, 8.0) + 0.015 * smooth_field(rng, shape, 32.0)) * change.t1_signal
    # Thalamus and pallidum hold more myelin than cortex does.
    thalamus = sum(anatomy.spot((s * 12, -18, 8), (10, 13, 9), 0.2) for s in (-1, 1))
    pallidum = sum(anatomy.spot((s * 20, -3, 0), (6, 9, 6), 0.2) for s in (-1, 1))
    grey = anatomy.grey * T1_CONTRAST[0] * (1 + 0.12 * thalamus + 0.18 * pallidum)
    signal = (grey + anatomy.white * T1_CONTRAST[1]) * texture + anatomy.csf * T1_CONTRAST[2]
    return np.asarray(signal * coil_bias(anatomy, rng), dtype=np.float32)


def hindbrain_weight(anatomy: Anatomy) -> Field:
    """0-1: cerebellum and brain stem, whose signal on real trace images exceeds that of the hemispheres."""
    cerebellum = anatomy.spot((0, -64, -38), (54, 36, 25), 0.10)
    stem = anatomy.spot((0, -28, -38), (17, 17, 32), 0.15)
    return np.maximum(cerebellum, 0.8 * stem)


def coil_bias(anatomy: Anatomy, rng: np.random.Generator) -> Field:
    """Receive sensitivity: brighter near the coil, that is towards the surface and the back."""
    x, y, z = anatomy.mni_mm
    radius2 = (x / 80) ** 2 + ((y + 18) / 95) ** 2 + ((z - 8) / 85) ** 2
    log_bias = 0.10 * radius2 - 0.04 * (y + 18) / 80 + 0.035 * smooth_field(rng, anatomy.shape, 90.0)
    return np.asarray(np.exp(log_bias), dtype=np.float32)


def _regional_t2(anatomy: Anatomy) -> Field:
    """Factor of T2: iron darkens the pallidum, the red nucleus and the dentate nucleus."""
    factor = np.ones(anatomy.shape, np.float32)
    for side in (-1, 1):
        factor -= 0.30 * anatomy.spot((side * 20, -4, -1), (6, 9, 6), 0.15)
        factor -= 0.20 * anatomy.spot((side * 5, -20, -9), (4, 4, 4), 0.3)
        factor -= 0.20 * anatomy.spot((side * 15, -57, -36), (7, 8, 5), 0.3)
        factor -= 0.08 * anatomy.spot((side * 26, 3, 1), (6, 16, 10), 0.2)
    return factor


def _tracts(anatomy: Anatomy) -> Field:
    """Relative brightness that fibres crossing the plane keep on a trace image: corticospinal tract, splenium, pons."""
    bright = np.zeros(anatomy.shape, np.float32)
    for side in (-1, 1):
        for x, y, z, radius, rise in (
            (24, -18, 18, 4, 0.22),
            (20, -16, 4, 4, 0.20),
            (26, -24, 32, 6, 0.16),
            (14, -18, -12, 4, 0.14),
        ):
            bright += rise * anatomy.spot((side * x, y, z), (radius, radius + 1, 9))
        bright += 0.18 * anatomy.spot((side * 12, -42, 12), (9, 5, 6))
        bright += 0.14 * anatomy.spot((side * 7, -40, -28), (4, 4, 7))
    return bright


def _pile_up(anatomy: Anatomy, rng: np.random.Generator) -> Field:
    """Relative rise of an echo-planar image where air bends the field: above the ear canals and the frontal sinus."""
    patch = logistic((smooth_field(rng, anatomy.shape, 12.0) + 0.5) * 2.5)
    shell = logistic((6.0 - ndimage.distance_transform_edt(anatomy.brain)) / 1.5)
    gain = np.zeros(anatomy.shape, np.float32)
    for centre, radii, height in (
        ((58, -22, -24), (9, 12, 6), 2.4),
        ((-58, -26, -24), (9, 12, 6), 1.8),
        ((0, 62, -12), (18, 8, 7), 0.8),
    ):
        gain += height * anatomy.spot(centre, radii)
    return np.asarray(gain * patch * shell, dtype=np.float32)


def slice_sample(
    field: NDArray[Any],
    field_affine: NDArray[np.float64],
    grid: Grid,
    points: tuple[int, int, int],
    order: int = 1,
) -> Field:
    """Voxel values of a scan: the field's mean over each voxel, taken at `points` places along each of its axes.

    Args:
        field: (x, y, z) on its own lattice.
        field_affine: 4x4, index of `field` to RAS mm.
        grid: Voxels of the scan.
        points: Places a voxel along (x, y, z).
        order: 1 interpolates linearly, 0 takes the nearest value.

    Returns:
        (x, y, z) of the grid; outside the field 0.
    """
    to_field = np.linalg.inv(field_affine) @ grid.affine
    total = np.zeros(grid.shape, np.float32)
    for offset in np.ndindex(points):
        shift = (np.array(offset) + 0.5) / points - 0.5
        start = to_field[:3, :3] @ shift + to_field[:3, 3]
        total += ndimage.affine_transform(
            field, to_field[:3, :3], start, output_shape=grid.shape, output=np.float32, order=order, mode="constant"
        )
    return total / np.float32(np.prod(points))


def rician(signal: Field, noise_sd: float, rng: np.random.Generator) -> Field:
    """Magnitude of the signal with normal noise of `noise_sd` in both channels of the receiver."""
    real = signal + noise_sd * rng.standard_normal(signal.shape).astype(np.float32)
    imaginary = noise_sd * rng.standard_normal(signal.shape).astype(np.float32)
    return np.hypot(real, imaginary)
