"""What air beside the brain does to an echo-planar image: shifts along the phase encoding, pile-up, voids.

The field of an air cavity is that of a sphere in a homogeneous field along the head's axis, (3 cos² - 1) / r³. It
shifts tissue along the phase-encoding axis and keeps its signal: where tissue is pushed together the image is bright,
where it is pulled apart it is dark. On top, patches of bright signal above the ear canals, above the
frontal sinus and along the edges, which survive in real images after the vendor's corrections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._coarse import coarse, fine, fine_along
from strokeseg_training.generator._draws import Range, Triple, around, chance, field_seed, low_rather, normal, uniform
from strokeseg_training.generator._spots import bumps
from strokeseg_training.generator.fields import per_patient, smooth_field

if TYPE_CHECKING:
    from strokeseg_training.generator.anatomy import Anatomy

# Air in the skull: middle (template mm), radius, side: repeated on the other side.
CAVITIES: tuple[tuple[Triple, float, bool], ...] = (
    ((48.0, -24.0, -42.0), 11.0, True),
    ((54.0, -36.0, -42.0), 9.0, True),
    ((0.0, 74.0, -12.0), 13.0, False),
    ((4.0, 26.0, -36.0), 13.0, False),
)
# Where hot tissue lies in real images: temporal lobe above the ear canals on both sides, gyrus rectus above the
# frontal sinus.
EAR_MM: Triple = (50.0, -22.0, -26.0)
FRONTAL_MM: Triple = (0.0, 56.0, -12.0)
# Of what a cavity with a radius of 1 cm takes away.
_VOID_RADIUS_MM = 12.0
# How deep the patches above ears and forehead reach.
_BAND_MM = 9.0
# Pushed together at most fourfold: beyond, the sequence would be repeated.
_LARGEST_SQUEEZE = 0.75


@dataclass(frozen=True)
class SusceptibilityRanges:
    """What susceptibility is drawn from; 41-44 of 57 examinations show such artefacts (Khalil 2016)."""

    # 2-8 mm of shift at the base; the vendor's or the user's correction takes it away in some.
    shift_mm: Range = (0.5, 8.0)
    corrected_share: float = 0.25
    phase_left_right_share: float = 0.12
    # Temporal lobe above the ear canals: DWI 2-4 times the brain's at ADC 0.8-1.1, 1-4 ml a side.
    ear_share: float = 0.75
    ear_gain: Range = (0.4, 7.0)
    ear_radius_mm: Range = (6.0, 12.0)
    frontal_share: float = 0.6
    frontal_gain: Range = (0.2, 2.0)
    edge_share: float = 0.7
    edge_gain: Range = (0.1, 1.5)
    edge_depth_mm: Range = (2.0, 6.0)
    base_gain: Range = (0.0, 1.0)
    # What pile-up adds to the ADC, 1e-3 mm²/s: fluid is piled up with the tissue.
    adc_shift: Range = (-0.08, 0.22)
    void_share: float = 0.35


@dataclass(frozen=True)
class HotPatch:
    """A patch of bright signal: `gain` times more at its middle."""

    centre_mm: Triple
    radius_mm: Triple
    gain: float


@dataclass(frozen=True)
class SusceptibilityScene:
    """Susceptibility in one scan.

    Args:
        shift_mm: Displacement that 1 % of the brain exceeds.
        direction: Which way of the axis tissue in a higher field goes, 1 or -1.
        phase_axis: 0 (left-right) or 1 (back-front).
        cavities: Middle (template mm) and strength of each; strength is the cube of the radius in cm.
        ears: Patches above the right and the left ear canal.
        frontal: Patch above the frontal sinus.
        edge_gain: Gain of patches along the brain's edge.
        edge_depth_mm: How deep they reach.
        edge_level: Which part of the edge: field above this.
        base_gain: Gain of patches anywhere in the lower brain.
        base_level: Which part of it.
        adc_shift: What a patch adds to the ADC, 1e-3 mm²/s.
        void: Share of the signal that is lost beside the cavities.
        patch_mm: Width of the patches' own texture.
        seed: Of that texture.
    """

    shift_mm: float
    direction: int
    phase_axis: int
    cavities: tuple[tuple[Triple, float], ...]
    ears: tuple[HotPatch, HotPatch]
    frontal: HotPatch
    edge_gain: float
    edge_depth_mm: float
    edge_level: float
    base_gain: float
    base_level: float
    adc_shift: float
    void: float
    patch_mm: float
    seed: int


def draw_susceptibility(rng: np.random.Generator, r: SusceptibilityRanges, slice_axis: int = 2) -> SusceptibilityScene:
    """Decides the susceptibility of one diffusion scan; its phase axis lies in the slices."""
    low, high = r.shift_mm
    corrected = chance(rng, r.corrected_share)
    cavities = []
    for centre, radius, side in CAVITIES:
        middle = around(rng, centre, 3.0)
        for sign in (1.0, -1.0) if side else (1.0,):
            strength = (radius / 10.0 * float(np.exp(normal(rng, 0.12)))) ** 3
            cavities.append(((middle[0] * sign, middle[1], middle[2]), strength))
    ear = uniform(rng, r.ear_gain) if chance(rng, r.ear_share) else 0.0
    middle = around(rng, EAR_MM, 4.0)
    ears = tuple(
        HotPatch(
            around(rng, (sign * middle[0], middle[1], middle[2]), 3.0),
            _radius(rng, r.ear_radius_mm, (1.2, 1.5, 0.5)),
            ear * uniform(rng, (0.45, 1.1)),
        )
        for sign in (1.0, -1.0)
    )
    frontal = uniform(rng, r.frontal_gain) if chance(rng, r.frontal_share) else 0.0
    edge = uniform(rng, r.edge_gain) if chance(rng, r.edge_share) else 0.0
    return SusceptibilityScene(
        shift_mm=uniform(rng, (0.0, low)) if corrected else low_rather(rng, (low, high)),
        direction=1 if chance(rng, 0.5) else -1,
        phase_axis=0 if chance(rng, r.phase_left_right_share) or slice_axis == 1 else 1,
        cavities=tuple(cavities),
        ears=(ears[0], ears[1]),
        frontal=HotPatch(around(rng, FRONTAL_MM, 5.0), _radius(rng, (8.0, 12.0), (1.6, 1.0, 0.5)), frontal),
        edge_gain=edge,
        edge_depth_mm=uniform(rng, r.edge_depth_mm),
        edge_level=uniform(rng, (0.6, 2.0)),
        base_gain=uniform(rng, r.base_gain),
        base_level=uniform(rng, (0.9, 2.2)),
        adc_shift=uniform(rng, r.adc_shift),
        void=uniform(rng, (0.2, 0.9)) if chance(rng, r.void_share) else 0.0,
        patch_mm=uniform(rng, (7.0, 16.0)),
        seed=field_seed(rng),
    )


def pile_up(
    scenes: Sequence[SusceptibilityScene], anatomy: Anatomy, b_values: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Factors (N, x, y, z) on S0 and Sb: bright patches and voids near air and along the edges."""
    device, shape, spacing = anatomy.device, anatomy.shape, anatomy.spacing_mm

    def number(name: str) -> Tensor:
        return per_patient([getattr(s, name) for s in scenes], device)

    mni = coarse(anatomy.mni_mm)
    half, double = mni.shape[2:], [2.0 * s for s in spacing]
    patch = smooth_field([s.seed for s in scenes], [s.patch_mm for s in scenes], half, double, device, 2)
    patches = [(*s.ears, s.frontal) for s in scenes]
    spots = bumps(
        mni,
        [[p.centre_mm for p in row] for row in patches],
        [[p.radius_mm for p in row] for row in patches],
        [[[p.gain] for p in row] for row in patches],
    )[:, 0]
    lost = bumps(
        mni,
        [[centre for centre, _ in s.cavities] for s in scenes],
        [[(_VOID_RADIUS_MM * strength ** (1 / 3),) * 3 for _, strength in s.cavities] for s in scenes],
        [[[1.0]] * len(s.cavities) for s in scenes],
    )[:, 0].clamp_max(1.0)
    # Twice as likely below as above: bright edges are seen at the vertex, too, but rarely.
    low = torch.sigmoid((-mni[:, 2] - 5.0) / 6.0)
    spots = spots * torch.sigmoid((patch[:, 0] + 0.6) * 3.0)
    rim = torch.sigmoid((patch[:, 1] + low - 0.5 - number("edge_level")) * 3.0) * number("edge_gain")
    base = low * (patch[:, 0] - number("base_level")).clamp_min(0.0) * number("base_gain")
    maps = fine(torch.stack([spots, rim, base, lost * number("void")], 1), shape)
    depth2 = anatomy.surface_mm.clamp_min(0.0).square()
    # Thin bands along the surface, brightest at it.
    near = (depth2 * (-1.0 / _BAND_MM**2)).exp_().mul_(0.85).add_(0.15)
    edge = depth2.mul_(-1.0 / number("edge_depth_mm").square()).exp_()
    gain = torch.addcmul(maps[:, 2], maps[:, 0], near).addcmul_(maps[:, 1], edge)
    factor = (1.0 + gain.clamp_min(0.0)) * (1.0 - maps[:, 3]).clamp(0.05, 1.0)
    shift = per_patient([b * s.adc_shift for b, s in zip(b_values, scenes, strict=True)], device)
    return factor * (shift * (gain / 1.5).clamp(0.0, 1.0)).exp(), factor


