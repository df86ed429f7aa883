"""What tissue sends before a scanner sees it: S0 and Sb of every voxel, noise-free, and the T1-weighted signal.

Diffusivities are in 1e-3 mm²/s, times in ms, b in 1e3 s/mm²; signals in units of the fully relaxed signal of water.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._coarse import coarse, fine
from strokeseg_training.generator._spots import spot_maps
from strokeseg_training.generator._surroundings import (
    fluid_weighting,
    outside_brain,
    sensitivity,
)
from strokeseg_training.generator._t1_contrast import t1_signal
from strokeseg_training.generator._tissue import altered_fractions, both
from strokeseg_training.generator.fields import per_patient, smooth_field
from strokeseg_training.generator.physics_scene import PhysicsRanges, PhysicsScene, draw_physics

if TYPE_CHECKING:
    from strokeseg_training.generator.anatomy import Anatomy
    from strokeseg_training.generator.lesions import Lesions

__all__ = ["PhysicsRanges", "PhysicsScene", "diffusion_signals", "draw_physics", "t1_signal"]

# Diffusivity at which a factor on D is turned into one on the signal.
_TYPICAL_D = 0.8


def diffusion_signals(
    scenes: Sequence[PhysicsScene], anatomy: Anatomy, lesions: Lesions, distractors: Lesions
) -> tuple[Tensor, Tensor]:
    """Noise-free signal without and with diffusion weighting, coil sensitivity included.

    Args:
        scenes: One a patient.
        anatomy: N patients.
        lesions: What acute and old disease does to them.
        distractors: The same for what is no lesion.

    Returns:
        S0 and Sb, each (N, x, y, z).
    """
    device = anatomy.device

    def number(name: str) -> Tensor:
        return per_patient([getattr(s, name) for s in scenes], device)

    def tissue(name: str, index: int) -> Tensor:
        return per_patient([getattr(s, name)[index] for s in scenes], device)

    fractions = altered_fractions(anatomy.fractions, lesions, distractors)
    log_signal, log_d, log_direction = _tissue_maps(scenes, anatomy)
    d_factor = log_d.exp() * both(lesions.d_factor, distractors.d_factor)
    # exp(-TE / (T2 f)) = exp(-TE / T2) exp(TE / T2 (1 - 1 / f))
    t2_gain = 1.0 - 1.0 / both(lesions.t2_factor, distractors.t2_factor).clamp_min(0.1)
    b, te, tr = number("b_value"), number("te_ms"), number("tr_ms")
    s0, sb = torch.zeros_like(log_d), torch.zeros_like(log_d)
    white = torch.zeros_like(b)
    for t in range(3):
        t2 = tissue("t2_ms", t)
        relaxed = tissue("proton_density", t) * (1.0 - (-tr / tissue("t1_ms", t)).exp()) * (-te / t2).exp()
        weighting = -b * tissue("diffusivity", t)
        if t == 2:
            signal = fractions[:, t] * relaxed
            sb += signal * weighting.exp()
        else:
            signal = fractions[:, t] * relaxed * torch.addcmul(log_signal, te / t2, t2_gain).exp()
            sb += signal * torch.addcmul(log_direction, weighting, d_factor).exp()
            white = relaxed
        s0 += signal
    outside, weighted = _outside_signal(scenes, anatomy, white, b)
    coil = sensitivity([s.coil for s in scenes], anatomy.shape, anatomy.spacing_mm, device)
    return (s0 + outside) * coil, (sb + weighted) * coil


def _tissue_maps(scenes: Sequence[PhysicsScene], anatomy: Anatomy) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of what varies within grey and white matter, each (N, x, y, z).

    Returns:
        Factor on the signal, factor on D, and factor on the weighted signal alone (fibres unlike the gradients).
    """
    device, shape, spacing = anatomy.device, anatomy.shape, anatomy.spacing_mm
    grey, white = anatomy.fractions[:, 0], anatomy.fractions[:, 1]
    maps = fine(_smooth_maps(scenes, anatomy), shape)
    cortex, fibres = 0.35 + 0.65 * grey, maps[:, 4]
    log_signal = torch.addcmul(maps[:, 2], maps[:, 0], cortex)
    log_d = torch.addcmul(maps[:, 3], maps[:, 1], cortex)
    texture = [s.fine_texture for s in scenes]
    field = smooth_field([t.seed for t in texture], [t.fwhm_mm for t in texture], shape, spacing, device, 2)
    log_signal.addcmul_(field[:, 0], per_patient([t.sd_signal for t in texture], device))
    log_d.addcmul_(field[:, 1], per_patient([t.sd_d for t in texture], device))
    deep = anatomy.regions["deep_grey"] * grey
    log_signal.addcmul_(deep, per_patient([np.log(s.deep_grey_signal) for s in scenes], device))
    log_d.addcmul_(deep, per_patient([np.log(s.deep_grey_d) for s in scenes], device))
    for name, dwi, d in (
        ("cerebellum", [s.cerebellum_dwi for s in scenes], [s.cerebellum_d for s in scenes]),
        ("brain_stem", [s.stem_dwi for s in scenes], [s.stem_d for s in scenes]),
    ):
        region = anatomy.regions[name]
        # What the lower D adds to the weighted signal is taken off the factor that both signals share.
        shared = [np.log(g) - s.b_value * _TYPICAL_D * (1.0 - k) for s, g, k in zip(scenes, dwi, d, strict=True)]
        log_signal.addcmul_(region, per_patient(shared, device))
        log_d.addcmul_(region, per_patient([np.log(k) for k in d], device))
    contrast = (fibres - 0.5).clamp_min_(0.0).mul_(white).mul_(per_patient([s.white_contrast for s in scenes], device))
    share = per_patient([s.white_t2_share for s in scenes], device)
    if any(s.single_direction for s in scenes):
        direction = fibres.clamp(-1.8, 1.8) * white
        log_d.addcmul_(direction, per_patient([-s.single_direction for s in scenes], device))
    log_signal.addcmul_(contrast, share)
    return log_signal, log_d, contrast * (1.0 - share)


