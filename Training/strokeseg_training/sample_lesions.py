"""Disease of the synthetic patient: acute infarcts (known lesions) and what resembles them but is none.

An infarct is the part of a territory that scores highest in a landscape of distance and noise: its border is ragged at
every scale and follows the tissue, its inside is patchy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg_training.sample_anatomy import Anatomy, Field, blur, find_ventricles, logistic, smooth_field
from strokeseg_training.sample_physics import TissueChange

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class InfarctPlan:
    """One acute infarct to be grown.

    Args:
        name: What and where, for the reader of the description.
        apex_mm: Template coordinates of its deep end.
        base_mm: Template coordinates of its outer end, at or beyond the surface.
        radii_mm: Half widths at the deep and at the outer end.
        volume_ml: Tissue to be covered, in the patient.
        raggedness: Weight of noise against distance.
        diffusivity: Factor of D in the core.
        t2: Factor of T2 in the core.
    """

    name: str
    apex_mm: tuple[float, float, float]
    base_mm: tuple[float, float, float]
    radii_mm: tuple[float, float]
    volume_ml: float
    raggedness: float
    diffusivity: float
    t2: float


# Cardiac emboli of hours to two days, most of them in the right middle cerebral artery. Factors of D after Lansberg
# 2001, of T2 after Eastwood 2003.
INFARCTS = (
    InfarctPlan(
        "right middle cerebral artery, insula and frontoparietal operculum",
        (30, -4, 16),
        (66, -12, 26),
        (10, 22),
        21.0,
        0.36,
        0.50,
        1.28,
    ),
    InfarctPlan("right precentral cortex, embolus", (38, -14, 58), (42, -14, 66), (5, 6), 0.85, 0.28, 0.54, 1.22),
    InfarctPlan("right parietal white matter, embolus", (28, -46, 40), (31, -48, 43), (4, 4), 0.5, 0.28, 0.52, 1.15),
    InfarctPlan("right middle frontal cortex, embolus", (36, 38, 30), (40, 42, 34), (4, 4), 0.4, 0.28, 0.56, 1.2),
    InfarctPlan("left cerebellar hemisphere", (-22, -66, -46), (-30, -74, -54), (6, 9), 1.7, 0.28, 0.56, 1.28),
)


@dataclass(frozen=True, eq=False)
class Disease:
    """What the infarcts and the older damage do to one brain, all (x, y, z).

    Args:
        infarct: Infarcted fraction of each voxel.
        owner: Number of the infarct each voxel belongs to, from 1 in the order of `INFARCTS`; 0 elsewhere.
        change: Factors of diffusivity, T2 and T1 signal.
    """

    infarct: Field
    owner: NDArray[np.uint8]
    change: TissueChange


def grow_disease(anatomy: Anatomy, rng: np.random.Generator) -> tuple[Anatomy, Disease]:
    """Infarcts, older damage, and the tissue they leave.

    Args:
        anatomy: The brain before the disease.
        rng: Source of every random number used.

    Returns:
        The anatomy with the old cavity filled by fluid, and the disease.
    """
    white_matter_changes = _white_matter_changes(anatomy, rng)
    anatomy, scar = _carve_cavity(anatomy, rng)
    diffusivity, t2, t1 = (np.ones(anatomy.shape, np.float32) for _ in range(3))
    for weight, d_rise, t2_rise, t1_fall in ((white_matter_changes, 0.55, 0.50, 0.16), (scar, 0.45, 0.45, 0.25)):
        diffusivity *= 1 + d_rise * weight
        t2 *= 1 + t2_rise * weight
        t1 *= 1 - t1_fall * weight
    infarct, owner = np.zeros(anatomy.shape, np.float32), np.zeros(anatomy.shape, np.uint8)
    for number, plan in enumerate(INFARCTS, start=1):
        box, extent = _grow(anatomy, plan, rng)
        patchy = np.clip(0.86 + 0.17 * smooth_field(rng, extent.shape, 7.0), 0.35, 1.15)
        strength = extent * patchy
        diffusivity[box] *= 1 - (1 - plan.diffusivity) * strength
        t2[box] *= 1 + (plan.t2 - 1) * strength
        t1[box] *= 1 - 0.07 * strength
        owner[box][extent > infarct[box]] = number
        infarct[box] = np.maximum(infarct[box], extent)
    infarct *= anatomy.grey + anatomy.white
    return anatomy, Disease(infarct, owner, TissueChange(diffusivity, t2, t1))


def _grow(anatomy: Anatomy, plan: InfarctPlan, rng: np.random.Generator) -> tuple[Box, Field]:
    """A box of the lattice and, inside it, 0-1: how far each voxel's tissue has infarcted.

    The volume of tissue above one half is the planned one.
    """
    apex, base = np.array(plan.apex_mm), np.array(plan.base_mm)
    reach = max(plan.radii_mm)
    box = _box(anatomy, np.minimum(apex, base) - 2.5 * reach, np.maximum(apex, base) + 2.5 * reach)
    grey, white, csf = anatomy.grey[box], anatomy.white[box], anatomy.csf[box]
    offsets = [m.ravel()[s] - a for m, s, a in zip(anatomy.mni_mm, box, apex, strict=True)]
    x, y, z = np.meshgrid(*offsets, indexing="ij", sparse=True)
    axis = base - apex
    along = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) / (axis @ axis), 0.0, 1.15)
    away2 = (x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (z - along * axis[2]) ** 2
    radius = plan.radii_mm[0] + (plan.radii_mm[1] - plan.radii_mm[0]) * along
    shape = (grey.shape[0], grey.shape[1], grey.shape[2])
    ragged = smooth_field(rng, shape, max(1.1 * reach, 7.0)) + 0.6 * smooth_field(rng, shape, 7.0)
    ragged += 0.35 * smooth_field(rng, shape, 3.5)
    # Grey matter dies first: collaterals and lower demand spare the white matter at the rim.
    score = plan.raggedness * ragged + 0.25 * grey - 0.6 * csf - np.sqrt(away2) / radius
    voxel_ml = abs(float(np.linalg.det(anatomy.affine[:3, :3]))) / 1000.0
    values = score[grey + white > 0.5]
    count = min(round(plan.volume_ml / voxel_ml), values.size)
    threshold = np.partition(values, values.size - count)[values.size - count]
    kept = _large_parts(score > threshold, smallest_ml=0.08, voxel_ml=voxel_ml)
    extent = logistic((score - threshold) / 0.09) * (blur(kept.astype(np.float32), 1.0) > 0.02)
    return box, np.asarray(extent, dtype=np.float32)


def _box(anatomy: Anatomy, low_mm: NDArray[np.float64], high_mm: NDArray[np.float64]) -> Box:
    """The voxels of the lattice between two template coordinates."""
    ranges = []
    for coordinate, low, high in zip(anatomy.mni_mm, low_mm, high_mm, strict=True):
        start, stop = np.searchsorted(coordinate.ravel(), (low, high))
        ranges.append(slice(int(start), int(stop)))
    return ranges[0], ranges[1], ranges[2]


def _large_parts(mask: NDArray[np.bool_], smallest_ml: float, voxel_ml: float) -> NDArray[np.bool_]:
    """The mask without its crumbs."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    keep = sizes * voxel_ml >= smallest_ml
    keep[0] = False
    return np.asarray(keep[labels])


