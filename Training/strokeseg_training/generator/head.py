"""Everything around the brain: skull, scalp, muscle, eyes and air, grown outwards from it.

The template ends at the dura. For images of whole heads the rest is made from distances to the brain and from places in
the template. It need not be anatomy to the millimetre: it has to look like a head to whatever finds the brain in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from strokeseg_training.generator.anatomy import Anatomy
from strokeseg_training.generator.fields import per_patient
from strokeseg_training.generator.places import Point
from strokeseg_training.generator.warp import axes_mm, noise

Range = tuple[float, float]

# The skull bridges what a ball of this radius does not fall into: the fissures and most of the base.
HULL_RADIUS_MM = 14.0
FACE_TOP_MM = -22.0
AIRWAYS: tuple[tuple[Point, Point], ...] = (
    ((0, 52, -56), (9, 30, 16)),
    ((0, 8, -66), (12, 10, 22)),
    ((26, 52, -58), (11, 14, 14)),
)
EYE: Point = (32, 56, -38)


@dataclass(frozen=True)
class HeadRanges:
    """Where the numbers of `HeadScene` come from; mm of the patient, thicknesses of adults' heads."""

    skull_mm: Range = (4.5, 8.5)
    marrow: Range = (0.2, 0.5)
    scalp_mm: Range = (3.5, 8.0)
    fat: Range = (0.3, 0.8)
    eye_mm: Range = (11.0, 13.0)
    uneven: Range = (0.05, 0.25)
    fat_suppression: Range = (0.03, 0.35)


@dataclass(frozen=True)
class HeadScene:
    """One head around its brain.

    Args:
        skull_mm, scalp_mm: Thickness.
        marrow, fat: Share of the skull that is marrow, and of the scalp that is fat.
        eye_mm: Radius of the eyeballs.
        uneven: Log SD of both thicknesses over 5 cm.
        fat_suppression: What is left of fat's signal on diffusion images.
        seed: Of the unevenness.
    """

    skull_mm: float
    marrow: float
    scalp_mm: float
    fat: float
    eye_mm: float
    uneven: float
    fat_suppression: float
    seed: int


@dataclass(frozen=True)
class HeadTissue:
    """Proton density, relaxation times in ms, diffusion in 1e-3 mm²/s, and brightness on T1 where white matter is 1."""

    density: float
    t1_ms: float
    t2_ms: float
    diffusion: float
    t1_weighted: float


HEAD_TISSUES: Mapping[str, HeadTissue] = {
    "bone": HeadTissue(0.05, 1000.0, 10.0, 0.3, 0.08),
    "marrow": HeadTissue(0.60, 550.0, 50.0, 0.3, 0.85),
    "fat": HeadTissue(0.90, 350.0, 60.0, 0.1, 1.30),
    "muscle": HeadTissue(0.75, 1400.0, 35.0, 1.3, 0.55),
    "eye": HeadTissue(1.00, 4000.0, 800.0, 2.7, 0.18),
}
"""Values at 3 T rounded from textbooks; what is in none of them and not brain is air."""


@dataclass(frozen=True, eq=False)
class Head:
    """N heads without their brains.

    Args:
        tissues: Name (as `HEAD_TISSUES`) to share of the voxel (N, x, y, z); with the brain they sum to at most 1.
        fat_suppression: (N, 1, 1, 1).
    """

    tissues: Mapping[str, Tensor]
    fat_suppression: Tensor


def draw_head(rng: np.random.Generator, ranges: HeadRanges) -> HeadScene:
    """Decides about one head."""

    def uniform(low_high: Range) -> float:
        return float(rng.uniform(*low_high))

    return HeadScene(
        skull_mm=uniform(ranges.skull_mm),
        marrow=uniform(ranges.marrow),
        scalp_mm=uniform(ranges.scalp_mm),
        fat=uniform(ranges.fat),
        eye_mm=uniform(ranges.eye_mm),
        uneven=uniform(ranges.uneven),
        fat_suppression=uniform(ranges.fat_suppression),
        seed=int(rng.integers(0, 2**31)),
    )


def make_head(scenes: Sequence[HeadScene], anatomy: Anatomy) -> Head:
    """Grows heads around brains.

    Args:
        scenes: One a patient.
        anatomy: The brains, on any grid; what lies beyond the grid is cut off. A whole head needs about 3 cm around
            the brain's box.
    """
    heads = [_one(scene, anatomy, i) for i, scene in enumerate(scenes)]
    tissues = {name: torch.stack([h[name] for h in heads]) for name in HEAD_TISSUES}
    return Head(tissues, per_patient([s.fat_suppression for s in scenes], anatomy.device))