def _smooth_maps(scenes: Sequence[PhysicsScene], anatomy: Anatomy) -> Tensor:
    """What varies slowly, (N, 5, x, y, z) of every second voxel.

    Returns:
        Logarithms of the factors on signal and on D of bright cortex, the same of everything else; a field of fibres.
    """
    device = anatomy.device
    mni = coarse(anatomy.mni_mm)
    shape, spacing = mni.shape[2:], [2.0 * s for s in anatomy.spacing_mm]
    other = spot_maps(mni, [s.tracts for s in scenes])
    wide = [s.wide_texture for s in scenes]
    texture = smooth_field([t.seed for t in wide], [t.fwhm_mm for t in wide], shape, spacing, device, 2)
    sd = torch.tensor([(t.sd_signal, t.sd_d) for t in wide], dtype=torch.float32, device=device)
    other += texture * sd[:, :, None, None, None]
    hind = coarse(anatomy.regions["cerebellum"]) + coarse(anatomy.regions["brain_stem"])
    tilt = hind * torch.tanh(mni[:, 0] / 10.0)
    other[:, 0] += tilt * per_patient([s.hindbrain_asymmetry for s in scenes], device)
    fibres = smooth_field([s.white_seed for s in scenes], [s.white_contrast_mm for s in scenes], shape, spacing, device)
    # Fibres run alike on both sides; the middle of the grid is near enough to the head's.
    fibres = (fibres + fibres.flip(2)) * 0.5**0.5
    return torch.cat([spot_maps(mni, [s.spots for s in scenes]), other, fibres], 1)


def _outside_signal(
    scenes: Sequence[PhysicsScene], anatomy: Anatomy, white: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """S0 and Sb (N, x, y, z) of what surrounds the brain."""
    device = anatomy.device
    around = [s.surroundings for s in scenes]
    spacing = [2.0 * s for s in anatomy.spacing_mm]
    soft, bright, fluid = outside_brain(around, coarse(anatomy.brain), coarse(anatomy.mni_mm), spacing)
    unweighted = soft * bright * white * per_patient([a.level for a in around], device)
    eyes = fluid * per_patient([a.eyes for a in around], device)
    weighted = unweighted * (-b * per_patient([a.diffusivity for a in around], device)).exp()
    fluid_b = fluid_weighting([s.b_value for s in scenes], device)
    pair = fine(torch.stack([unweighted + eyes, weighted + eyes * fluid_b], 1), anatomy.shape).clamp_min(0.0)
    pair = pair * (1.0 - anatomy.brain)[:, None]
    return pair[:, 0], pair[:, 1]