def sources(scene: SusceptibilityScene, mni_mm: Tensor, brain: Tensor, count: int, spacing_mm: float) -> Tensor:
    """Where the faces between samples come from, of every second line: (x, y, z), `count` + 1 along the phase axis.

    Face k of the distorted image shows what lay at ``sources[k]``; the sequence never falls and ends where it began, at
    0 and at the number of samples.

    Args:
        scene: One scan.
        mni_mm: (3, x, y, z), template coordinates of every second voxel.
        brain: (x, y, z), 0-1, of every second voxel.
        count: Samples of the image along the phase axis.
        spacing_mm: Of the image along the phase axis.
    """
    field = _dipoles(scene.cavities, mni_mm)
    seen = field[brain > 0.5].abs()
    strongest = float(seen.quantile(0.99)) if seen.numel() else 1.0
    field = (field / max(strongest, 1e-6)).clamp(-2.0, 2.0)
    lines = fine_along(field, count, scene.phase_axis).movedim(scene.phase_axis, -1)
    faces = torch.arange(count + 1, device=lines.device, dtype=torch.float32)
    # Nothing leaves the field of view: shifts end towards both ends of a line.
    ends = (torch.minimum(faces, count - faces) / 4.0).clamp(0.0, 1.0)
    at_faces = torch.cat([lines[..., :1], 0.5 * (lines[..., 1:] + lines[..., :-1]), lines[..., -1:]], -1)
    shift = at_faces * ends * (scene.direction * scene.shift_mm / spacing_mm)
    squeeze = float(-shift.diff(dim=-1).min())
    if squeeze > _LARGEST_SQUEEZE:
        shift = shift * (_LARGEST_SQUEEZE / squeeze)
    return _inverse((faces + shift).contiguous(), faces).movedim(-1, scene.phase_axis)