def head_signals(
    head: Head, te_ms: Sequence[float], tr_ms: Sequence[float], b_value: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Signals of everything around the brain without and with diffusion weighting, each (N, x, y, z).

    Args:
        head: From `make_head`.
        te_ms: Echo time, one a patient.
        tr_ms: Repetition time.
        b_value: In 1e3 s/mm².
    """
    device = head.fat_suppression.device
    te, tr, b = (per_patient(v, device) for v in (te_ms, tr_ms, b_value))
    plain, weighted = torch.zeros((), device=device), torch.zeros((), device=device)
    for name, share in head.tissues.items():
        tissue = HEAD_TISSUES[name]
        signal = share * tissue.density * (1 - torch.exp(-tr / tissue.t1_ms)) * torch.exp(-te / tissue.t2_ms)
        if name in {"fat", "marrow"}:
            signal = signal * head.fat_suppression
        plain, weighted = plain + signal, weighted + signal * torch.exp(-b * tissue.diffusion)
    return plain, weighted


def head_t1(head: Head) -> Tensor:
    """T1-weighted brightness (N, x, y, z) of everything around the brain, where white matter is 1."""
    parts = [share * HEAD_TISSUES[name].t1_weighted for name, share in head.tissues.items()]
    return torch.stack(parts).sum(0)


def _one(scene: HeadScene, anatomy: Anatomy, index: int) -> dict[str, Tensor]:
    spacing = anatomy.spacing_mm
    brain, mni = anatomy.brain[index], anatomy.mni_mm[index]
    out = _distance_outside(brain, spacing)
    waves = noise(scene.seed, 50.0, axes_mm(anatomy.shape, spacing, anatomy.device), 2) * scene.uneven
    skull_mm, scalp_mm = scene.skull_mm * torch.exp(waves[0]), scene.scalp_mm * torch.exp(waves[1])
    edge = 0.3 * sum(spacing) / 3

    def beyond(distance: Tensor) -> Tensor:
        return torch.sigmoid((out - distance) / edge)

    below = torch.sigmoid((FACE_TOP_MM - mni[2]) / 3)
    # Below the brain the bone is thin and the rest is face and neck.
    skull_mm = skull_mm * (1 - 0.5 * below)
    face = below * torch.sigmoid((1 - _radius(mni, (0, 6, 0), (62, 82, 1e4))) * 30)
    free = 1 - brain
    inside = torch.maximum(1 - beyond(skull_mm + scalp_mm), face) * free
    eyes = _ball(mni, EYE, scene.eye_mm)
    air = torch.stack([_blob(mni, centre, radii) for centre, radii in AIRWAYS]).amax(0)
    air = torch.maximum(air, torch.sigmoid((anatomy.regions["near_air"][index] - 0.8) * 30)) * (1 - eyes)
    solid = inside * (1 - air)
    bone = (1 - beyond(skull_mm)) * (1 - eyes)
    middle = beyond(skull_mm * (0.5 - scene.marrow / 2)) * (1 - beyond(skull_mm * (0.5 + scene.marrow / 2)))
    marrow = bone * middle * (1 - below)
    soft = 1 - bone - eyes
    fat = soft * torch.maximum(
        (1 - beyond(skull_mm + scene.fat * scalp_mm)) * (1 - below), _ball(mni, EYE, 1.5 * scene.eye_mm)
    )
    shares = {"bone": bone - marrow, "marrow": marrow, "fat": fat, "muscle": soft - fat, "eye": eyes}
    return {name: share * solid for name, share in shares.items()}


def _distance_outside(brain: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Millimetres to the brain without its fissures, 0 inside.

    On the CPU whatever the device: whole heads are few.
    """
    mask = brain.cpu().numpy() > 0.5
    pad = [int(np.ceil(HULL_RADIUS_MM / s)) + 1 for s in spacing_mm]
    wide = np.pad(mask, [(p, p) for p in pad])
    grown = ndimage.distance_transform_edt(~wide, sampling=spacing_mm) <= HULL_RADIUS_MM
    hull = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > HULL_RADIUS_MM
    distance = ndimage.distance_transform_edt(~(hull | wide), sampling=spacing_mm)
    centre = tuple(slice(p, p + n) for p, n in zip(pad, mask.shape, strict=True))
    return torch.from_numpy(distance[centre].astype(np.float32)).to(brain.device)


def _radius(mni: Tensor, centre: Point, radii: Point) -> Tensor:
    """Distance from an ellipsoid's centre (both sides of the head) in units of its half axes."""
    parts = zip((mni[0].abs(), mni[1], mni[2]), centre, radii, strict=True)
    return torch.stack([((m - c) / r) ** 2 for m, c, r in parts]).sum(0).sqrt()


def _blob(mni: Tensor, centre: Point, radii: Point) -> Tensor:
    return torch.sigmoid((1 - _radius(mni, centre, radii)) * min(radii))


def _ball(mni: Tensor, centre: Point, radius: float) -> Tensor:
    return _blob(mni, centre, (radius, radius, radius))