def _white_matter_changes(anatomy: Anatomy, rng: np.random.Generator) -> Field:
    """0-1: caps and bands along the ventricles and a few deep spots of small-vessel disease."""
    _, _, z = anatomy.mni_mm
    deep = anatomy.spot((0, -18, 16), (50, 70, 34), 0.06)
    distance = ndimage.distance_transform_edt(~find_ventricles(anatomy.csf, anatomy.mni_mm))
    noise = smooth_field(rng, anatomy.shape, 10.0)
    band = logistic((4.2 + 3.0 * noise - distance) / 1.0) * logistic((z - 8) / 2.0)
    spots = logistic((smooth_field(rng, anatomy.shape, 8.0) - 2.35) * 6) * deep * (distance > 7)
    return np.asarray(np.maximum(band, spots) * anatomy.white * (anatomy.white > 0.4), dtype=np.float32)


def _carve_cavity(anatomy: Anatomy, rng: np.random.Generator) -> tuple[Anatomy, Field]:
    """The anatomy with an old slit-like hole beside the left putamen, and the scar (0-1) around it."""
    hole = anatomy.spot((-29, 2, 8), (5.0, 14, 9), 0.10, ragged=0.25 * smooth_field(rng, anatomy.shape, 9.0))
    scar = np.clip(blur(hole, 2.2) * 2.2, 0, 1) * (1 - hole)
    keep = 1 - 0.95 * hole
    lost = (anatomy.grey + anatomy.white) * (1 - keep)
    return (
        Anatomy(
            anatomy.grey * keep, anatomy.white * keep, anatomy.csf + lost, anatomy.brain, anatomy.mni_mm, anatomy.affine
        ),
        np.asarray(scar, dtype=np.float32),
    )