def distorted(volume: Tensor, faces: Tensor, axis: int, fractions_from: int) -> Tensor:
    """An image (C, x, y, z) with its samples moved along one axis.

    Args:
        volume: Images of one patient.
        faces: `sources` on this grid.
        axis: 0, 1 or 2.
        fractions_from: Images before this one are signals: their sum along each line is kept, as in a scanner. The
            others are fractions: averaged over what a sample shows.
    """
    dim, count = 1 + axis, volume.shape[1 + axis]
    zero = torch.zeros_like(volume.narrow(dim, 0, 1))
    total = torch.cat([zero, volume], dim).cumsum_(dim)
    low = faces.floor().clamp(0, count - 1)
    index = low.long()[None].expand(len(volume), *faces.shape)
    before = total.gather(dim, index)
    at_face = torch.lerp(before, total.gather(dim, index + 1), (faces - low).expand_as(before))
    moved = at_face.diff(dim=dim)
    moved[fractions_from:] /= faces.diff(dim=axis).clamp_min(1e-3)
    return moved


def fine_sources(faces: Tensor, shape: tuple[int, int, int], axis: int) -> Tensor:
    """`sources` of every second voxel of the other axes, for all: linear, so that they never fall along the axis."""
    for other in (a for a in range(3) if a != axis):
        nodes = faces.shape[other]
        place = (torch.arange(shape[other], device=faces.device) / 2.0).clamp(max=nodes - 1)
        low = place.floor().long().clamp(max=max(nodes - 2, 0))
        view = [1, 1, 1]
        view[other] = -1
        weight = (place - low).view(view)
        a, b = faces.index_select(other, low), faces.index_select(other, (low + 1).clamp(max=nodes - 1))
        faces = torch.lerp(a, b, weight.expand_as(a))
    return faces


def _dipoles(cavities: Sequence[tuple[Triple, float]], mni_mm: Tensor) -> Tensor:
    """Field (x, y, z) of air-filled spheres, in arbitrary units."""
    place = mni_mm.flatten(1)
    centre = torch.tensor([c for c, _ in cavities], device=mni_mm.device)
    strength = torch.tensor([[s] for _, s in cavities], device=mni_mm.device)
    r2 = place.square().sum(0) - 2.0 * centre @ place + centre.square().sum(1, keepdim=True)
    # Inside the cavity nothing is seen; the field stays finite there.
    r2 = (0.01 * r2).clamp_min(strength.pow(2 / 3))
    up2 = (0.1 * (place[2] - centre[:, 2:])).square()
    field = (3.0 * up2 / r2 - 1.0) * r2.rsqrt() / r2 * strength
    return field.sum(0).view(mni_mm.shape[1:])


def _inverse(moved: Tensor, faces: Tensor) -> Tensor:
    """Where the rising sequences `moved` (..., n) of `faces` (n,) reach the values of `faces`: linear between them."""
    count = moved.shape[-1]
    above = torch.searchsorted(moved, faces.expand_as(moved).contiguous(), right=True).clamp(1, count - 1)
    high, low = moved.gather(-1, above), moved.gather(-1, above - 1)
    part = ((faces - low) / (high - low).clamp_min(1e-6)).clamp(0.0, 1.0)
    return above - 1 + part


def _radius(rng: np.random.Generator, low_high: Range, shape: Triple) -> Triple:
    size = uniform(rng, low_high)
    x, y, z = (size * s * float(np.exp(normal(rng, 0.2))) for s in shape)
    return x, y, z
