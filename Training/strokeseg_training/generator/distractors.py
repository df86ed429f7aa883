"""What resembles an infarct and is none: label 0.

Old cavities, white-matter changes, T2 shine-through, bleeding, perivascular spaces and, on T1, wide fissures.

The result has the form of `Lesions` with `infarct` 0 everywhere. Where the label is, it changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._draws import Range, Triple, chance, field_seed, low_rather, uniform
from strokeseg_training.generator.fields import along, blur
from strokeseg_training.generator.lesion_depth import smoothstep
from strokeseg_training.generator.lesion_draw import a_place, log_normal, three
from strokeseg_training.generator.lesion_head import Head, Lattice
from strokeseg_training.generator.lesion_looks import D_BOUNDS, T2_BOUNDS, Canvas
from strokeseg_training.generator.lesion_shapes import rotation
from strokeseg_training.generator.lesions import Lesions

if TYPE_CHECKING:
    from strokeseg_training.generator.anatomy import Anatomy

FocusKind = Literal["cavity", "shine_through", "bleeding", "perivascular"]


@dataclass(frozen=True)
class Focus:
    """One old or harmless spot: a ragged ellipsoid.

    Args:
        kind: What it is, which decides where it may lie.
        place: Quantiles of the tissue where its kind lies.
        volume_ml: Of the ellipsoid.
        stretch: Logarithms of its half axes' ratios.
        turn_deg: Rotation about (x, y, z).
        ragged: Weight of noise against distance.
        fluid: Share of its tissue that has turned to fluid in its middle.
        d_ratio: D against healthy tissue.
        t2_ratio: T2 against healthy tissue.
        t1_ratio: T1-weighted signal against healthy tissue.
        rim: Share of the D and T2 change of gliosis (D × 1.3, T2 × 1.4) around it.
        seed: Of the noise.
    """

    kind: FocusKind
    place: Triple
    volume_ml: float
    stretch: Triple
    turn_deg: Triple
    ragged: float
    fluid: float
    d_ratio: float
    t2_ratio: float
    t1_ratio: float
    rim: float
    seed: int


@dataclass(frozen=True)
class WhiteMatterChange:
    """Small-vessel disease of the white matter, on both sides.

    Args:
        caps_mm: Reach of caps and bands from the ventricles.
        spots: 0-1, how many deep spots there are.
        spot_mm: Their size.
        d_ratio: D against healthy tissue.
        t2_ratio: T2 against healthy tissue.
        t1_ratio: T1-weighted signal against healthy tissue.
        seed: Of the fields.
    """

    caps_mm: float
    spots: float
    spot_mm: float
    d_ratio: float
    t2_ratio: float
    t1_ratio: float
    seed: int


@dataclass(frozen=True)
class DistractorScene:
    """All label-0 changes of one patient.

    Args:
        foci: Single spots.
        white_matter: Small-vessel disease, if any.
        fissures: Share of the tissue beside the right and left Sylvian fissure that is fluid (T1 task).
    """

    foci: tuple[Focus, ...]
    white_matter: WhiteMatterChange | None
    fissures: tuple[float, float]


@dataclass(frozen=True)
class DistractorRanges:
    """What distractors are drawn from; (low, high) pairs are uniform, `*_ln` pairs mean and SD of ln ml.

    Old damage has D × 1.1-2.2 and T2 × 1.1-1.8; white-matter changes are slightly dark on T1.
    """

    cavity_share: float = 0.25
    cavities: tuple[int, int] = (1, 2)
    cavity_ln: Range = (0.3, 1.4)
    cavity_ml: Range = (0.05, 40.0)
    cavity_fluid: Range = (0.4, 1.0)
    gliosis: Range = (0.1, 1.0)
    white_matter_share: float = 0.65
    caps_mm: Range = (0.0, 6.0)
    spots: Range = (0.0, 1.0)
    spot_mm: Range = (5.0, 11.0)
    white_matter_d: Range = (1.08, 1.9)
    white_matter_t2: Range = (1.1, 1.7)
    white_matter_t1: Range = (0.78, 0.96)
    shine_share: float = 0.3
    shines: tuple[int, int] = (1, 3)
    shine_ln: Range = (-1.2, 1.0)
    shine_ml: Range = (0.03, 8.0)
    shine_d: Range = (1.1, 1.6)
    shine_t2: Range = (1.2, 1.8)
    bleeding_share: float = 0.10
    bleedings: tuple[int, int] = (1, 3)
    bleeding_ln: Range = (-1.5, 1.5)
    bleeding_ml: Range = (0.02, 25.0)
    bleeding_d: Range = (0.6, 1.6)  # from few photons of signal: any value
    bleeding_t2: Range = (0.3, 0.65)
    perivascular_share: float = 0.3
    perivasculars: tuple[int, int] = (2, 14)
    perivascular_ln: Range = (-3.9, 0.6)
    perivascular_ml: Range = (0.006, 0.1)
    perivascular_fluid: Range = (0.2, 0.7)
    fissure_share: float = 0.4  # T1 only
    fissure: Range = (0.1, 0.8)


def draw_distractors(rng: np.random.Generator, ranges: DistractorRanges, task: str) -> DistractorScene:
    """Decides the label-0 changes of one patient.

    Args:
        rng: Source of every choice.
        ranges: What to choose from.
        task: "dwi-adc", or "t1" without old cavities: there they would be the label.
    """
    foci: list[Focus] = []
    groups: tuple[tuple[FocusKind, float, tuple[int, int]], ...] = (
        ("cavity", ranges.cavity_share if task != "t1" else 0.0, ranges.cavities),
        ("shine_through", ranges.shine_share if task != "t1" else 0.0, ranges.shines),
        ("bleeding", ranges.bleeding_share if task != "t1" else 0.0, ranges.bleedings),
        ("perivascular", ranges.perivascular_share, ranges.perivasculars),
    )
    for kind, share, number in groups:
        if chance(rng, share):
            count = int(rng.integers(number[0], number[1] + 1))
            foci += [_focus(rng, ranges, kind) for _ in range(count)]
    white = _white_matter(rng, ranges) if chance(rng, ranges.white_matter_share) else None
    fissures = (0.0, 0.0)
    if task == "t1" and chance(rng, ranges.fissure_share):
        both = uniform(rng, ranges.fissure)
        fissures = (both, both) if chance(rng, 0.6) else (both, 0.3 * both) if chance(rng, 0.5) else (0.3 * both, both)
    return DistractorScene(tuple(foci), white, fissures)


def make_distractors(scenes: Sequence[DistractorScene], anatomy: Anatomy, lesions: Lesions) -> Lesions:
    """Label-0 changes of N patients.

    Args:
        scenes: One a patient, in the anatomy's order.
        anatomy: The brains.
        lesions: The label: all factors are exactly 1 and `cavity` is 0 where `lesions.infarct` is 0.25 or more.

    Returns:
        `infarct` is 0 everywhere.
    """
    made = Lesions.none(len(scenes), anatomy.shape, anatomy.device)
    for patient, scene in enumerate(scenes):
        if not (scene.foci or scene.white_matter or any(scene.fissures)):
            continue
        head, canvas = Head.of(anatomy, patient), made.canvas(patient)
        if scene.white_matter:
            _paint_white_matter(canvas, head, scene.white_matter)
        for focus in scene.foci:
            _paint_focus(canvas, head, focus)
        if any(scene.fissures):
            _paint_fissures(canvas, head, scene.fissures)
        free = (1.0 - 4.0 * lesions.infarct[patient]).clamp_min_(0.0)
        for factor in (canvas.d_factor, canvas.t2_factor, canvas.t1_factor):
            factor.sub_(1.0).mul_(free).add_(1.0)
        canvas.cavity.mul_(free)
    return made


def _focus(rng: np.random.Generator, ranges: DistractorRanges, kind: FocusKind) -> Focus:
    volume = {
        "cavity": (ranges.cavity_ln, ranges.cavity_ml),
        "shine_through": (ranges.shine_ln, ranges.shine_ml),
        "bleeding": (ranges.bleeding_ln, ranges.bleeding_ml),
        "perivascular": (ranges.perivascular_ln, ranges.perivascular_ml),
    }[kind]
    d_ratio, t2_ratio = {
        "cavity": ((1.1, 1.8), (1.1, 1.6)),
        "shine_through": (ranges.shine_d, ranges.shine_t2),
        "bleeding": (ranges.bleeding_d, ranges.bleeding_t2),
        "perivascular": ((1.0, 1.2), (1.0, 1.15)),
    }[kind]
    fluid = {"cavity": ranges.cavity_fluid, "perivascular": ranges.perivascular_fluid}.get(kind, (0.0, 0.0))
    return Focus(
        kind=kind,
        place=a_place(rng),
        volume_ml=log_normal(rng, *volume),
        stretch=three(rng, 0.5 if kind == "perivascular" else 0.3),
        turn_deg=three(rng, 50.0),
        ragged=0.05 if kind == "perivascular" else uniform(rng, (0.05, 0.45)),
        fluid=uniform(rng, fluid),
        d_ratio=uniform(rng, d_ratio),
        t2_ratio=uniform(rng, t2_ratio),
        t1_ratio=uniform(rng, (0.6, 0.95)),
        rim=uniform(rng, ranges.gliosis) if kind in {"cavity", "bleeding"} else 0.0,
        seed=field_seed(rng),
    )


def _white_matter(rng: np.random.Generator, ranges: DistractorRanges) -> WhiteMatterChange:
    return WhiteMatterChange(
        caps_mm=low_rather(rng, ranges.caps_mm),
        spots=low_rather(rng, ranges.spots),
        spot_mm=uniform(rng, ranges.spot_mm),
        d_ratio=uniform(rng, ranges.white_matter_d),
        t2_ratio=uniform(rng, ranges.white_matter_t2),
        t1_ratio=uniform(rng, ranges.white_matter_t1),
        seed=field_seed(rng),
    )


def _paint_focus(canvas: Canvas, head: Head, focus: Focus) -> None:
    voxel = head.voxel_at(_likely(head, focus.kind), focus.place)
    if voxel is None:
        return
    radius = (focus.volume_ml * 1000.0 * 0.75 / math.pi) ** (1.0 / 3.0)
    box = head.box_at(voxel, 1.4 * radius * math.exp(max(focus.stretch)) + 6.0)
    cut = head.cut(box)
    offsets, turn = cut.offsets_mm(voxel), rotation(focus.turn_deg)
    total = torch.zeros((), device=head.device)
    for axis in range(3):
        own = sum(float(turn[axis, k]) * offsets[k] for k in range(3)) * math.exp(-focus.stretch[axis])
        total = total + torch.as_tensor(own) ** 2
    depth = radius - total.sqrt()
    if focus.ragged > 0.1:
        depth = depth + focus.ragged * radius * cut.field(focus.seed, max(5.0, 0.9 * radius))
    soft = max(head.spacing_mm)
    inside = smoothstep(0.5 + depth / (1.5 * soft))
    rim = focus.rim * smoothstep((depth + 4.0) / 4.0) * (1.0 - inside)
    canvas.change(
        box,
        inside * (focus.d_ratio - 1.0) + 0.3 * rim,
        inside * (focus.t2_ratio - 1.0) + 0.4 * rim,
    )
    canvas.t1_factor[box] *= 1.0 + torch.maximum(inside, 0.5 * rim) * (focus.t1_ratio - 1.0)
    if focus.fluid > 0:
        hole = inside if focus.kind == "perivascular" else inside * smoothstep(0.3 + depth / (0.5 * radius))
        canvas.cavity[box] = torch.maximum(canvas.cavity[box], hole * focus.fluid)


def _likely(head: Head, kind: FocusKind) -> Lattice:
    """Where a kind of spot may lie: (a, b, c) on the coarse lattice."""
    coarse = head.coarse
    white = np.clip(coarse.tissue - coarse.grey, 0.0, 1.0)
    deep, hind = coarse.regions["deep_grey"], coarse.regions["cerebellum"]
    solid = np.clip(coarse.tissue - 0.4, 0.0, None)
    likely = {
        "cavity": solid * (0.5 + deep),
        "shine_through": solid * (0.3 + white + 0.5 * deep),
        "bleeding": solid * (0.4 + 2.0 * deep),
        # Basal ganglia and the white matter between the ventricles and the vertex.
        "perivascular": (2.0 * deep + np.clip(white - 0.7, 0.0, None)) * (1.0 - hind) * (coarse.mni_mm[2] > -16),
    }[kind]
    return np.asarray(likely, dtype=np.float32)


def _paint_white_matter(canvas: Canvas, head: Head, change: WhiteMatterChange) -> None:
    """Caps and bands round the ventricles and deep spots; on every second voxel, they are smooth."""
    thin = (slice(None, None, 2),) * 3
    spacing = (2 * head.spacing_mm[0], 2 * head.spacing_mm[1], 2 * head.spacing_mm[2])
    low = Head(head.grey[thin], head.white[thin], head.csf[thin], head.mni_mm[(slice(None), *thin)], {}, spacing)
    noise = low.field(change.seed, 12.0)
    near = blur(head.regions["ventricles"][thin][None, None], 5.0, spacing)[0, 0]
    # At d mm from a wide ventricle's wall the blurred map is that of a Gaussian's tail: its inverse gives d.
    distance = -5.0 * torch.special.ndtri(near.clamp(1e-4, 0.9999))
    caps = torch.sigmoid((change.caps_mm * (1.0 + 0.5 * noise) - distance) / 1.5) * (change.caps_mm > 0.5)
    spots = torch.sigmoid((low.field(change.seed + 1, change.spot_mm) - 2.7 + 1.0 * change.spots) * 6.0)
    weight = torch.maximum(caps, spots * (low.mni_mm[2] > -14.0))
    for axis in range(3):
        weight = along(weight[None, None], _between(low.shape[axis], head.shape[axis], head.device), axis)[0, 0]
    weight = weight * smoothstep(2.0 * head.white - 0.5)
    canvas.d_factor.mul_(1.0 + weight * (change.d_ratio - 1.0)).clamp_(*D_BOUNDS)
    canvas.t2_factor.mul_(1.0 + weight * (change.t2_ratio - 1.0)).clamp_(*T2_BOUNDS)
    canvas.t1_factor.mul_(1.0 + weight * (change.t1_ratio - 1.0))


def _paint_fissures(canvas: Canvas, head: Head, fissures: tuple[float, float]) -> None:
    """Wide Sylvian fissures: tissue beside their fluid has given way to more fluid."""
    for side, share in zip((1, -1), fissures, strict=True):
        middle = (side * 44.0, 2.0, 2.0)
        box = head.box_near([middle], 24.0)
        if box is None:
            continue
        cut = head.cut(box)
        x, y, z = (cut.mni_mm[k] - middle[k] for k in range(3))
        bed = torch.exp(-0.5 * ((x / 9.0) ** 2 + (y / 16.0) ** 2 + (z / 9.0) ** 2))
        wide = smoothstep(3.0 * blur(cut.csf[None, None], 2.5, cut.spacing_mm)[0, 0] - 0.2)
        canvas.cavity[box] = torch.maximum(canvas.cavity[box], share * bed * wide)


def _between(nodes: int, size: int, device: torch.device) -> Tensor:
    """(size, nodes): linear interpolation from every second voxel to all of them."""
    distance = (torch.arange(size, dtype=torch.float32)[:, None] / 2 - torch.arange(nodes, dtype=torch.float32)).abs()
    rows = (1.0 - distance).clamp_min(0.0)
    return (rows / rows.sum(1, keepdim=True)).to(device)
