"""T1-weighted signal: inversion recovery as in an MPRAGE, spoiled gradient echo, or spin echo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._coarse import coarse, fine
from strokeseg_training.generator._draws import Triple, field_seed, uniform
from strokeseg_training.generator._surroundings import outside_brain, sensitivity
from strokeseg_training.generator._tissue import altered_fractions, both
from strokeseg_training.generator.fields import per_patient, smooth_field

if TYPE_CHECKING:
    from strokeseg_training.generator.anatomy import Anatomy
    from strokeseg_training.generator.lesions import Lesions
    from strokeseg_training.generator.physics_scene import PhysicsScene


@dataclass(frozen=True)
class T1Sequence:
    """A sequence and the tissue as it sees it; triples are (grey, white, fluid), times in ms.

    Args:
        kind: Which formula of `tissue_signal`.
        tr_ms: Repetition time.
        ti_ms: Inversion time.
        flip_degrees: Flip angle.
        inversion: How much of full inversion is left when the readout has driven the magnetisation.
        t1_ms: Longitudinal relaxation times.
        proton_density: Relative to water.
        deep_grey: Share of the way from grey to white matter's signal: thalamus and pallidum hold myelin.
        texture: Standard deviation of the logarithm at 8 mm, and half of it at 32 mm.
        seed: Of the texture.
    """

    kind: Literal["inversion", "spoiled", "spin-echo"]
    tr_ms: float
    ti_ms: float
    flip_degrees: float
    inversion: float
    t1_ms: Triple
    proton_density: Triple
    deep_grey: float
    texture: float
    seed: int


def draw_t1_sequence(
    rng: np.random.Generator, inversion_share: float, spoiled_share: float, texture: float
) -> T1Sequence:
    """Decides a T1-weighted sequence."""
    kinds: tuple[Literal["inversion", "spoiled", "spin-echo"], ...] = ("inversion", "spoiled", "spin-echo")
    shares = (inversion_share, spoiled_share, max(0.0, 1.0 - inversion_share - spoiled_share))
    kind = kinds[int(rng.choice(3, p=np.array(shares) / sum(shares)))]
    # Wansapura 1999 (3 T): grey 1331, white 832 ms; 1.5 T shorter. Stanisz 2005 found longer ones in grey matter.
    field = uniform(rng, (0.82, 1.0))
    tr = {"inversion": (1800.0, 2500.0), "spoiled": (18.0, 30.0), "spin-echo": (400.0, 650.0)}[kind]
    return T1Sequence(
        kind=kind,
        tr_ms=uniform(rng, tr),
        ti_ms=uniform(rng, (950.0, 1200.0)),
        flip_degrees=uniform(rng, (22.0, 32.0)),
        inversion=uniform(rng, (0.35, 0.45)),
        t1_ms=(1331.0 * field * uniform(rng, (0.95, 1.15)), 832.0 * field * uniform(rng, (0.95, 1.05)), 4000.0),
        proton_density=(uniform(rng, (0.78, 0.86)), uniform(rng, (0.66, 0.74)), 1.0),
        deep_grey=uniform(rng, (0.15, 0.6)),
        texture=texture,
        seed=field_seed(rng),
    )


def tissue_signal(sequence: T1Sequence) -> Triple:
    """Signal of grey matter, white matter and fluid."""
    s = sequence
    t1, density = np.array(s.t1_ms), np.array(s.proton_density)
    if s.kind == "inversion":
        signal = density * np.abs(1.0 - (1.0 + s.inversion) * np.exp(-s.ti_ms / t1))
    elif s.kind == "spoiled":
        flip, recovered = np.deg2rad(s.flip_degrees), np.exp(-s.tr_ms / t1)
        signal = density * np.sin(flip) * (1.0 - recovered) / (1.0 - np.cos(flip) * recovered)
    else:
        signal = density * (1.0 - np.exp(-s.tr_ms / t1))
    grey, white, fluid = (float(v) for v in signal)
    return grey, white, fluid


def t1_signal(scenes: Sequence[PhysicsScene], anatomy: Anatomy, lesions: Lesions, distractors: Lesions) -> Tensor:
    """Noise-free T1-weighted signal (N, x, y, z), white matter about 1, coil sensitivity included.

    Args:
        scenes: One a patient.
        anatomy: N patients.
        lesions: `t1_factor` multiplies the signal of grey and white matter, `cavity` is their share turned to fluid.
        distractors: The same for what is no lesion.
    """
    device, shape, spacing = anatomy.device, anatomy.shape, anatomy.spacing_mm
    sequences = [s.t1 for s in scenes]
    levels = [tissue_signal(s) for s in sequences]
    grey = per_patient([g / w for g, w, _ in levels], device)
    fluid = per_patient([c / w for _, w, c in levels], device)
    deep = per_patient([s.deep_grey for s in sequences], device)
    fractions = altered_fractions(anatomy.fractions, lesions, distractors)
    seeds, texture = [s.seed for s in sequences], per_patient([s.texture for s in sequences], device)
    log = smooth_field(seeds, [8.0] * len(seeds), shape, spacing, device)[:, 0] * texture
    log += smooth_field([s + 1 for s in seeds], [32.0] * len(seeds), shape, spacing, device)[:, 0] * (0.5 * texture)
    grey_here = torch.addcmul(grey, anatomy.regions["deep_grey"], deep * (1.0 - grey))
    tissue = torch.addcmul(fractions[:, 1], fractions[:, 0], grey_here) * log.exp()
    tissue = tissue * both(lesions.t1_factor, distractors.t1_factor)
    around = [s.surroundings for s in scenes]
    soft, bright, eyes = outside_brain(
        around, coarse(anatomy.brain), coarse(anatomy.mni_mm), [2.0 * s for s in anatomy.spacing_mm]
    )
    outside = soft * bright * per_patient([a.t1_level for a in around], device) + eyes * fluid
    outside = fine(outside[:, None], shape)[:, 0].clamp_min(0.0) * (1.0 - anatomy.brain)
    coil = sensitivity([s.coil for s in scenes], shape, spacing, device)
    return (torch.addcmul(tissue, fractions[:, 2], fluid) + outside) * coil
